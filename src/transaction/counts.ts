import type { JournalLine } from "./journal.ts";
import type { Counts, NodeRecord } from "./record.ts";

/**
 * What the engine is restarted for: to serve a change, to undo one, to serve what an earlier run had left to its next
 * start, with files that were broken and are repaired, to mend what others undid.
 */
export const restartReasons = ["change", "undo", "pending", "repair", "drift"] as const;

export type RestartReason = (typeof restartReasons)[number];

/** What is added to the record's counts. */
export interface Counted {
  readonly restart?: RestartReason;
  readonly undone?: boolean;
  /** The cause of drift that was mended. */
  readonly repair?: string;
}

/** The record with one more of each; for a write that happens anyway. */
export function counted(record: NodeRecord, more: Counted): NodeRecord {
  return { ...record, counts: added(record.counts ?? {}, more) };
}

function added(counts: Counts, { restart, undone, repair }: Counted): Counts {
  return {
    ...counts,
    ...(restart === undefined ? {} : { restarts: oneMore(counts.restarts, restart) }),
    ...(repair === undefined ? {} : { repairs: oneMore(counts.repairs, repair) }),
    ...(undone === true ? { undone: (counts.undone ?? 0) + 1 } : {}),
  };
}

/** Why an operation restarts the engine. @param writes whether it has written anything itself */
export function restartReasonOf(
  { command, mends }: { readonly command: string; readonly mends?: unknown },
  writes: boolean,
): RestartReason {
  if (command === "repair") return "repair";
  return mends !== undefined ? "drift" : writes ? "change" : "pending";
}

/** What the journal tells of it, for where the record is lost; `undefined`: nothing. */
export function countsTold(journal: readonly JournalLine[]): Counts | undefined {
  const begun = new Map(
    journal.flatMap((line) => (line.step === "begin" ? [[line.operation, line] as const] : [])),
  );
  const writing = new Set(journal.flatMap((line) => (line.step === "intent" ? [line.operation] : [])));
  let told: Counts = {};
  for (const { step, operation, ...line } of journal) {
    if (step === "restart")
      told = added(told, {
        restart: restartReasonOf(begun.get(operation) ?? { command: "" }, writing.has(operation)),
      });
    else if (step === "restore") told = added(told, { restart: "undo" });
    else if (step === "end" && "result" in line) {
      const { mends } = begun.get(operation) ?? {};
      if (line.result === "undone") told = added(told, { undone: true });
      else if (mends !== undefined) told = added(told, { repair: mends.cause });
    }
  }
  return Object.keys(told).length === 0 ? undefined : told;
}

function oneMore(counts: Readonly<Record<string, number>> = {}, word: string): Record<string, number> {
  const known = Object.hasOwn(counts, word) ? (counts[word] ?? 0) : 0;
  return { ...counts, [word]: known + 1 };
}
