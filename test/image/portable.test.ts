import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { artefact, whyNotArtefacts } from "../support/artefacts.ts";
import { runInRoot, unpackPackages } from "../support/foreign-root.ts";
import { Node } from "../support/node.ts";

const problem = whyNotArtefacts("other roots", {
  programs: ["unshare", "dpkg-deb", "apt-get", "tar", "zstd"],
  root: true,
});

const config = 'version = 3\n\n# the administrator\'s\n[plugins."io.containerd.cri.v1.runtime"]\n';

/** A whole install and uninstall in a root, with nothing in the environment, not even a PATH. */
function installsIn(node: Node, program: string): void {
  const before = node.text();
  const run = (...args: string[]) => {
    const ran = runInRoot(node.root, [program, ...args]);
    expect(ran.stderr).toBe("");
    expect(ran.status).toBe(0);
    return ran.stdout;
  };
  expect(run("version")).toStartWith("shimctl ");
  run("install", "kata-qemu", "--engine-version", "2.1.9");
  expect(node.tree()["/etc/containerd/conf.d/50-shimctl-default.toml"]).toBeDefined();
  expect(run("status", "--json", "--engine-version", "2.1.9")).toContain('"kata-qemu"');
  run("uninstall", "--all", "--engine-version", "2.1.9");
  expect(node.text()).toBe(before);
  expect(node.tree()["/etc/containerd/conf.d/50-shimctl-default.toml"]).toBeUndefined();
}

function place(node: Node, from: string, at: string): void {
  mkdirSync(dirname(join(node.root, at)), { recursive: true });
  cpSync(from, join(node.root, at));
}

describe.skipIf(problem !== undefined)("it installs and uninstalls", () => {
  test("as a file copied onto Debian 12 with nothing but its C library", async () => {
    using node = new Node("2.1.9", config);
    await unpackPackages(["libc6"], node.root);
    place(node, artefact.executable, "/usr/local/bin/shimctl");
    installsIn(node, "/usr/local/bin/shimctl");
  });

  test("from the portable archive on a root that has musl, busybox and no glibc", async () => {
    using node = new Node("2.1.9", config);
    await unpackPackages(["musl", "busybox-static"], node.root);
    const shell = runInRoot(node.root, ["/bin/busybox", "sh", "-c", "echo here"]);
    expect(shell.stdout).toBe("here\n");
    for (const name of ["/lib64", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"])
      expect(existsSync(join(node.root, name))).toBe(false);

    place(node, artefact.executable, "/usr/bin/plain");
    expect(runInRoot(node.root, ["/usr/bin/plain", "version"]).status).not.toBe(0);

    expect(spawnSync("tar", ["--zstd", "-xf", artefact.archive, "-C", node.root]).status).toBe(0);
    installsIn(node, "/opt/shimctl/shimctl");
  });

  test("from the portable archive, whatever libraries the host, its variables and the folder offer", async () => {
    using node = new Node("2.1.9", config);
    expect(spawnSync("tar", ["--zstd", "-xf", artefact.archive, "-C", node.root]).status).toBe(0);
    for (const folder of ["/lib64", "/lib/x86_64-linux-gnu", "/usr/lib", "/elsewhere"])
      for (const name of ["ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "ld.so"])
        node.place(join(folder, name), "no library", 0o755);
    const ran = runInRoot(node.root, ["/opt/shimctl/shimctl", "version"], { LD_LIBRARY_PATH: "/elsewhere" });
    expect(ran.stdout).toStartWith("shimctl ");
  });
});
