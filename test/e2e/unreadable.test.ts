import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import process from "node:process";
import { compiled } from "../support/binary.ts";
import { engineCases, importedCase } from "../support/engine_case.ts";
import { fifo, run, shell } from "../support/executable.ts";
import { Node } from "../support/node.ts";

const asRoot = process.geteuid?.() === 0;
const nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups $SHIMCTL";

describe.each(engineCases)("a configuration of $name that cannot be read", (engineCase) => {
  const { rootFile, files } = engineCase;
  const folder = dirname(rootFile);
  const paths = [...new Set([rootFile, ...Object.keys(files)])];
  const odd: readonly (readonly [what: string, reason: string, put: (path: string) => void])[] = [
    ["a folder", "it is a folder", (path) => mkdirSync(path)],
    ["a named pipe", "it is not a regular file", fifo],
    ["a link to itself", "its symbolic links do not end", (path) => symlinkSync(basename(path), path)],
  ];

  for (const path of paths)
    for (const [what, reason, put] of odd) {
      // A folder in CRI-O's own folder is entered.
      if (what === "a folder" && path !== rootFile) continue;
      test(`${what} at ${path} is told by its reason`, () => {
        using node = Node.of(engineCase);
        rmSync(node.root + path);
        put(node.root + path);
        const before = node.tree();
        for (const command of [
          ["status"],
          ["check"],
          ["install", "kata-qemu"],
          ["diff", "install", "kata-qemu"],
        ]) {
          const ran = run(node, command);
          expect(ran.stdout + ran.stderr).toContain(engineCase.unreadable(reason));
          expect(ran.stdout + ran.stderr).toContain(path);
          expect(ran.stdout + ran.stderr).toContain("put a regular file in its place");
          expect(ran.status).toBe(command[0] === "install" || command[0] === "diff" ? 3 : 11);
        }
        expect(node.tree()).toEqual(before);
      });
    }

  test.skipIf(!asRoot)("for want of permission is not broken: run as root", () => {
    using node = Node.of(engineCase);
    expect(run(node, ["install", "kata-qemu"]).status).toBe(0);
    const executable = dirname(compiled());
    expect(spawnSync("chmod", ["755", node.root, executable]).status).toBe(0);
    const refused = (command: string) => {
      const ran = shell(node, command);
      expect([ran.status, ran.stderr]).toEqual([6, expect.stringContaining("as permission is denied\n")]);
      expect(ran.stderr).toContain("next: run as root\n");
    };
    // The record first, which nobody but root may read.
    refused(`${nobody} status`);
    rmSync(`${node.root}/var/lib/shimctl`, { recursive: true });
    for (const path of node.loaded(engineCase)) {
      chmodSync(node.root + path, 0o600);
      for (const command of ["status", "check"]) refused(`${nobody} ${command}`);
      chmodSync(node.root + path, 0o644);
    }
    for (const closed of new Set([...node.loaded(engineCase).map((path) => dirname(path)), folder])) {
      chmodSync(node.root + closed, 0o700);
      for (const version of ["", "unset SHIMCTL_ENGINE_VERSION; "])
        for (const command of ["status", "check"]) refused(`${version}${nobody} ${command}`);
      chmodSync(node.root + closed, 0o755);
    }
  });

  test("a mistyped --config is not made, nor is its folder", () => {
    using node = Node.of(engineCase);
    const mistyped = rootFile.replace("/etc/c", "/etc/cc");
    const ran = run(node, ["install", "kata-qemu", "--config", mistyped]);
    expect([ran.status, ran.stderr]).toEqual([
      2,
      `shimctl: Cannot use --config, as neither this file nor its folder is there\n  at: ${mistyped}\n  state: nothing was written\n  next: check the path, or make the folder first\n`,
    ]);
    expect(existsSync(node.root + dirname(mistyped))).toBe(false);
    expect(run(node, ["install", "kata-qemu", "--config", `${folder}/other.toml`]).status).toBe(0);
  });
});

describe("containerd alone", () => {
  test.skipIf(!asRoot)("an import that this user may not read is not broken: run as root", () => {
    using node = Node.of(importedCase, {
      [importedCase.rootFile]: 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
    });
    node.place("/etc/containerd/conf.d/a.toml", "version = 3\n", 0o600);
    expect(spawnSync("chmod", ["755", node.root, dirname(compiled())]).status).toBe(0);
    for (const mend of ["true", `chmod 700 ${node.root}/etc/containerd`])
      for (const command of ["status", "check"]) {
        const ran = shell(node, `${mend}; unset SHIMCTL_ENGINE_VERSION; ${nobody} ${command}`);
        expect([ran.status, ran.stderr]).toEqual([6, expect.stringContaining("as permission is denied\n")]);
        expect(ran.stderr).toContain("next: run as root\n");
      }
  });
});
