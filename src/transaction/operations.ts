import type { Bases } from "../handler/asked.ts";
import type { Handler } from "../handler/model.ts";
import { isSame } from "../same.ts";
import type { Caller, JournalLine } from "./journal.ts";
import type { AdoptedFrom } from "./record.ts";
import type { Mended } from "./request.ts";

/** What became of an operation. */
export type OperationResult =
  /** Made, or found complete by a later run and recorded then. */
  | "changed"
  | "finished"
  | "undone"
  | "undo failed"
  | "held"
  | "released"
  /** The last one: the next run finishes or undoes it. */
  | "unfinished"
  /** The line that says it cannot be read. */
  | "unknown";

/** One operation, as the journal tells it. */
export interface Operation {
  readonly id: string;
  /** ISO 8601. */
  readonly time: string;
  readonly ended: string | undefined;
  readonly command: string;
  /** `*`: a hold of the whole node. */
  readonly owner: string;
  readonly caller: Caller | undefined;
  readonly engine: string | undefined;
  readonly rootFile: string | undefined;
  readonly result: OperationResult;
  /** Why it was undone or held. */
  readonly why: string | undefined;
  readonly previous: readonly Handler[];
  readonly desired: readonly Handler[];
  readonly previousBases: Bases;
  readonly bases: Bases;
  readonly reverts: readonly string[];
  /** What others had done to the owner's handlers, where an automatic run put only that right. */
  readonly mends: Mended | undefined;
  /** Files of others from which it took handlers over. */
  readonly adoptedFrom: readonly AdoptedFrom[];
  /** Exchanges of files in their order; `null`: no file. */
  readonly commits: readonly Committed[];
  /** `begun`: nobody saw the end of it. */
  readonly restart: "done" | "begun" | "none";
}

export interface Committed {
  readonly path: string;
  readonly before: string | null;
  readonly after: string | null;
}

/** The operations of a journal, oldest first. */
export function operationsOf(lines: readonly JournalLine[]): Operation[] {
  const groups = new Map<string, JournalLine[]>();
  for (const line of lines) {
    const group = groups.get(line.operation);
    if (group === undefined) groups.set(line.operation, [line]);
    else group.push(line);
  }
  const last = lines.findLast((line) => line.step === "begin")?.operation;
  return [...groups].flatMap(([id, group]) => asOperation(id, group, id === last) ?? []);
}

function asOperation(id: string, lines: readonly JournalLine[], isLast: boolean): Operation | undefined {
  const begin = lines.find((line) => line.step === "begin");
  if (begin === undefined) return asHold(id, lines);
  const end = lines.findLast((line) => line.step === "end");
  const failed = lines.findLast((line) => line.step === "failed");
  const made = (step: JournalLine["step"]) => lines.some((line) => line.step === step);
  return {
    id,
    time: begin.time,
    ended: end?.time,
    command: begin.command,
    owner: begin.owner,
    caller: begin.caller,
    engine: begin.engine,
    rootFile: begin.rootFile,
    result: end === undefined ? (isLast ? "unfinished" : "unknown") : resultOf(end.result),
    why: failed?.why ?? end?.why,
    previous: begin.previous,
    desired: begin.desired,
    previousBases: begin.previousBases ?? {},
    bases: begin.bases ?? {},
    reverts: begin.reverts ?? [],
    mends: begin.mends,
    adoptedFrom: Object.values(begin.adopted ?? {}).flat(),
    commits: lines
      .filter((line) => line.step === "committed")
      .map(({ path, before, after }) => ({ path, before, after })),
    restart: made("restarted") ? "done" : made("restart") ? "begun" : "none",
  };
}

function asHold(id: string, lines: readonly JournalLine[]): Operation | undefined {
  const line = lines.find((candidate) => candidate.step === "hold" || candidate.step === "release");
  if (line === undefined) return undefined;
  return {
    id,
    time: line.time,
    ended: line.time,
    command: line.step,
    owner: line.owner,
    caller: { automatic: false, who: line.who },
    engine: undefined,
    rootFile: undefined,
    result: line.step === "hold" ? "held" : "released",
    why: line.step === "hold" ? line.reason : undefined,
    previous: [],
    desired: [],
    previousBases: {},
    bases: {},
    reverts: [],
    mends: undefined,
    adoptedFrom: [],
    commits: [],
    restart: "none",
  };
}

function resultOf(said: string): OperationResult {
  const known = (["changed", "finished", "undone", "undo failed"] as const).find((each) => each === said);
  return known ?? "unknown";
}

/** Whether an operation has left something in the engine's files. */
export function isEffective({ result, commits }: Operation): boolean {
  return (result === "changed" || result === "finished") && commits.length > 0;
}

/** What an operation did to each file, however often it had to write it; none for what came back to what it was. */
export function filesOf({ commits }: Operation): Committed[] {
  return [...new Set(commits.map(({ path }) => path))].flatMap((path) => {
    const own = commits.filter((commit) => commit.path === path);
    const [before, after] = [own[0]?.before ?? null, own.at(-1)?.after ?? null];
    return before === after ? [] : [{ path, before, after }];
  });
}

/** The names of handlers that came, went and changed. */
export function handlersOf({ previous, desired }: Operation): {
  readonly added: string[];
  readonly removed: string[];
  readonly updated: string[];
} {
  const before = new Map(previous.map((handler) => [handler.name, handler]));
  const names = new Set(desired.map(({ name }) => name));
  return {
    added: desired.flatMap(({ name }) => (before.has(name) ? [] : [name])),
    removed: previous.flatMap(({ name }) => (names.has(name) ? [] : [name])),
    updated: desired.flatMap((handler) => {
      const old = before.get(handler.name);
      return old === undefined || isSame(old, handler) ? [] : [handler.name];
    }),
  };
}

/** The shortest beginning of each operation's ID that is no other's, with at least 8 characters. */
export function shortIds(operations: readonly Operation[]): ReadonlyMap<string, string> {
  const ids = operations.map(({ id }) => id);
  return new Map(
    ids.map((id) => {
      const isUnique = (prefix: string) => ids.every((other) => other === id || !other.startsWith(prefix));
      let length = 8;
      while (length < id.length && !isUnique(id.slice(0, length))) length++;
      return [id, id.slice(0, length)];
    }),
  );
}
