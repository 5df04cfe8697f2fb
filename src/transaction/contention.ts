import { ShimctlError } from "../error.ts";
import { randomUUID } from "../host/random.ts";
import { counted } from "./counts.ts";
import type { Environment } from "./environment.ts";
import { compareEpochs, type Incarnation, latestOf } from "./epoch.ts";
import { releaseCommand } from "./hold.ts";
import type { JournalLine } from "./journal.ts";
import {
  type Contended,
  type NodeRecord,
  orderIn,
  ownersOf,
  type Repair,
  type Root,
  rootOf,
} from "./record.ts";
import type { Mended, Request } from "./request.ts";
import { day, within } from "./restraint.ts";
import type { NodeState } from "./state.ts";

/** What keeps two programs from undoing each other's work without end. */

/** As often a change of others is mended within a day; whoever makes it once more will make it again. */
const mendedADay = 2;

/**
 * Whether what others do to these handlers was mended as often as it is within a day, whatever it was each time: a
 * program that writes its own file anew leaves once nothing of ours, and once what it had read before.
 */
export function isTooOften(
  { repairs = [] }: Root,
  owner: string,
  handlers: readonly string[],
  now: Date,
): boolean {
  const same = within(repairs, day, now).filter(
    (each) => each.owner === owner && each.handlers.some((name) => handlers.includes(name)),
  );
  return same.length >= mendedADay;
}

/** What an owner's automatic runs leave alone, where that is so. */
export function contendedOf({ contended = {} }: Root, owner: string): Contended | undefined {
  return Object.hasOwn(contended, owner) ? contended[owner] : undefined;
}

/**
 * Throws `held` for an automatic run where another writer was met; a newer incarnation and an uninstall go on.
 * @param record as it is, or as it is told where it is lost
 */
export function refuseContended(env: Environment, record: NodeRecord, request: Request): void {
  const { owner, incarnation, intent } = request;
  if (env.caller?.automatic !== true || intent.command === "uninstall") return;
  const { rootFile } = env.site;
  const contended = contendedOf(rootOf(record, rootFile), owner);
  if (contended === undefined || isNewer(record, rootFile, owner, incarnation, env.now())) return;
  throw contendedError(owner, contended);
}

/** What is said of an owner whose handlers another writer takes away. */
export function contendedError(owner: string, { since, cause, handlers }: Contended): ShimctlError {
  return new ShimctlError(
    "held",
    `Contended, as another program changes ${handlers.join(", ")} again and again: ${cause}, found at ${since}`,
    {
      hint: `find that program and end it, then run \`${releaseCommand(owner)}\`; a person's own install goes through as well`,
      contended: { since, cause, handlers },
    },
  );
}

/** Notes, for good, that another writer was met. The caller holds the node's lock. */
export function contend(
  env: Environment,
  state: NodeState,
  owner: string,
  { cause, handlers }: Mended,
): Contended {
  const { record } = state.readRecord();
  const { rootFile } = env.site;
  const contended: Contended = { since: env.now().toISOString(), cause, handlers: [...handlers] };
  const root = rootOf(record, rootFile);
  const all = { ...root.contended, [owner]: contended };
  state.writeRecord(withFields(record, rootFile, root.repairs ?? [], all));
  state.append(randomUUID(), {
    step: "hold",
    owner,
    reason: `another program changes ${handlers.join(", ")} again and again: ${cause}`,
    who: env.caller?.who ?? "shimctl",
    contended: { rootFile, cause, handlers: [...handlers] },
  });
  return contended;
}

/**
 * The record once an owner was changed: what was mended is counted, and a person, a newer incarnation or the owner's
 * end begin the count anew. @param ends whether it is one of these
 */
export function contentionAfter(
  record: NodeRecord,
  rootFile: string,
  owner: string,
  mended: Mended | undefined,
  ends: boolean,
  now: Date,
): NodeRecord {
  const root = rootOf(record, rootFile);
  if (mended === undefined && root.repairs === undefined && root.contended === undefined) return record;
  const { [owner]: own, ...others } = root.contended ?? {};
  const contended = own === undefined || ends ? others : { ...others, [owner]: own };
  const recent = within(root.repairs ?? [], day, now).filter((each) => !ends || each.owner !== owner);
  if (mended === undefined) return withFields(record, rootFile, recent, contended);
  const { cause, handlers } = mended;
  const repair = { time: now.toISOString(), owner, cause, handlers: [...handlers] };
  return counted(withFields(record, rootFile, [...recent, repair], contended), { repair: cause });
}

/** Whether somebody has to be told that automatic runs of an owner go on. */
export function hasEnded(before: NodeRecord, after: NodeRecord, rootFile: string, owner: string): boolean {
  return (
    contendedOf(rootOf(before, rootFile), owner) !== undefined &&
    contendedOf(rootOf(after, rootFile), owner) === undefined
  );
}

/**
 * Lets automatic runs of an owner, or of all, go on in spite of another writer. The caller holds the node's lock.
 * @returns whether there was one
 */
export function releaseContended(
  state: NodeState,
  owner: string | undefined,
  who: string,
  now: Date,
): boolean {
  const { record } = state.readRecord();
  const released = new Set<string>();
  let next = record;
  for (const [rootFile, { contended = {} }] of Object.entries(record.roots))
    for (const each of Object.keys(contended)) {
      if (owner !== undefined && each !== owner) continue;
      next = contentionAfter(next, rootFile, each, undefined, true, now);
      released.add(each);
    }
  if (released.size === 0) return false;
  state.writeRecord(next);
  for (const each of released)
    state.append(randomUUID(), { step: "release", owner: each, who, contended: true });
  return true;
}

/** The record with what the journal tells of other writers, for where it is lost. */
export function withContendedTold(
  record: NodeRecord,
  rootFile: string,
  journal: readonly JournalLine[],
): NodeRecord {
  const told = new Map<string, Contended>();
  for (const line of journal) {
    if (line.step === "hold" && line.contended?.rootFile === rootFile) {
      const { cause, handlers } = line.contended;
      told.set(line.owner, { since: line.time, cause, handlers });
    } else if (line.step === "release" && line.contended === true) told.delete(line.owner);
  }
  const { repairs = [], contended } = rootOf(record, rootFile);
  return withFields(record, rootFile, repairs, { ...Object.fromEntries(told), ...contended });
}

/** Whether an incarnation is newer than what is recorded of its owner. */
export function isNewer(
  record: NodeRecord,
  rootFile: string,
  owner: string,
  incarnation: Incarnation | undefined,
  now: Date,
): boolean {
  if (incarnation === undefined) return false;
  const latest = latestOf(orderIn(record, rootFile, owner, now));
  if (latest === undefined) return Object.hasOwn(ownersOf(record, rootFile), owner);
  if (incarnation.epoch === "now") return true;
  return (compareEpochs(incarnation.epoch, latest.epoch) ?? 0) > 0;
}

function withFields(
  record: NodeRecord,
  rootFile: string,
  repairs: readonly Repair[],
  contended: Readonly<Record<string, Contended>>,
): NodeRecord {
  const { repairs: _, contended: __, ...rest } = rootOf(record, rootFile);
  const isKnown = Object.hasOwn(record.roots, rootFile);
  const more = {
    ...(repairs.length === 0 ? {} : { repairs: [...repairs] }),
    ...(Object.keys(contended).length === 0 ? {} : { contended: { ...contended } }),
  };
  const isSaid = Object.keys(more).length + Object.keys(rest).length + Object.keys(rest.owners).length > 1;
  const { [rootFile]: ___, ...others } = record.roots;
  if (!isSaid) return isKnown ? { ...record, roots: others } : record;
  return { ...record, roots: { ...others, [rootFile]: { ...rest, ...more } } };
}
