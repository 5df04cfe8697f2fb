import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import process from "node:process";
import { ExitCode } from "../../src/error.ts";
import { type Verdicts, verdictsOf } from "../engine/verdict.ts";
import {
  assertWhole,
  configurationOf,
  crashCases,
  isFull,
  isSame,
  isSampled,
  nameOf,
  type Point,
  report,
  runUntil,
  Stage,
} from "../support/crash.ts";
import { whyNot } from "../support/needs.ts";
import type { Verdict } from "../support/tracer.ts";

const cannot = whyNot("errors of every system call", {
  root: true,
  ...(process.arch === "x64" ? {} : { also: "not an x86-64 processor" }),
});

const errors = ["EIO", "ENOSPC", "EROFS", "EACCES", "EINTR"] as const;
type ErrorName = (typeof errors)[number];

/** What fails: opening, writing, flushing, renaming and locking, and what else makes or removes a name. */
const failing = new Set([
  ...["openat", "write", "pwrite64", "fsync", "rename", "renameat2", "linkat", "fcntl", "flock"],
  ...["mkdir", "rmdir", "unlink", "fchmod"],
]);

/** The cause in words, whatever it was that failed. */
const causes: Readonly<Record<ErrorName, RegExp>> = {
  EIO: /the device reports an error/,
  ENOSPC: /file system is full|no space left/,
  EROFS: /read-only/,
  EACCES: /permission is denied|permission denied/,
  EINTR: /interrupted/,
};

/** What a failed system call may end with; 0 only where the change is in place all the same. */
const documented: readonly number[] = [
  ExitCode.invalid,
  ExitCode.lockTimeout,
  ExitCode.conflict,
  ExitCode.unsupported,
];

interface Fault {
  readonly point: Point;
  readonly error: ErrorName;
}

function faultsOf(stage: Stage): Fault[] {
  using copy = stage.copy();
  const faults: Fault[] = [];
  runUntil(stage, copy.root, (point, call, phase) => {
    // The handler file is the user's: what is wrong with it is a matter of usage.
    const isTheirs = call.subject === "stdout" || call.subject.endsWith("/wanted.toml");
    if (phase === "enter" && failing.has(call.name) && !isTheirs)
      faults.push(...errors.map((error) => ({ point, error })));
    return undefined;
  });
  return faults;
}

async function fail(stage: Stage, verdicts: Verdicts, { point, error }: Fault): Promise<boolean> {
  using copy = stage.copy();
  const { root } = copy;
  let reached = false;
  const { code, output } = runUntil(stage, root, (at, _, phase): Verdict => {
    if (phase !== "enter" || !isSame(at, point)) return undefined;
    reached = true;
    return { errno: constants.errno[error] };
  });
  if (!reached) return false;
  assertWhole(root, stage);
  expect(stage.served).toContain(verdicts.of(root).join(" "));
  expect((await stage.also(root, ["check"])).code).toBe(0);
  if (code === 0) expect(configurationOf(root)).toEqual(stage.new);
  else {
    const problems = [
      ...(documented.includes(code ?? -1) ? [] : [`it ends with ${code}`]),
      ...(causes[error].test(output) ? [] : ["no cause"]),
      ...(/(^|[ (])\/(etc|run|var)\b/m.test(output) ? [] : ["no path"]),
      ...(output.includes(root) ? ["a path that the node does not know"] : []),
    ];
    expect([problems, output]).toEqual([[], output]);
  }
  await stage.assertConverges(root);
  return true;
}

describe.skipIf(cannot !== undefined)("a system call that fails, at any place of a run", () => {
  for (const crashCase of crashCases) {
    test(crashCase.name, async () => {
      const verdicts = await verdictsOf(crashCase.engineCase);
      using stage = new Stage(crashCase);
      stage.learn(verdicts);
      const all = faultsOf(stage);
      expect(all.length).toBeGreaterThan(200);
      const chosen = all.filter(
        ({ point, error }) => isFull || isSampled(`${crashCase.name} ${nameOf(point)} ${error}`, 6),
      );
      const wrong: string[] = [];
      for (const each of chosen) {
        const name = `${each.error} at ${nameOf(each.point)}`;
        try {
          if (!(await fail(stage, verdicts, each))) wrong.push(`${name}: not reached`);
        } catch (cause) {
          wrong.push(`${name}: ${Bun.stripANSI(String(cause))}`);
        }
      }
      report("error", crashCase.name, {
        faults: all.length,
        injected: chosen.length,
        wrong: wrong.length,
        "distinct trees": verdicts.distinct,
      });
      expect(wrong).toEqual([]);
    });
  }
});
