import { expect } from "bun:test";
import { appendFileSync, cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import process from "node:process";
import { main } from "../../src/cli/main.ts";
import { sha256 } from "../../src/sha256.ts";
import { compiled } from "./binary.ts";
import { type EngineCase, engineCases } from "./engine_case.ts";
import { LiveEngine } from "./live_engine.ts";
import { Node } from "./node.ts";
import { type Call, type Traced, trace, type Verdict } from "./tracer.ts";
import { treeOf } from "./tree.ts";

/** One command on one engine, whose end at any instant is looked at. */
export interface CrashCase {
  readonly name: string;
  readonly engineCase: EngineCase;
  /** What was done on the node before. */
  readonly before: readonly (readonly string[])[];
  /** @param first the node's first operation, by its ID; empty where there was none */
  readonly args: (root: string, first: string) => readonly string[];
  /** Whether the engine runs, and is restarted and asked. */
  readonly isLive: boolean;
}

/** The commands that change a node. A new one is one more line. */
const commands: readonly {
  readonly name: string;
  readonly before: (handlers: EngineCase["handlers"]) => readonly (readonly string[])[];
  readonly args: (handlers: EngineCase["handlers"], root: string, first: string) => readonly string[];
}[] = [
  { name: "install", before: () => [], args: ([kata]) => ["install", kata] },
  { name: "uninstall", before: ([kata]) => [["install", kata]], args: () => ["uninstall", "--all"] },
  {
    name: "apply",
    before: ([kata]) => [["install", kata]],
    args: (_, root) => ["apply", "-f", `${root}${handlerFile}`],
  },
  {
    name: "rollback",
    before: ([kata, other]) => [
      ["install", kata],
      ["install", other],
    ],
    // Without an operation to go back to, one rollback more would lead forward again.
    args: (_, __, first) => ["rollback", "--to", first],
  },
];
const handlerFile = "/wanted.toml";

function firstOperation(root: string): string {
  const journal = `${root}/var/lib/shimctl/journal`;
  if (!existsSync(journal)) return "";
  return /"operation":"([^"]+)"/.exec(readFileSync(journal, "utf8"))?.[1] ?? "";
}

function casesOf(isLive: boolean): readonly CrashCase[] {
  return engineCases.flatMap((engineCase) =>
    commands.map(({ name, before, args }) => ({
      name: `${name} on ${engineCase.name}${isLive ? ", which is restarted and asked" : ""}`,
      engineCase,
      before: before(engineCase.handlers),
      args: (root: string, first: string) => args(engineCase.handlers, root, first),
      isLive,
    })),
  );
}

export const crashCases = casesOf(false);
/** The same with an engine that runs: sockets, and a program that restarts it. */
export const liveCases = casesOf(true);

/** `full`: every point. Otherwise a sample, the same for one seed, that holds every point that changes a file. */
export const isFull = process.env["SHIMCTL_TEST_CRASH"] === "full";
export const seed = Number(process.env["SHIMCTL_TEST_CRASH_SEED"] ?? 1);

/** Whether a sample of one in so many holds this; always the same for one seed. */
export function isSampled(what: string, oneIn: number): boolean {
  return chance(what) % oneIn === 0;
}

/** A number of 32 bits by chance; always the same for one seed. */
export function chance(what: string): number {
  return Number.parseInt(sha256(new TextEncoder().encode(`${seed} ${what}`)).slice(0, 8), 16);
}

/** A node on which a case's command can be run again and again from the same state. */
export class Stage {
  readonly case: CrashCase;
  /** `/etc` by path: before anything of ours, before the command, after it. */
  readonly original: Tree;
  readonly old: Configuration;
  readonly new: Configuration;
  /** The handlers that the engine serves before and after, as one text each. */
  served: readonly string[] = [];
  readonly #template: Node;
  readonly #first: string;
  readonly #afterwards: Tree;
  readonly #engine: LiveEngine | undefined;

  readonly #lacks: Lack | undefined;

  /** @param lacks what the run itself finds missing in the file system */
  constructor(crashCase: CrashCase, lacks?: Lack) {
    this.case = crashCase;
    this.#lacks = lacks;
    this.#engine = crashCase.isLive ? new LiveEngine() : undefined;
    const { engineCase } = crashCase;
    this.#template = Node.of(engineCase);
    const [, wanted = ""] = engineCase.handlers;
    this.#template.place(handlerFile, `format = 1\n[handlers.${wanted}]\n`);
    using fresh = this.copy();
    this.original = treeOf(fresh.root);
    for (const args of crashCase.before) {
      const traced = trace([compiled(), ...args, ...this.#nodeOptions(this.#template.root)], {});
      expect([args, traced.code, traced.output]).toEqual([args, 0, expect.any(String)]);
    }
    this.#first = firstOperation(this.#template.root);
    this.old = configurationOf(this.#template.root);
    using done = this.copy();
    const first = this.run(done.root);
    expect([first.code, first.output]).toEqual([0, first.output]);
    this.new = configurationOf(done.root);
    this.#afterwards = treeOf(done.root);
  }

  /** Asks the real engine what it serves before and after the command. */
  learn(verdicts: { of(root: string): readonly string[] }): void {
    using done = this.copy();
    const before = verdicts.of(done.root).join(" ");
    this.run(done.root);
    this.served = [before, verdicts.of(done.root).join(" ")];
    expect(this.served[0]).not.toBe(this.served[1]);
  }

  /** A copy of the node as it is before the command. */
  copy(): Copy {
    const copy = new Copy(this.#template.root);
    this.#engine?.start(copy.root, this.case.engineCase.engine);
    return copy;
  }

  /** Runs the command itself on a copy. */
  run(root: string, watch: Parameters<typeof trace>[1] = {}): Traced {
    const lack = this.#lacks === undefined ? undefined : lacking[this.#lacks];
    const enter = (call: Call): Verdict => watch.enter?.(call) ?? lack?.(call);
    return trace(this.argv(root), lack === undefined ? watch : { ...watch, enter });
  }

  argv(root: string): string[] {
    return [compiled(), ...this.case.args(root, this.#first), ...this.#options(root)];
  }

  /** Runs another command on a copy, in this process. */
  async also(root: string, args: readonly string[]): Promise<{ code: number; said: string }> {
    let said = "";
    const say = (text: string) => {
      said += text;
    };
    // A look at files knows of no engine.
    const options = args[0] === "check" ? this.#nodeOptions(root) : this.#options(root);
    const code = await main([...args, ...options], {
      out: say,
      err: say,
      env: {},
      outIsTerminal: false,
      errIsTerminal: false,
      signal: new AbortController().signal,
      now: () => new Date(),
    });
    return { code, said };
  }

  /** The same command again has the new state as its result, and nothing of the run before it is left. */
  async assertConverges(root: string, foreign = false): Promise<void> {
    const again = await this.also(root, this.case.args(root, this.#first));
    expect([again.code, again.said]).toEqual([0, again.said]);
    if (!foreign) expect(treeOf(root)).toEqual(this.#afterwards);
    expect(leftovers(root)).toEqual([]);
    expect((await this.also(root, ["check"])).code).toBe(0);
    const gone = await this.also(root, ["uninstall", "--all"]);
    expect([gone.code, gone.said]).toEqual([0, gone.said]);
    if (!foreign) expect(treeOf(root)).toEqual(this.original);
    expect(leftovers(root)).toEqual([]);
  }

  #options(root: string): string[] {
    return [...this.#nodeOptions(root), ...(this.#engine?.options(root) ?? [])];
  }

  #nodeOptions(root: string): string[] {
    return ["--root", root, "--engine-version", this.case.engineCase.version];
  }

  [Symbol.dispose](): void {
    this.#template[Symbol.dispose]();
    this.#engine?.stop();
  }
}

export class Copy {
  readonly root = mkdtempSync(`${tmpdir()}/shimctl-crash-`);

  constructor(from: string) {
    cpSync(from, this.root, { recursive: true, preserveTimestamps: true });
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

type Tree = Readonly<Record<string, string>>;
/** The text of each file that is the engine's to read, or could be. */
export type Configuration = Readonly<Record<string, string>>;

export function configurationOf(root: string): Configuration {
  return Object.fromEntries(
    filesBelow(`${root}/etc`)
      .filter((path) => !/\.(tmp|part)$/.test(path))
      .map((path) => [path.slice(root.length), readFileSync(path, "utf8")]),
  );
}

/** Every file is the complete old one or the complete new one. @param strip takes away what others wrote meanwhile; no text: pass it over */
export function assertWhole(
  root: string,
  { old, new: next }: Pick<Stage, "old" | "new">,
  strip: (path: string, text: string) => string | undefined = (_, text) => text,
): void {
  const now = configurationOf(root);
  const paths = [...new Set([now, old, next].flatMap((files) => Object.keys(files)))];
  const torn = paths.filter((path) => {
    const [is] = [now[path]];
    const text = is === undefined ? undefined : strip(path, is);
    if (is !== undefined && text === undefined) return false;
    return text !== old[path] && text !== next[path];
  });
  expect(torn.map((path) => [path, now[path]])).toEqual([]);
}

/** Temporary files, and whatever is not shimctl's to keep. */
export function leftovers(root: string): string[] {
  const state = `${root}/var/lib/shimctl`;
  const kept = ["conflict", "journal", "record.json", "store"];
  return [
    ...filesBelow(root).filter((path) => /\.(tmp|part)$/.test(path)),
    ...(existsSync(state) ? readdirSync(state).filter((name) => !kept.includes(name)) : []),
  ].map((path) => path.replace(root, ""));
}

export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`)
    .sort();
}

/** The engine's configuration as one hash; the random part of a temporary name is nobody's concern. */
export function hashOf(root: string): string {
  const files = filesBelow(`${root}/etc`).map((path) => [
    withoutChance(path.slice(root.length)),
    readFileSync(path, "latin1"),
  ]);
  return sha256(new TextEncoder().encode(JSON.stringify(files)));
}

function withoutChance(path: string): string {
  return path
    .replace(/#\d+ \(deleted\)$/, "(unnamed)")
    .replace(/[0-9a-f]{12}\.(tmp|part)/g, "*.$1")
    .replace(/conflict\/.*/, "conflict/*")
    .replace(/^\/proc\/self\/fd\/\d+$/, "(unnamed)")
    .replace(/^(socket|pipe):\[\d+\]$/, "$1");
}

/** A call of a run, told from all others of it: the n-th of its name on its path. */
export interface Point {
  readonly what: string;
  readonly nth: number;
  readonly name: string;
  /** Whether a file, a folder or a name is another one afterwards. */
  readonly changes: boolean;
  /** Whether it talks to somebody, or starts a program. */
  readonly talks: boolean;
}

/** Counts the calls of a run on one node that matter, and gives each its place. */
export function counting(root: string): (call: Call) => Point | undefined {
  const counts = new Map<string, number>();
  return (call) => {
    const isOurs = [call.subject, call.second].some((path) => path?.startsWith(`${root}/`));
    const isTalk = call.subject === "stdout" || call.subject.startsWith("socket:") || starts.has(call.name);
    if ((!isOurs && !isTalk) || isLeaseLook(call)) return undefined;
    const paths = [call.subject, call.second].flatMap((path) =>
      path === undefined ? [] : [withoutChance(path.replace(root, ""))],
    );
    const what = [call.name, ...paths].join(" ");
    const nth = (counts.get(what) ?? 0) + 1;
    counts.set(what, nth);
    const isLock = call.subject.startsWith(`${root}/run/`);
    const changes = isOurs && !isLock && (isOpen(call) ? opensToChange(call) : !quiet.has(call.name));
    return { what, nth, name: call.name, changes, talks: isTalk && call.subject !== "stdout" };
  };
}

const starts = new Set(["socket", "clone", "clone3", "fork", "vfork", "execve"]);
/** F_GETLEASE of fcntl(2): how often a displaced file is looked at while others are waited for depends on the clock. */
function isLeaseLook({ name, args }: Call): boolean {
  return name === "fcntl" && args[1] === 1025;
}

const quiet = new Set(["fsync", "fdatasync", "fcntl", "flock"]);

export function isOpen({ name }: Pick<Call, "name">): boolean {
  return name.startsWith("open");
}

/** What some file systems do not have: NFS, old overlays, FAT. */
export type Lack = "unnamed files" | "an exchange of names";

const lacking: Readonly<Record<Lack, (call: Call) => Verdict>> = {
  "unnamed files": ({ name, args }) =>
    name === "openat" && ((args[2] ?? 0) & 0o20000000) !== 0
      ? { errno: constants.errno.EOPNOTSUPP }
      : undefined,
  "an exchange of names": ({ name, args }) =>
    name === "renameat2" && args[4] !== 0 ? { errno: constants.errno.EINVAL } : undefined,
};

/** O_WRONLY, O_RDWR, O_CREAT, O_TRUNC. */
export function opensToChange({ name, args }: Call): boolean {
  const flags = args[name === "openat" ? 2 : 1] ?? 0;
  return (flags & (0o1 | 0o2 | 0o100 | 0o1000)) !== 0;
}

export function isSame(a: Point | undefined, b: Point): boolean {
  return a !== undefined && a.what === b.what && a.nth === b.nth;
}

export function nameOf({ what, nth }: Point): string {
  return `${what} (${nth})`;
}

/** Runs the command and does something at one point of it. @returns whether that was reached */
export function runUntil(
  stage: Stage,
  root: string,
  at: (point: Point, call: Call, phase: "enter" | "exit") => Verdict,
): Traced {
  const place = counting(root);
  const places = new Map<Call, Point>();
  return stage.run(root, {
    enter(call) {
      const point = place(call);
      if (point === undefined) return undefined;
      places.set(call, point);
      return at(point, call, "enter");
    },
    exit(call) {
      const point = places.get(call);
      places.delete(call);
      return point !== undefined && at(point, call, "exit") === "kill" ? "kill" : undefined;
    },
  });
}

/** What was found out, for people, and for the page that a full run writes. */
export function report(kind: string, name: string, facts: Readonly<Record<string, number>>): void {
  const words = Object.entries(facts).map(([what, count]) => `${count} ${what}`);
  console.log(`   ${name}: ${words.join(", ")}`);
  const path = process.env["SHIMCTL_TEST_CRASH_REPORT"];
  if (path !== undefined) appendFileSync(path, `${JSON.stringify({ kind, name, facts, isFull })}\n`);
}
