import type { Facts } from "../metrics/facts.ts";
import type { Budget } from "../transaction/activation.ts";
import { restartReasons } from "../transaction/counts.ts";
import { causes } from "../transaction/drift.ts";
import { recordFormat } from "../transaction/record.ts";
import { restartsLeft } from "../transaction/restraint.ts";
import type { Report, Unreadable } from "./report.ts";

/** What a report does not say itself. */
export interface About {
  readonly version: string;
  /** Of the source, where it is known. */
  readonly revision?: string | undefined;
  readonly budget: Budget;
  readonly now: Date;
  /** Seconds of Unix time: for a process that has seen it. */
  readonly lastSuccess?: number | undefined;
  /** Counted by this process, as such a run writes nothing. */
  readonly superseded?: number;
  /** What was asked for was refused or failed: that nothing is amiss with what is there is no success then. */
  readonly failed?: boolean;
  readonly watch?: Facts["watch"];
}

/** What can be mended of an owner's handlers. */
const repairCauses: readonly string[] = causes;
/** What can be amiss: with these, or with the node. */
const driftCauses: readonly string[] = [...repairCauses, "unfinished"];

/** What is told to a monitoring system of a node that was looked at, or that could not be read. */
export function factsOf(report: Report | Unreadable, about: About): Facts {
  const { node, record, root, holds, lockWait } = report;
  const { counts = {} } = record;
  const isRead = !("unreadable" in report);
  const installed = Object.entries(root.owners).map(
    ([owner, { updated }]) => [owner, secondsOf(updated)] as const,
  );
  const changed = Object.fromEntries(installed.filter(([, time]) => time > 0));
  const state = stateOf(report);
  const now = about.now.getTime() / 1000;
  const known = Math.max(0, ...Object.values(changed));
  const isInOrder = state === "in sync" && about.failed !== true;
  const lastSuccess = isInOrder ? now : (about.lastSuccess ?? (known > 0 ? known : undefined));
  return {
    version: about.version,
    revision: about.revision,
    engine: node.backend.name,
    engineVersion: versionOf(node.site.version),
    layout: node.found.layout.name,
    recordFormat,
    state,
    handlers: handlersOf(report),
    restarts: tally(restartReasons, counts.restarts),
    undone: counts.undone ?? 0,
    superseded: about.superseded ?? 0,
    held: Object.keys(root.held ?? {}),
    holds: Object.keys(holds),
    contended: Object.keys(root.contended ?? {}),
    pending: root.pending !== undefined,
    budget: restartsLeft(record.restarts ?? [], about.budget, about.now),
    drift: isRead ? driftNow(report) : tally(driftCauses, {}),
    repaired: tally(repairCauses, counts.repairs),
    lockWait,
    changed,
    lastSuccess,
    ...(about.watch === undefined ? {} : { watch: about.watch }),
  };
}

/** Of a configuration that cannot be read: markers that somebody damaged are drift, all else is broken. */
export function stateOf(report: Report | Unreadable): Facts["state"] {
  if (!("unreadable" in report)) return report.result;
  return report.unreadable.code === "conflict" ? "drifted" : "broken";
}

/** Ours: as they are on disk, or as they were recorded where nobody can read that. */
function handlersOf(report: Report | Unreadable): Facts["handlers"] {
  const recorded = Object.entries(report.root.owners).flatMap(([owner, { handlers }]) =>
    Object.keys(handlers).map((name) => ({ name, owner })),
  );
  if ("unreadable" in report) return recorded.map((each) => ({ ...each, served: undefined }));
  const { handlers, running } = report;
  const found = handlers.flatMap(({ name, owner }) => (owner === undefined ? [] : [{ name, owner }]));
  const isFound = (name: string, owner: string) =>
    found.some((each) => each.name === name && each.owner === owner);
  const gone = recorded.filter(({ name, owner }) => !isFound(name, owner));
  // Two blocks may define the same, and it is one handler all the same.
  const all = new Map([...found, ...gone].map((each) => [JSON.stringify([each.name, each.owner]), each]));
  return [...all.values()].map(({ name, owner }) => ({
    name,
    owner,
    served: running.served?.includes(name),
  }));
}

function driftNow({ drift, running, open }: Report): Record<string, number> {
  const counted: Record<string, number> = {};
  for (const { cause } of drift) counted[cause] = (counted[cause] ?? 0) + 1;
  counted["not-served"] = Math.max(counted["not-served"] ?? 0, running.notServed.length);
  return tally(driftCauses, { ...counted, unfinished: open.length });
}

/** Each of the words that there are, and what a newer release may have called otherwise as `other`: labels are bounded. */
function tally(
  words: readonly string[],
  counted: Readonly<Record<string, number>> = {},
): Record<string, number> {
  const other = Object.entries(counted)
    .filter(([word]) => !words.includes(word))
    .reduce((sum, [, count]) => sum + count, 0);
  const known = words.map((word) => [word, Object.hasOwn(counted, word) ? (counted[word] ?? 0) : 0] as const);
  return { ...Object.fromEntries(known), ...(other === 0 ? {} : { other }) };
}

function versionOf(version: Report["node"]["site"]["version"]): string | undefined {
  if (version === undefined) return undefined;
  const { major, minor, patch } = version;
  return [major, ...(minor === undefined ? [] : [minor, ...(patch === undefined ? [] : [patch])])].join(".");
}

/** 0 where a time cannot be read. */
function secondsOf(time: string): number {
  const ms = Date.parse(time);
  return Number.isNaN(ms) ? 0 : ms / 1000;
}
