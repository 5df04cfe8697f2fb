import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { sha256 } from "../../src/sha256.ts";
import { chance } from "./crash.ts";
import type { Call, Watch } from "./tracer.ts";

/**
 * What a file system may leave of a run when the power fails: whatever was not made durable by fsync(2) may be
 * there or not, each on its own. Data of a file: nothing, a part, zeros in its place, or all of it. A name that was
 * made, removed or renamed: as it was, or as it is, as long as its folder was not flushed since; a rename is one
 * step, also between two folders, and is durable once both are flushed. What stood below a folder whose own
 * name is lost is lost with it. Modes and owners are not looked at.
 */
export interface Step {
  /** For people. */
  readonly name: string;
  readonly change: Change;
}

type Change =
  | { readonly kind: "write"; readonly file: number; readonly bytes: Uint8Array }
  | { readonly kind: "names"; readonly sets: readonly NameSet[] }
  | { readonly kind: "flush"; readonly node: number; readonly isFolder: boolean };

/** From now on a name in a folder leads there; `undefined`: nowhere. */
interface NameSet {
  readonly folder: number;
  readonly name: string;
  readonly node: number | undefined;
  /** Where it is made with the name: whether it is a folder. */
  readonly makes?: "folder" | "file";
}

/** A run, step by step, on the tree that it began with. */
export interface Recording {
  readonly steps: Step[];
  readonly start: FileSystem;
}

/** Folders have names, files have bytes; the first one is the root. */
interface FileSystem {
  readonly folders: Map<number, Map<string, number>>;
  readonly files: Map<number, Uint8Array>;
  readonly links: Map<number, string>;
  readonly modes: Map<number, number>;
}

const top = 1;
/** What outlives a power loss; /run is in memory. */
const parts = ["etc", "var"];

export function recording(root: string): { watch: Watch; recorded: Recording } {
  const start = load(root);
  const now: FileSystem = copied(start);
  const steps: Step[] = [];
  const unnamed = new Map<string, number>();
  let next = 1_000_000;

  const relative = (path: string) => path.slice(root.length);
  const isKept = (path: string) =>
    path.startsWith(`${root}/`) &&
    (parts.includes(relative(path).split("/")[1] ?? "") || relative(path) === "/");
  const find = (path: string): number | undefined => {
    let node: number | undefined = top;
    for (const name of relative(path)
      .split("/")
      .filter((part) => part !== ""))
      node = node === undefined ? undefined : now.folders.get(node)?.get(name);
    return node;
  };
  const folderOf = (path: string): number => {
    const folder = find(dirname(path));
    if (folder === undefined) throw new Error(`the folder of ${path} was not seen to be made`);
    return folder;
  };
  const apply = (name: string, sets: readonly NameSet[]) => {
    for (const set of sets) setName(now, set);
    steps.push({ name, change: { kind: "names", sets } });
  };
  const made = (path: string, isFolder: boolean): NameSet => {
    next += 1;
    if (isFolder) now.folders.set(next, new Map());
    else now.files.set(next, new Uint8Array());
    return { folder: folderOf(path), name: basename(path), node: next, makes: isFolder ? "folder" : "file" };
  };
  const at = (path: string, node: number | undefined): NameSet => ({
    folder: folderOf(path),
    name: basename(path),
    node,
  });
  const say = (call: Call) =>
    [call.name, relative(call.subject), ...(call.second === undefined ? [] : [relative(call.second)])].join(
      " ",
    );

  const exit = (call: Call, result: number): undefined => {
    const { name, subject, second } = call;
    const isOf = [subject, second].some((path) => path !== undefined && isKept(path));
    const isTop = name === "fsync" && subject === root;
    if (result < 0 || !(isOf || isTop)) return;
    const node = unnamed.get(subject) ?? (isTop ? top : find(subject));
    if (name === "openat") {
      const flags = call.args[2] ?? 0;
      // O_TMPFILE; its descriptor is seen with its first write.
      if ((flags & 0o20000000) !== 0) return;
      if ((flags & 0o100) !== 0 && node === undefined) apply(say(call), [made(subject, false)]);
      if ((flags & 0o1000) !== 0) throw new Error(`not expected: ${subject} is emptied`);
    } else if (name === "write") {
      let file = node;
      if (file === undefined && subject.endsWith(" (deleted)")) {
        next += 1;
        now.files.set(next, new Uint8Array());
        unnamed.set(subject, next);
        file = next;
      }
      if (file === undefined) throw new Error(`nobody made ${subject}`);
      const bytes = written.get(call)?.slice(0, result) ?? new Uint8Array();
      steps.push({ name: say(call), change: { kind: "write", file, bytes } });
    } else if (name === "fsync") {
      if (node === undefined) throw new Error(`nobody made ${subject}`);
      steps.push({ name: say(call), change: { kind: "flush", node, isFolder: now.folders.has(node) } });
    } else if (name === "mkdir") apply(say(call), [made(subject, true)]);
    else if (name === "unlink" || name === "rmdir") apply(say(call), [at(subject, undefined)]);
    else if (second !== undefined && name === "linkat") {
      apply(say(call), [at(second, linked.get(call))]);
    } else if (second !== undefined && name.startsWith("rename")) {
      const isExchange = name === "renameat2" && call.args[4] === 2;
      const [from, to] = [find(subject), find(second)];
      apply(say(call), [at(subject, isExchange ? to : undefined), at(second, from)]);
    } else if (!harmless.has(name)) throw new Error(`not expected: ${say(call)}`);
  };
  const written = new Map<Call, Uint8Array>();
  const linked = new Map<Call, number | undefined>();
  let lastUnnamed = "";
  return {
    recorded: { steps, start },
    watch: {
      enter(call) {
        if (call.name === "write" && call.subject.startsWith(`${root}/`))
          written.set(call, call.bytes().slice());
        // Its name in /proc is its descriptor; there is one such file at a time.
        if (call.subject.endsWith(" (deleted)")) lastUnnamed = call.subject;
        if (call.name === "linkat") linked.set(call, unnamed.get(lastUnnamed));
        return undefined;
      },
      exit,
    },
  };
}

const harmless = new Set(["fchmod", "fchown", "fremovexattr", "fsetxattr", "fcntl", "flock", "pwrite64"]);

function setName(system: FileSystem, { folder, name, node }: NameSet): void {
  const names = system.folders.get(folder);
  if (node === undefined) names?.delete(name);
  else names?.set(name, node);
}

function copied(system: FileSystem): FileSystem {
  return {
    folders: new Map([...system.folders].map(([node, names]) => [node, new Map(names)])),
    files: new Map(system.files),
    links: system.links,
    modes: system.modes,
  };
}

function load(root: string): FileSystem {
  const system: FileSystem = { folders: new Map(), files: new Map(), links: new Map(), modes: new Map() };
  let last = top;
  const visit = (path: string, node: number): void => {
    const names = new Map<string, number>();
    system.folders.set(node, names);
    for (const name of node === top
      ? readdirSync(path).filter((each) => parts.includes(each))
      : readdirSync(path)) {
      last += 1;
      const [child, here, stat] = [last, `${path}/${name}`, lstatSync(`${path}/${name}`)];
      names.set(name, child);
      system.modes.set(child, stat.mode & 0o7777);
      if (stat.isDirectory()) visit(here, child);
      else if (stat.isSymbolicLink()) system.links.set(child, readlinkSync(here));
      else system.files.set(child, readFileSync(here));
    }
  };
  visit(root, top);
  return system;
}

/** A tree that may be found after a power loss: of each path below the root its bytes; a folder has none. */
export interface Remains {
  /** After which step the power failed. */
  readonly after: string;
  readonly isLast: boolean;
  readonly hash: string;
  /** Makes the tree what it is, in place of what is there. */
  build(root: string): void;
}

/** How many combinations are looked at for one instant; beyond that, a sample. */
const bound = 400;

/** Every tree that a power loss at any instant may leave, each once; those after the last step are told apart. */
export function* remains({ steps, start }: Recording): Generator<Remains> {
  const known = new Set<string>();
  // From the end: what somebody was told to be done is the hardest to lose.
  for (let length = steps.length; length >= 0; length--) {
    const isLast = length === steps.length;
    const done = steps.slice(0, length);
    for (const system of outcomes(start, done)) {
      const tree = treeOf(system);
      const hash = sha256(new TextEncoder().encode(JSON.stringify(tree)));
      if (known.has(`${hash} ${isLast}`)) continue;
      known.add(`${hash} ${isLast}`);
      yield { after: done.at(-1)?.name ?? "nothing", isLast, hash, build: (root) => build(system, root) };
    }
  }
}

type Choice = number;

function* outcomes(start: FileSystem, steps: readonly Step[]): Generator<FileSystem> {
  const isDurable = durable(steps);
  const loose = steps.flatMap(({ change }, index) =>
    isDurable[index] || change.kind === "flush" ? [] : [index],
  );
  // A name is as it was or as it is; of data there may be nothing, all, a half, or zeros.
  const options = loose.map((index) => (steps[index]?.change.kind === "names" ? 2 : 4));
  const total = options.reduce((product, count) => product * count, 1);
  for (let combination = 0; combination < Math.min(total, bound); combination++) {
    const choices = new Map<number, Choice>();
    let rest = combination;
    options.forEach((count, index) => {
      // Beyond the bound by chance, the same for one seed; but for the one in which nothing is left.
      const choice =
        total <= bound || combination === 0 ? rest : chance(`${steps.length} ${combination} ${index}`);
      choices.set(loose[index] ?? -1, choice % count);
      rest = Math.floor(rest / count);
    });
    yield left(start, steps, choices);
  }
}

/** Which steps no power loss takes back any more. */
function durable(steps: readonly Step[]): boolean[] {
  return steps.map(({ change }, index) => {
    const flushed = new Set(
      steps.slice(index + 1).flatMap((step) => (step.change.kind === "flush" ? [step.change.node] : [])),
    );
    if (change.kind === "write") return flushed.has(change.file);
    return change.kind === "names" && change.sets.every(({ folder }) => flushed.has(folder));
  });
}

function left(start: FileSystem, steps: readonly Step[], choices: ReadonlyMap<number, Choice>): FileSystem {
  const system = copied(start);
  for (const [index, { change }] of steps.entries()) {
    if (change.kind === "names") {
      for (const { node, makes } of change.sets) {
        if (node !== undefined && makes === "folder") system.folders.set(node, new Map());
        if (node !== undefined && makes === "file") system.files.set(node, new Uint8Array());
      }
      if (choices.get(index) !== 0) for (const set of change.sets) setName(system, set);
    } else if (change.kind === "write") {
      const before = system.files.get(change.file) ?? new Uint8Array();
      system.files.set(change.file, Buffer.concat([before, dataLeft(change.bytes, choices.get(index) ?? 1)]));
    }
  }
  return system;
}

function dataLeft(bytes: Uint8Array, choice: Choice): Uint8Array {
  if (choice === 0) return new Uint8Array();
  if (choice === 2) return bytes.slice(0, Math.floor(bytes.length / 2));
  return choice === 3 ? new Uint8Array(bytes.length) : bytes;
}

function treeOf(system: FileSystem): [string, string][] {
  const tree: [string, string][] = [];
  const visit = (node: number, path: string): void => {
    for (const [name, child] of [...(system.folders.get(node) ?? [])].sort()) {
      const here = `${path}/${name}`;
      const bytes = system.files.get(child);
      tree.push([
        here,
        bytes === undefined ? (system.links.get(child) ?? "/") : Buffer.from(bytes).toString("latin1"),
      ]);
      visit(child, here);
    }
  };
  visit(top, "");
  return tree;
}

function build(system: FileSystem, root: string): void {
  for (const part of [...parts, "run"]) rmSync(`${root}/${part}`, { recursive: true, force: true });
  const visit = (node: number, path: string): void => {
    for (const [name, child] of system.folders.get(node) ?? []) {
      const here = `${path}/${name}`;
      const bytes = system.files.get(child);
      const link = system.links.get(child);
      const isOurs = here.startsWith(`${root}/var/lib/shimctl`);
      if (link !== undefined) symlinkSync(link, here);
      else if (bytes === undefined) {
        mkdirSync(here);
        chmodSync(here, system.modes.get(child) ?? (isOurs ? 0o700 : 0o755));
        visit(child, here);
      } else {
        writeFileSync(here, bytes);
        chmodSync(here, system.modes.get(child) ?? (isOurs ? 0o600 : 0o644));
      }
    }
  };
  visit(top, root);
}

/** The same run by a program that forgets a kind of fsync. */
export function without({ steps, start }: Recording, what: "files" | "folders"): Recording {
  const isForgotten = ({ change }: Step) =>
    change.kind === "flush" && change.isFolder === (what === "folders");
  return { start, steps: steps.filter((step) => !isForgotten(step)) };
}
