import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const canMount = spawnSync("unshare", ["-m", "true"]).status === 0;
if (!canMount) console.log("skipped: room: mounting needs root");

let node: Node;
beforeEach(() => {
  node = Node.of(markedCase);
});
afterEach(() => node[Symbol.dispose]());

const entry = `${import.meta.dirname}/../../src/main.ts`;

/** `install kata-qemu` on a node with other mounts than the rest of the machine, and what is below `/etc` and `/var` then. */
function installWith(mounts: string): { status: number | null; err: string; isAsBefore: boolean } {
  const script = `
    mount --bind "$ROOT" "$ROOT" && cd "$ROOT" && mkdir -p var/lib run && mount -t tmpfs -o mode=0755 none run && ${mounts} && cd "$ROOT" || exit 99
    before=$(find etc var -type f -exec sha256sum {} + ; find etc var)
    "$BUN" "$ENTRY" install kata-qemu --root "$ROOT" --engine-version 1.7.24; status=$?
    after=$(find etc var -type f -exec sha256sum {} + ; find etc var)
    [ "$before" = "$after" ] && echo "as before" || echo changed
    exit $status`;
  const { status, stdout, stderr } = spawnSync("unshare", ["-m", "sh", "-c", script], {
    env: { ...process.env, ROOT: node.root, BUN: process.execPath, ENTRY: entry },
    encoding: "utf8",
  });
  return { status, err: stderr, isAsBefore: stdout.includes("as before\n") };
}

/** A small file system in place of a folder, with its files in it, and filled but for what is said. */
const small = (folder: string, options: string, fill: string) =>
  `cp -a ${folder} copy && mount -t tmpfs -o mode=0755,${options} none ${folder} && cp -a copy/. ${folder} && rm -r copy && ${fill}`;

describe.skipIf(!canMount)("what cannot be written is refused before anything is", () => {
  const cases: Readonly<Record<string, readonly [mounts: string, message: string]>> = {
    "where the configuration's file system is full": [
      small("etc", "size=128k", "head -c 90000 /dev/zero > etc/fill"),
      "no room for",
    ],
    "where the file system of our state is full": [
      small("var", "size=64k", "head -c 40000 /dev/zero > var/fill"),
      "no room for",
    ],
    "where no more files can be made": [
      small("var", "size=4m,nr_inodes=6", ": > var/a && : > var/b"),
      "no room for 6 new files",
    ],
    "where our state is read-only": [
      "mount -t tmpfs -o ro,mode=0755 none var/lib",
      "on a read-only file system",
    ],
    "where the configuration is read-only": [
      "mount --bind etc etc && mount -o remount,ro,bind etc",
      "on a read-only file system",
    ],
  };
  for (const [what, [mounts, message]] of Object.entries(cases)) {
    test(what, () => {
      const { status, err, isAsBefore } = installWith(mounts);
      expect([status, err]).toEqual([6, expect.stringContaining(message)]);
      expect(err).toContain("state: nothing was written");
      expect(isAsBefore).toBe(true);
    });
  }

  test("and where there is room enough nothing is in the way", () => {
    const { status, isAsBefore } = installWith(small("etc", "size=256k", "true"));
    expect([status, isAsBefore]).toEqual([0, false]);
  });
});
