import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { zstd } from "../../build/compress.ts";
import { machineOf } from "../../build/elf.ts";
import { emptyExecutable } from "../../build/floor.ts";
import { loaderFor } from "../../build/loader.ts";
import { portable } from "../../build/portable.ts";
import { dist, repo } from "../../build/source.ts";
import { tar } from "../../build/tar.ts";
import { nativeTarget, targets } from "../../build/target.ts";
import { whyNotArtefacts } from "../support/artefacts.ts";
import { Node } from "../support/node.ts";

const problem = whyNotArtefacts("the artefacts", { programs: ["sha256sum", "git"] });
const executable = (arch: string) => readFileSync(join(dist, `shimctl-linux-${arch}`));

describe.skipIf(problem !== undefined)("the artefacts", () => {
  test("are what SHA256SUMS says, and all of them are in it", () => {
    const { status, stdout } = spawnSync("sha256sum", ["--strict", "-c", "SHA256SUMS"], {
      cwd: dist,
      encoding: "utf8",
    });
    expect(status).toBe(0);
    expect(stdout.split("\n").filter((line) => line !== "")).toEqual(
      [
        "THIRD-PARTY-LICENSES.txt",
        "_shimctl",
        "shimctl-image-gzip.oci.tar",
        "shimctl-image.oci.tar",
        "shimctl-linux-arm64",
        "shimctl-linux-arm64.tar.zst",
        "shimctl-linux-x64",
        "shimctl-linux-x64.tar.zst",
        "shimctl.1",
        "shimctl.bash",
        "shimctl.cdx.json",
        "shimctl.fish",
      ].map((name) => `${name}: OK`),
    );
  });

  for (const target of targets) {
    test(`for ${target.arch} are for that machine`, () => {
      expect(machineOf(executable(target.arch))).toBe(target.machine);
    });

    test(`for ${target.arch} are smaller than an empty Bun executable, raw and compressed`, async () => {
      const [floor, ours] = [emptyExecutable(target), executable(target.arch)];
      expect(ours.length / floor.length).toBeLessThan(1);
      // As it stands in the archive, which the build has compressed already.
      const { program } = portable(join(dist, `shimctl-linux-${target.arch}`), await loaderFor(target));
      const [packedFloor, packed] = await Promise.all([zstd(floor), zstd(tar(program))]);
      expect(packed.length / packedFloor.length).toBeLessThan(1);
    });
  }

  test("have a bill of materials that names what is in them, with digests", () => {
    const { dependencies } = JSON.parse(readFileSync(join(repo, "package.json"), "utf8"));
    const { components } = JSON.parse(readFileSync(join(dist, "shimctl.cdx.json"), "utf8"));
    const names = components.map((each: { name: string }) => each.name);
    for (const name of [...Object.keys(dependencies), ...targets.map((each) => each.runtimePackage), "libc6"])
      expect(names).toContain(name);
    for (const each of components) expect(each.hashes[0].content).toMatch(/^[0-9a-f]{64,128}$/);
  });

  test("come out the same from another clone, folder, home, umask and time zone", () => {
    const git = (...args: string[]) => spawnSync("git", args, { cwd: repo, encoding: "utf8" });
    if (git("status", "--porcelain", "--untracked-files=no").stdout !== "") {
      if (process.env["CI"] === "true") throw new Error("the checkout has changes");
      console.log("(skip) another clone: this checkout has changes that it would not have");
      return;
    }
    const folder = mkdtempSync(join(tmpdir(), "shimctl-clone-"));
    try {
      const clone = join(folder, "elsewhere", "shimctl");
      expect(git("clone", "-q", repo, clone).status).toBe(0);
      symlinkSync(join(repo, ".cache"), join(clone, ".cache"));
      // Packages of its own, as a link would lead the compiler out of the clone: by hard links where that is possible.
      const copy = 'cp -al "$0" "$1" 2>/dev/null || { rm -rf "$1" && cp -a "$0" "$1"; }';
      const modules = "node_modules";
      expect(spawnSync("sh", ["-c", copy, join(repo, modules), join(clone, modules)]).status).toBe(0);
      for (const script of ["build", "image"]) {
        const argv = ["-c", `umask 077; exec "$0" build/${script}.ts`, process.execPath];
        const { status, stderr } = spawnSync("sh", argv, {
          cwd: clone,
          encoding: "utf8",
          env: { PATH: process.env["PATH"] ?? "", HOME: folder, TZ: "Asia/Kathmandu", LANG: "tr_TR.UTF-8" },
        });
        expect(stderr).toBe("");
        expect(status).toBe(0);
      }
      const sums = (at: string) => readFileSync(join(at, "dist", "SHA256SUMS"), "utf8");
      expect(sums(clone)).toBe(sums(repo));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

const noEmulator = whyNotArtefacts("arm64", { programs: ["qemu-aarch64-static"] });

describe.skipIf(noEmulator !== undefined || nativeTarget().arch === "arm64")(
  "the executable for arm64",
  () => {
    test("installs and uninstalls under emulation, whatever variables of the runtime are set", () => {
      using node = new Node("2.1.9", "version = 3\n");
      const root = join(dist, "root", "arm64");
      const run = (...args: string[]) => {
        const ran = spawnSync(
          "qemu-aarch64-static",
          ["-L", root, join(root, "opt/shimctl/shimctl"), ...args],
          {
            encoding: "utf8",
            env: {
              BUN_BE_BUN: "1",
              BUN_JSC_useJIT: "0",
              SHIMCTL_ROOT: node.root,
              JSC_SIGNAL_FOR_GC: "9",
              A: "b",
            },
          },
        );
        expect(ran.stderr).toBe("");
        expect(ran.status).toBe(0);
        return ran.stdout;
      };
      expect(run("version")).toContain("linux-arm64");
      const before = node.text();
      run("install", "kata-qemu", "--engine-version", "2.1.9");
      expect(node.text()).not.toBe(before);
      run("uninstall", "--all", "--engine-version", "2.1.9");
      expect(node.text()).toBe(before);
    });
  },
);
