import type { Looked } from "./looked.ts";

/** What only the process that holds the node can count. It is handed to each look, which puts it into the metrics. */
export interface Tally {
  readonly checks: number;
  readonly failures: number;
  readonly superseded: number;
  /** Seconds of Unix time; 0: none yet. */
  readonly lastSuccess: number;
}

/** In which the process that holds the node names itself to its looks: none lives on without it. */
export const parentVariable = "SHIMCTL_WATCH_PARENT";
/** How the tally is handed over. */
export const tallyVariable = "SHIMCTL_WATCH_TALLY";

export function tallyText({ checks, failures, superseded, lastSuccess }: Tally): string {
  return [checks, failures, superseded, lastSuccess].join(" ");
}

export function parseTally(text: string): Tally {
  const [checks = 0, failures = 0, superseded = 0, lastSuccess = 0] = text
    .split(" ")
    .map((part) => Number(part) || 0);
  return { checks, failures, superseded, lastSuccess };
}

/** @param looked `undefined` for a look that ended without a result */
export function tallyAfter(
  { checks, failures, superseded, lastSuccess }: Tally,
  looked: Looked | undefined,
  now: Date,
): Tally {
  return {
    checks: checks + 1,
    failures: failures + (looked === undefined || looked.failed ? 1 : 0),
    // The same late incarnation is told so by every look.
    superseded: superseded + (looked?.result === "superseded" && superseded === 0 ? 1 : 0),
    lastSuccess: looked?.ready === true ? now.getTime() / 1000 : lastSuccess,
  };
}
