import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { type Verdicts, verdictsOf } from "../engine/verdict.ts";
import {
  assertWhole,
  type Copy,
  type CrashCase,
  crashCases,
  filesBelow,
  isFull,
  isOpen,
  isSame,
  isSampled,
  type Lack,
  liveCases,
  nameOf,
  opensToChange,
  type Point,
  report,
  runUntil,
  Stage,
} from "../support/crash.ts";
import { whyNot } from "../support/needs.ts";
import type { Call, Verdict } from "../support/tracer.ts";

const cannot = whyNot("kills at every system call", {
  root: true,
  ...(process.arch === "x64" ? {} : { also: "not an x86-64 processor" }),
});

type Phase = "enter" | "exit";
interface Kill {
  readonly point: Point;
  readonly phase: Phase;
}

/** What another program writes at the instant before the exchange. */
const foreignLine = "# written by another program in between\n";

/** Renames another version over a file, as editors and other installers do. */
function renameOver(path: string): void {
  const temp = `${dirname(dirname(path))}/.other-program`;
  writeFileSync(temp, readFileSync(path, "utf8") + foreignLine);
  renameSync(temp, path);
}

/** The file that this call is about to replace or move away, if it is one that is there. */
function replaced(root: string, { name, subject, second }: Call): string | undefined {
  if (name !== "renameat2") return undefined;
  return [second, subject].find(
    (path) => path?.startsWith(`${root}/etc/`) && !path.endsWith(".tmp") && existsSync(path),
  );
}

/** Acts as another program once, just before the first exchange; says whether that has been. */
function interfering(root: string): (call: Call, phase: Phase) => boolean {
  let done = false;
  return (call, phase) => {
    const path = done || phase === "exit" ? undefined : replaced(root, call);
    if (path === undefined) return done;
    done = true;
    renameOver(path);
    return true;
  };
}

/** Every call that changes or locks a file, talks or starts a program, before and after it is carried out. */
function killsOf(stage: Stage, foreign: boolean): Kill[] {
  using copy = stage.copy();
  const interfere = interfering(copy.root);
  const kills: Kill[] = [];
  const traced = runUntil(stage, copy.root, (point, call, phase) => {
    // Before the other program comes, a run is like any other.
    const relevant = !foreign || interfere(call, phase);
    if (relevant && (!isOpen(call) || opensToChange(call))) kills.push({ point, phase });
    return undefined;
  });
  expect([traced.code, traced.output]).toEqual([0, traced.output]);
  return kills;
}

function assertKept(copy: Copy): void {
  const conflict = `${copy.root}/var/lib/shimctl/conflict`;
  const kept = existsSync(conflict) ? readdirSync(conflict).map((name) => `${conflict}/${name}`) : [];
  const places = [...filesBelow(`${copy.root}/etc`), ...kept];
  expect(places.some((path) => readFileSync(path, "utf8").includes(foreignLine))).toBe(true);
}

async function kill(stage: Stage, verdicts: Verdicts, { point, phase }: Kill, foreign: boolean) {
  using copy = stage.copy();
  const { root } = copy;
  const interfere = interfering(root);
  let reached = false;
  const traced = runUntil(stage, root, (at, call, when): Verdict => {
    if (foreign) interfere(call, when);
    if (when !== phase || !isSame(at, point)) return undefined;
    reached = true;
    return "kill";
  });
  if (!reached) return false;
  expect(traced.code).toBeNull();
  // A file that another program has taken over is no more one of two: the engine judges it.
  const takenOver = (path: string, text: string) =>
    foreign && text.includes(foreignLine) && stage.original[path] === undefined;
  assertWhole(root, stage, (path, text) =>
    takenOver(path, text) ? undefined : text.replace(foreignLine, ""),
  );
  if (foreign) assertKept(copy);
  const served = verdicts.of(root).join(" ");
  expect(stage.served).toContain(served);
  expect((await stage.also(root, ["check"])).code).toBe(0);
  await stage.assertConverges(root, foreign);
  if (foreign) assertKept(copy);
  return true;
}

interface Chosen {
  readonly crashCase: CrashCase;
  readonly foreign: boolean;
  readonly lacks?: Lack;
  readonly isChosen: (kill: Kill) => boolean;
}

/** Each case, with the share of its points that is looked at where not all of them are. */
const chosen: readonly Chosen[] = [
  ...crashCases.flatMap((crashCase): Chosen[] => [
    {
      crashCase,
      foreign: false,
      isChosen: ({ point, phase }) => point.changes || inSample(crashCase, point, phase, 10),
    },
    // Each takes some seconds: a program that has read a short-lived version is waited for.
    { crashCase, foreign: true, isChosen: ({ point, phase }) => inSample(crashCase, point, phase, 14) },
  ]),
  ...crashCases.flatMap((crashCase) =>
    (["unnamed files", "an exchange of names"] as const).map(
      (lacks): Chosen => ({
        crashCase,
        foreign: false,
        lacks,
        isChosen: ({ point }) => point.changes && /\/etc\//.test(point.what),
      }),
    ),
  ),
  ...liveCases.map(
    (crashCase): Chosen => ({
      crashCase,
      foreign: false,
      isChosen: ({ point, phase }) => inSample(crashCase, point, phase, point.talks ? 6 : 16),
    }),
  ),
];

function inSample({ name }: CrashCase, point: Point, phase: Phase, oneIn: number): boolean {
  return isSampled(`${name} ${nameOf(point)} ${phase}`, oneIn);
}

function isSameKill(a: Kill, b: Kill): boolean {
  return a.phase === b.phase && isSame(a.point, b.point);
}

/** How often a point is tried that depends on how a peer's answer comes in: in one piece or in several. */
const attempts = 5;

describe.skipIf(cannot !== undefined)("a run that is killed at any system call", () => {
  for (const { crashCase, foreign, lacks, isChosen } of chosen) {
    const where = lacks === undefined ? "" : `, on a file system without ${lacks}`;
    const meanwhile = foreign ? ", with another program's rename just before the exchange" : "";
    test(`leaves the old or the new configuration, and the next run ends it: ${crashCase.name}${where}${meanwhile}`, async () => {
      const verdicts = await verdictsOf(crashCase.engineCase);
      using stage = new Stage(crashCase, lacks);
      stage.learn(verdicts);
      const first = killsOf(stage, foreign);
      // A peer's answer comes in one piece or in several: those calls are no points that differ from run to run.
      const others = crashCase.isLive ? [1, 2, 3].map(() => killsOf(stage, foreign)) : [];
      const all = first.filter((each) => others.every((other) => other.some((its) => isSameKill(its, each))));
      if (!foreign) expect(all.length).toBeGreaterThan(80);
      const kills = isFull ? all : all.filter(isChosen);
      const missed: string[] = [];
      let varying = first.length - all.length;
      let killed = 0;
      for (const each of kills) {
        const name = `${each.phase} ${nameOf(each.point)}`;
        try {
          let reached = false;
          for (let attempt = 0; !reached && attempt < (each.point.talks ? attempts : 1); attempt++)
            reached = await kill(stage, verdicts, each, foreign);
          // One that a run without a killer does not have either, this time, is no point of every run.
          const isGone = () => !killsOf(stage, foreign).some((other) => isSameKill(other, each));
          if (reached) killed += 1;
          else if (each.point.talks && isGone()) varying += 1;
          else missed.push(name);
        } catch (cause) {
          throw new Error(`killed at ${name}: ${cause}`, { cause });
        }
      }
      const kind = foreign
        ? "killed, with a foreign rename"
        : crashCase.isLive
          ? "killed, live engine"
          : "killed";
      report(kind, crashCase.name + where, {
        points: all.length,
        killed,
        "not reached": missed.length,
        ...(crashCase.isLive ? { "that not every run has": varying } : {}),
        "distinct configurations": verdicts.distinct,
      });
      expect(missed).toEqual([]);
    });
  }
});
