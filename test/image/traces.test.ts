import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { artefact, whyNotArtefacts } from "../support/artefacts.ts";
import { Node } from "../support/node.ts";

const problem = whyNotArtefacts("system calls of an install", { programs: ["strace"] });

/** What the README names in "Where it writes". */
const documented = ["/etc/containerd", "/var/lib/shimctl", "/run/shimctl", "/run/lock"];

/** The calls that make, change or remove something by its name. */
const changing =
  /^(?:mkdir|rmdir|unlink|rename|link|symlink|chmod|fchmodat|chown|lchown|fchownat|truncate|mknod|setxattr|lsetxattr|removexattr|utimensat)/;

/** Each call that opens a file for writing, or changes the tree, with the paths that it names. */
function writesIn(trace: string): { call: string; paths: string[] }[] {
  return trace.split("\n").flatMap((line) => {
    const call = /^\d+ +(\w+\(.*)$/.exec(line)?.[1];
    if (call === undefined || / = -1 E[A-Z]+/.test(call)) return [];
    const opens = /^open(?:at2?)?\(/.test(call) && /O_WRONLY|O_RDWR|O_CREAT|O_TRUNC/.test(call);
    if (!opens && !changing.test(call)) return [];
    return [
      {
        call,
        paths: [...call.matchAll(/"((?:[^"\\]|\\.)*)"/g)].flatMap(([, path = ""]) =>
          // A file without a name is given one by its descriptor.
          path.startsWith("/proc/self/fd/") ? [] : [path],
        ),
      },
    ];
  });
}

function traced(node: Node, args: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-trace-"));
  try {
    const log = join(folder, "log");
    const watched = "trace=%network,%file,%desc";
    const options = ["--root", node.root, "--engine-version", node.version];
    const { status, stderr } = spawnSync(
      "strace",
      // The program itself gets nothing, not even a PATH.
      [
        "-f",
        "-s",
        "4096",
        "-o",
        log,
        "-e",
        watched,
        "/usr/bin/env",
        "-i",
        artefact.executable,
        ...args,
        ...options,
      ],
      { encoding: "utf8", env: { PATH: process.env["PATH"] ?? "" } },
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
    return readFileSync(log, "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(problem !== undefined)(
  "an install, a status and an uninstall, with an empty environment",
  () => {
    for (const version of ["1.7.24", "2.1.9"])
      test(`on ${version} make no socket, and write only where the README says`, () => {
        using node = new Node(version, version.startsWith("1.") ? "version = 2\n" : "version = 3\n");
        for (const folder of ["/run", "/var/lib"]) mkdirSync(node.root + folder, { recursive: true });
        for (const args of [["install", "kata-qemu", "runsc"], ["status"], ["uninstall", "--all"]]) {
          const trace = traced(node, args);
          expect(trace.match(/\b(?:socket|socketpair|connect|bind|sendto|sendmsg)\(.*/g) ?? []).toEqual([]);
          const outside = writesIn(trace).filter(({ paths }) =>
            paths.some((path) => !documented.some((each) => path.startsWith(node.root + each))),
          );
          expect(outside.map(({ call }) => call)).toEqual([]);
          if (args[0] !== "status") expect(writesIn(trace).length).toBeGreaterThan(5);
        }
      });
  },
);
