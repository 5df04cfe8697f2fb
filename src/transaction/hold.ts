import { ShimctlError } from "../error.ts";
import type { Caller } from "./journal.ts";
import type { Hold, NodeRecord } from "./record.ts";

/** By owner, `wholeNode` for all of them. */
export type Holds = Readonly<Record<string, Hold>>;

export const wholeNode = "*";

/** The hold that an owner's automatic runs meet now: its own, or that of the whole node. */
export function holdOf({ holds = {} }: NodeRecord, owner: string, now: Date): Hold | undefined {
  for (const key of [owner, wholeNode]) {
    const hold = Object.hasOwn(holds, key) ? holds[key] : undefined;
    if (hold !== undefined && isOn(hold, now)) return hold;
  }
  return undefined;
}

/** Those that have not expired. */
export function holdsOn({ holds = {} }: NodeRecord, now: Date): Holds {
  return Object.fromEntries(Object.entries(holds).filter(([, hold]) => isOn(hold, now)));
}

function isOn({ until }: Hold, now: Date): boolean {
  return until === undefined || Date.parse(until) > now.getTime();
}

/** Throws `held` while a hold is on: for automatic runs, as a person's own command goes through. */
export function refuseOnHold(record: NodeRecord, owner: string, now: Date): void {
  const hold = holdOf(record, owner, now);
  if (hold === undefined) return;
  const { since, until, reason, who, by } = hold;
  const release = releaseCommand(hold === record.holds?.[wholeNode] ? wholeNode : owner);
  throw new ShimctlError("held", `On hold, as ${holdWords(hold)}`, {
    hint: `\`${release}\` lets automatic runs go on; a person's own command goes through`,
    hold: { since, until, reason, who, by },
    retryable: true,
  });
}

/** What lets automatic runs of an owner, or of all, go on. */
export function releaseCommand(owner: string): string {
  const whose = owner === wholeNode ? " --all" : owner === "default" ? "" : ` --owner ${owner}`;
  return `shimctl release${whose}`;
}

/** For people: who did it, when, until when and why. */
export function holdWords({ who, since, until, reason, by }: Hold): string {
  const end = until === undefined ? "" : `, until ${until}`;
  const why = reason === undefined ? "" : `: ${reason}`;
  return `${who} ran \`${by}\` at ${since}${end}${why}`;
}

/** What `command` of `owner` leaves of the holds. */
export function holdsAfter(
  record: NodeRecord,
  owner: string,
  command: string,
  caller: Caller | undefined,
  now: Date,
): Holds {
  const holds = holdsOn(record, now);
  if (caller === undefined || caller.automatic) return holds;
  const { [owner]: own, ...others } = holds;
  // A hold that somebody asked for stays until somebody releases it.
  if (own?.by === "hold") return holds;
  // Else an automatic run would bring back at once what a person has just taken away.
  if (command === "uninstall" || command === "rollback")
    return { ...others, [owner]: { since: now.toISOString(), who: caller.who, by: command } };
  return command === "install" || command === "apply" ? others : holds;
}

/** The record with these holds, without those that have expired. */
export function withHolds(record: NodeRecord, holds: Holds | undefined, now: Date): NodeRecord {
  const { holds: _, ...rest } = record;
  const on = holdsOn({ ...rest, holds: { ...holds } }, now);
  return Object.keys(on).length === 0 ? rest : { ...rest, holds: { ...on } };
}
