import type { EngineView } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Bases } from "../handler/asked.ts";
import type { Handler } from "../handler/model.ts";
import { withContendedTold } from "./contention.ts";
import { countsTold } from "./counts.ts";
import { type Holds, holdsAfter, withHolds } from "./hold.ts";
import type { JournalLine } from "./journal.ts";
import {
  type AdoptedHandlers,
  emptyRecord,
  type NodeRecord,
  type Restart,
  withEpoch,
  withMissing,
  withOwner,
} from "./record.ts";
import { withRestart } from "./restraint.ts";
import type { NodeState } from "./state.ts";

/**
 * The record of one configuration as the intact markers in its files and the journal tell it, for where the
 * record itself is lost. A block that somebody edited is no proof of what its owner has, and is left out.
 */
export function rebuildRecord(
  /** `undefined` where the configuration cannot be read. */
  view: EngineView | undefined,
  rootFile: string,
  journal: readonly JournalLine[],
  now: Date,
): NodeRecord {
  const holdings = view?.state.holdings ?? [];
  const owners = new Set(holdings.map(({ owner }) => owner));
  for (const { owner, intact } of holdings) if (!intact) owners.delete(owner);
  const record = [...owners].reduce(
    (known, owner) => {
      const handlers = handlersOf(view, owner);
      if (handlers.length === 0) return known;
      return withOwner(known, rootFile, owner, handlers, now.toISOString(), {
        bases: basesOf(journal, rootFile, owner),
        adopted: adoptedOf(journal, rootFile, owner),
      });
    },
    orderFrom(journal, rootFile),
  );
  const folders = journal.flatMap((line) => (line.step === "begin" ? line.folders : []));
  const restarts = restartsOf(journal, now);
  const counts = countsTold(journal);
  const rebuilt = {
    ...record,
    folders: [...new Set(folders)],
    ...(restarts.length === 0 ? {} : { restarts }),
    ...(counts === undefined ? {} : { counts }),
  };
  return withHolds(withContendedTold(rebuilt, rootFile, journal), holdsTold(journal), now);
}

/**
 * The record, or what the journal tells of it where it is lost or damaged: whose turn it is, what is on hold and what
 * was counted do not depend on the files, which may be broken.
 */
export function knownRecord(
  state: Pick<NodeState, "readRecord" | "journal">,
  rootFile: string,
  now: Date,
): NodeRecord {
  const { record, lost, damaged } = state.readRecord();
  if (!lost && damaged === undefined) return record;
  const told = rebuildRecord(undefined, rootFile, state.journal(), now);
  return lost ? told : withMissing(record, told);
}

/** Holds as the journal tells them: a lost record releases nobody. */
function holdsTold(journal: readonly JournalLine[]): Holds {
  const begun = new Map(
    journal.flatMap((line) => (line.step === "begin" ? [[line.operation, line] as const] : [])),
  );
  let holds: Holds = {};
  for (const line of journal) {
    const time = new Date(line.time);
    if ((line.step === "hold" || line.step === "release") && line.contended !== undefined) continue;
    if (line.step === "hold") {
      const { until, reason, who } = line;
      const made = {
        since: line.time,
        ...(until === undefined ? {} : { until }),
        ...(reason === undefined ? {} : { reason }),
        who,
        by: "hold",
      };
      holds = { ...holds, [line.owner]: made };
    } else if (line.step === "release") {
      const { [line.owner]: _, ...others } = holds;
      holds = others;
    } else if (line.step === "end" && (line.result === "changed" || line.result === "finished")) {
      const begin = begun.get(line.operation);
      if (begin !== undefined)
        holds = holdsAfter(
          { ...emptyRecord, holds: { ...holds } },
          begin.owner,
          begin.command,
          begin.caller,
          time,
        );
    }
  }
  return holds;
}

/** None where a newer release has written them: those are not ours to know. */
function handlersOf(view: EngineView | undefined, owner: string): readonly Handler[] {
  try {
    return view?.handlersOf(owner) ?? [];
  } catch (error) {
    if (error instanceof ShimctlError) return [];
    throw error;
  }
}

type Begin = Extract<JournalLine, { step: "begin" }>;

/** What the owner's presets were at its last change that was not undone. */
function basesOf(journal: readonly JournalLine[], rootFile: string, owner: string): Bases {
  return changesOf(journal, rootFile, owner).at(-1)?.bases ?? {};
}

/** Where the owner's handlers stood that it has taken over from others. */
function adoptedOf(journal: readonly JournalLine[], rootFile: string, owner: string): AdoptedHandlers {
  let known: AdoptedHandlers = {};
  for (const { previous, desired, adopted } of changesOf(journal, rootFile, owner)) {
    // What it had not before was taken from it, or removed, since: that it once adopted it counts no more.
    const had = new Set(previous.map(({ name }) => name));
    const has = new Set(desired.map(({ name }) => name));
    const all = [
      ...Object.entries(known).filter(([name]) => had.has(name)),
      ...Object.entries(adopted ?? {}),
    ];
    known = Object.fromEntries(all.filter(([name]) => has.has(name)));
  }
  return known;
}

/** The owner's changes that were not undone. */
function changesOf(journal: readonly JournalLine[], rootFile: string, owner: string): Begin[] {
  const done = new Set(
    journal.flatMap((line) =>
      line.step === "end" && (line.result === "changed" || line.result === "finished")
        ? [line.operation]
        : [],
    ),
  );
  return journal.flatMap((line) =>
    line.step === "begin" && line.owner === owner && line.rootFile === rootFile && done.has(line.operation)
      ? [line]
      : [],
  );
}

/** What the journal tells of the owners' incarnations, with none of their handlers. */
function orderFrom(journal: readonly JournalLine[], rootFile: string): NodeRecord {
  const ends = new Map(
    journal.flatMap((line) => (line.step === "end" ? [[line.operation, line.result] as const] : [])),
  );
  return journal.reduce((known, line) => {
    if (line.step !== "begin" || line.rootFile !== rootFile) return known;
    const { owner, order, time, operation } = line;
    const result = ends.get(operation);
    // One that is open is finished or undone first.
    if (order === undefined || result === undefined) return known;
    if (result === "changed" || result === "finished")
      return withOwner(known, rootFile, owner, [], time, { order });
    return withEpoch(known, rootFile, owner, order, new Date(time));
  }, emptyRecord);
}

/** A lost record is no way round the restart budget. */
function restartsOf(journal: readonly JournalLine[], now: Date): Restart[] {
  const owners = new Map(
    journal.flatMap((line) => (line.step === "begin" ? [[line.operation, line.owner] as const] : [])),
  );
  const made = journal.flatMap((line): Restart[] =>
    line.step === "restart" || line.step === "restore"
      ? [{ time: line.time, owner: owners.get(line.operation) ?? "", why: "as the journal tells" }]
      : [],
  );
  const last = made.at(-1);
  const since = { time: now.toISOString(), owner: "", why: "" };
  return last === undefined ? [] : withRestart(made, since).slice(0, -1);
}
