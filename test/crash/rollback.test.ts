import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) rollbacks that are killed: strace is not installed");

/** The system calls by which a file takes its place, or goes, and those that make it durable. */
const calls = ["renameat2", "rename", "unlink", "fsync"] as const;

function run(node: Node, args: readonly string[], inject: readonly string[] = []): number | null {
  const argv = [...inject, compiled(), ...args, ...node.options];
  return spawnSync(argv[0] ?? "", argv.slice(1), { stdio: "ignore", timeout: 60_000 }).status;
}

function killedAt(call: string, nth: number): string[] {
  const inject = `inject=${call}:signal=KILL:when=${nth}`;
  return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", `trace=${call}`, "-e", inject];
}

function configuration(node: Node): Record<string, string> {
  return Object.fromEntries(
    Object.entries(node.tree()).filter(([path]) => path.startsWith("/etc/") && !path.endsWith(".tmp")),
  );
}

describe.skipIf(!strace).each(engineCases)("a rollback on $name that is killed", (engineCase) => {
  const [kata, second] = engineCase.handlers;
  for (const undoing of ["install", "uninstall"] as const) {
    test(`while it takes an ${undoing} back leaves whole files, and the next run finishes or undoes it`, () => {
      using node = Node.of(engineCase);
      const change = undoing === "install" ? ["install", second] : ["uninstall", "--all"];
      expect(run(node, ["install", kata])).toBe(0);
      const after = configuration(node);
      expect(run(node, change)).toBe(0);
      const before = configuration(node);
      let kills = 0;
      for (const call of calls) {
        for (let nth = 1; ; nth++) {
          const status = run(node, ["rollback"], killedAt(call, nth));
          const now = configuration(node);
          const paths = new Set([now, before, after].flatMap((tree) => Object.keys(tree)));
          expect([...paths].filter((path) => ![before[path], after[path]].includes(now[path]))).toEqual([]);
          for (const path of node.loaded(engineCase)) expect(() => parse(node.text(path))).not.toThrow();
          if (status !== null) {
            // It has no such call any more.
            expect([call, status, now]).toEqual([call, 0, after]);
            expect(run(node, ["rollback"])).toBe(0);
            break;
          }
          kills++;
          // The next run finds it whole again, as it was before or as it shall be.
          expect(run(node, ["uninstall", "--all", "--owner", "other"])).toBe(0);
          const settled = configuration(node);
          expect([before, after]).toContainEqual(settled);
          expect(Object.keys(node.tree()).filter((path) => path.endsWith(".tmp"))).toEqual([]);
          if (JSON.stringify(settled) === JSON.stringify(after)) expect(run(node, ["rollback"])).toBe(0);
          expect(configuration(node)).toEqual(before);
        }
      }
      expect(kills).toBeGreaterThan(8);
    });
  }
});
