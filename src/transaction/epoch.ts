import "../jitless.ts";
import * as z from "zod/mini";
import { ShimctlError } from "../error.ts";

/**
 * Epochs put the incarnations of one owner in order: what arrives late, such as the clean-up of a pod that was
 * replaced, must not undo what a newer one did. An instance names one of several incarnations of the same epoch.
 *
 * An epoch is a whole number, or a time in UTC with as many digits of its fraction as count. Each has one
 * spelling, so that equal ones are equal strings.
 */
const Epoch = z.string().check(z.regex(/^(0|[1-9]\d*|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z)$/));

/** What a change says of its owner's order, for the record; in the journal, for whoever finishes or undoes it. */
export const Order = z.lazy(() =>
  z.strictObject({
    epoch: Epoch,
    /** Empty for an incarnation without a name; `null` for a person, whose uninstall is every instance's end. */
    instance: z.nullable(z.string()),
    /** Which instance of this epoch asked last for each of the owner's handlers. */
    instances: z.record(z.string(), z.string()),
    /** An uninstall that leaves nothing of its instance: nothing late of the same may bring it back. */
    ends: z.boolean(),
  }),
);

export type Order = z.infer<typeof Order>;

/** An incarnation that is over. */
export const Tombstone = z.lazy(() =>
  z.strictObject({
    owner: z.string(),
    epoch: Epoch,
    /** `null`: every instance of this epoch is over, as a person removed what was left of them. */
    instance: z.nullable(z.string()),
    time: z.string(),
  }),
);

export type Tombstone = z.infer<typeof Tombstone>;

/** What the owner's entry in the record says besides its handlers. */
export const orderFields = {
  epoch: z.optional(Epoch),
  /** The last one that changed anything. */
  instance: z.optional(z.string()),
  instances: z.optional(z.record(z.string(), z.string())),
};

type OrderFields = { readonly [Key in keyof typeof orderFields]?: z.infer<(typeof orderFields)[Key]> };

/** What is known of one owner's order. */
export interface Known {
  readonly entry: OrderFields | undefined;
  readonly tombstones: readonly Tombstone[];
}

/** Who asks: `epoch` is `now`, or as `parseEpoch` gives it; an instance without a name is empty. */
export interface Incarnation {
  readonly epoch: string;
  readonly instance: string;
}

/** The newest that is known of an owner. */
export interface Latest {
  readonly epoch: string;
  /** Empty for one without a name, `null` for all of this epoch. */
  readonly instance: string | null;
  readonly uninstalled: boolean;
}

export type Turn =
  /** Whoever asks goes on, as this incarnation; `undefined`: outside of any order. */
  | { readonly kind: "go on"; readonly incarnation: Incarnation | undefined }
  | { readonly kind: "superseded"; readonly latest: Latest; readonly words: string };

/** How far ahead of the node's clock a time may be. */
const aheadMs = 3_600_000;
const lifetimeMs = 30 * 86_400_000;
const mostTombstones = 1_000;
const nanosPerMs = 1_000_000n;

/**
 * An epoch as it was written, in its one spelling: a whole number of up to 18 digits, or an RFC 3339 time with
 * up to 9 digits of fraction and any offset; `undefined` for anything else. A leap second is the one after it.
 */
export function parseEpoch(text: string): string | undefined {
  if (/^\d{1,18}$/.test(text)) return String(BigInt(text));
  const [, date, clock, second, fraction = "", zone] =
    /^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/.exec(text) ?? [];
  if (date === undefined || clock === undefined || second === undefined || zone === undefined)
    return undefined;
  const isLeap = second === "60";
  const local = `${date}T${clock}:${isLeap ? "59" : second}.000Z`;
  const ms = Date.parse(local);
  // A day that the month does not have would be one of the next month.
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== local) return undefined;
  const [sign, hours, minutes] =
    zone.length === 1
      ? [1, 0, 0]
      : [zone[0] === "-" ? -1 : 1, Number(zone.slice(1, 3)), Number(zone.slice(4))];
  if (hours > 23 || minutes > 59) return undefined;
  const utc = ms - sign * (hours * 60 + minutes) * 60_000 + (isLeap ? 1_000 : 0);
  const spelled = spell(BigInt(utc) * nanosPerMs + BigInt(fraction.padEnd(9, "0")));
  return Epoch.safeParse(spelled).success ? spelled : undefined;
}

/** What names an instance, as error messages say it. */
export const instanceRule = "must be at most 128 letters, digits, '.', '_', ':' or '-'";

export function isInstance(text: string): boolean {
  return /^[A-Za-z0-9._:-]{1,128}$/.test(text);
}

/** Below, above or at zero, as with `sort`; `undefined` for a number and a time, which have no order. */
export function compareEpochs(one: string, other: string): number | undefined {
  if (isTime(one) !== isTime(other)) return undefined;
  const [a, b] = [countOf(one), countOf(other)];
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Throws `usage` for a time that is not to be: all that comes later would be older than that.
 *
 * @param called how errors call it
 */
export function refuseAhead(epoch: string, now: Date, called: string): void {
  if (epoch === "now" || !isTime(epoch)) return;
  if (countOf(epoch) <= BigInt(now.getTime() + aheadMs) * nanosPerMs) return;
  throw new ShimctlError(
    "usage",
    `Cannot use ${called}, which is more than an hour ahead of the node's clock: ${epoch}`,
    { hint: `see whose clock is wrong; on this node it is ${now.toISOString()}`, retryable: true },
  );
}

/**
 * Whether it is its turn, by what is recorded:
 *
 * - An older epoch is superseded: it does nothing, whatever it asks for.
 * - A newer epoch goes on, and takes over what older ones have left.
 * - An equal epoch goes on. Its uninstall removes what its own instance asked for last, see `staying`. Its install
 *   or apply is superseded where the same instance was uninstalled: that comes from one that is gone, late. Another
 *   instance is another incarnation, and goes on.
 * - An install or apply without an epoch is refused where one is recorded: it might be older or newer.
 * - An uninstall without an epoch is a person's, who may always remove. It ends the recorded epoch for all
 *   instances, so that only a newer one brings anything back.
 *
 * Throws ShimctlError `conflict` for one without an epoch, and for a number where a time is recorded, or a time for a number
 */
export function takeTurn(
  known: Known,
  owner: string,
  command: string,
  asked: Incarnation | undefined,
  now: Date,
  automatic = false,
): Turn {
  const latest = latestOf(known);
  if (asked === undefined) {
    if (latest === undefined || (command === "uninstall" && !automatic))
      return { kind: "go on", incarnation: undefined };
    throw new ShimctlError(
      "conflict",
      `Cannot ${command} without --epoch, as owner '${owner}' has one recorded: ${said(latest)}`,
      { hint: "pass --epoch now, which is newer than that, or a newer one" },
    );
  }
  const { instance } = asked;
  const epoch = asked.epoch === "now" ? after(latest?.epoch, now) : asked.epoch;
  const incarnation: Incarnation = { epoch, instance };
  if (latest === undefined) return { kind: "go on", incarnation };
  const order = compareEpochs(epoch, latest.epoch);
  if (order === undefined) {
    const [is, recorded] = isTime(epoch) ? ["a time", "a number"] : ["a number", "a time"];
    throw new ShimctlError(
      "conflict",
      `Cannot compare ${is} as --epoch with what owner '${owner}' has recorded, ${recorded}: ${said(latest)}`,
      {
        hint: `pass ${recorded}, or --epoch now, which is newer than what is recorded${command === "uninstall" ? "; a person may leave --epoch out" : ""}`,
      },
    );
  }
  const was = latest.uninstalled ? "was uninstalled at" : "is at";
  if (order < 0) {
    const words = `owner '${owner}' ${was} ${said(latest)}, which is newer than ${said(incarnation)}`;
    return { kind: "superseded", latest, words };
  }
  const isOver = known.tombstones.some((each) => each.epoch === epoch && isOf(each, instance));
  if (order === 0 && command !== "uninstall" && isOver) {
    const words = `${said(incarnation)} of owner '${owner}' was uninstalled; a newer epoch may install again`;
    return { kind: "superseded", latest: { ...latest, instance, uninstalled: true }, words };
  }
  return { kind: "go on", incarnation };
}

/** What an uninstall leaves, as another instance of the same epoch asked for it: by handler, that instance. */
export function staying({ entry }: Known, incarnation: Incarnation | undefined): ReadonlyMap<string, string> {
  if (incarnation === undefined || entry?.epoch !== incarnation.epoch) return new Map();
  const others = Object.entries(entry.instances ?? {});
  return new Map(others.filter(([, instance]) => instance !== incarnation.instance));
}

/**
 * What the record shall say after a change that leaves `left`; `undefined`: what it says now. A handler is the last instance's that asked for it:
 * where one pod takes another's place within an epoch, it is the second that still wants it.
 */
export function orderAfter(
  known: Known,
  command: string,
  incarnation: Incarnation | undefined,
  asked: ReadonlySet<string>,
  left: readonly string[],
): Order | undefined {
  const { entry } = known;
  if (incarnation === undefined) {
    const latest = latestOf(known);
    if (command !== "uninstall" || left.length > 0 || latest === undefined) return undefined;
    return { epoch: latest.epoch, instance: null, instances: {}, ends: true };
  }
  const { epoch, instance } = incarnation;
  const before = entry?.epoch === epoch ? (entry.instances ?? {}) : {};
  const instances = Object.fromEntries(
    left.map((name) => [
      name,
      asked.has(name) || !Object.hasOwn(before, name) ? instance : (before[name] ?? instance),
    ]),
  );
  const ends = command === "uninstall" && !Object.values(instances).includes(instance);
  return { epoch, instance, instances, ends };
}

/** Whether the record says so already. */
export function isRecorded({ entry, tombstones }: Known, order: Order): boolean {
  const { epoch, instance, instances, ends } = order;
  const isOver = tombstones.some((each) => each.epoch === epoch && isOf(each, instance));
  if (ends && Object.keys(instances).length === 0) return entry === undefined && isOver;
  const names = new Set([...Object.keys(instances), ...Object.keys(entry?.instances ?? {})]);
  return (
    entry?.epoch === epoch &&
    entry.instance === instance &&
    [...names].every((name) => entry.instances?.[name] === instances[name]) &&
    (!ends || isOver)
  );
}

/** What its entry says of an owner that is left with `names`, where nobody said anything newer. */
export function orderOf(entry: OrderFields | undefined, names: readonly string[]): OrderFields {
  if (entry?.epoch === undefined) return {};
  const { epoch, instance = "", instances = {} } = entry;
  const left = Object.entries(instances).filter(([name]) => names.includes(name));
  return { epoch, instance, instances: Object.fromEntries(left) };
}

/** Those that still count. */
export function living(tombstones: readonly Tombstone[], now: number): Tombstone[] {
  return tombstones.filter(({ time }) => !(now - Date.parse(time) > lifetimeMs));
}

/** The tombstones after a change; what an owner's newer epoch makes needless goes. */
export function tombstonesAfter(
  tombstones: readonly Tombstone[],
  owner: string,
  order: Order | undefined,
  time: string,
): Tombstone[] {
  const current = living(tombstones, Date.parse(time));
  if (order === undefined) return current;
  const { epoch, instance, ends } = order;
  const others = current.filter(
    (each) => each.owner !== owner || (each.epoch === epoch && !(ends && each.instance === instance)),
  );
  return ends ? [...others, { owner, epoch, instance, time }].slice(-mostTombstones) : others;
}

/** What is recorded as the newest of an owner; nothing where its order is not kept. */
export function latestOf({ entry, tombstones }: Known): Latest | undefined {
  const buried = tombstones.reduce<Tombstone | undefined>(
    (newest, each) =>
      newest === undefined || (compareEpochs(each.epoch, newest.epoch) ?? 0) >= 0 ? each : newest,
    undefined,
  );
  if (entry?.epoch !== undefined) {
    const isNewest = buried === undefined || (compareEpochs(entry.epoch, buried.epoch) ?? 0) >= 0;
    if (isNewest) return { epoch: entry.epoch, instance: entry.instance ?? "", uninstalled: false };
  }
  return buried === undefined
    ? undefined
    : { epoch: buried.epoch, instance: buried.instance, uninstalled: true };
}

/** In words for people: `epoch 5`, `epoch 5, instance b`. */
function said({ epoch, instance }: Incarnation | Latest): string {
  return `epoch ${epoch}${instance === "" || instance === null ? "" : `, instance ${instance}`}`;
}

/** The node's time, and yet newer than what is recorded. */
function after(recorded: string | undefined, now: Date): string {
  const time = BigInt(now.getTime()) * nanosPerMs;
  if (recorded === undefined) return spell(time);
  const next = countOf(recorded) + 1n;
  return isTime(recorded) ? spell(next > time ? next : time) : String(next);
}

function isOf(tombstone: Tombstone, instance: string | null): boolean {
  return tombstone.instance === null || tombstone.instance === instance;
}

function isTime(epoch: string): boolean {
  return epoch.endsWith("Z");
}

/** The number, or nanoseconds since 1970. */
function countOf(epoch: string): bigint {
  if (!isTime(epoch)) return BigInt(epoch);
  const [whole = "", fraction = ""] = epoch.slice(0, -1).split(".");
  return BigInt(Date.parse(`${whole}Z`)) * nanosPerMs + BigInt(fraction.padEnd(9, "0"));
}

function spell(nanos: bigint): string {
  const second = nanosPerMs * 1_000n;
  // Rounded down before 1970 as well.
  const rest = ((nanos % second) + second) % second;
  const whole = new Date(Number((nanos - rest) / nanosPerMs)).toISOString().replace(".000Z", "");
  const fraction = String(rest).padStart(9, "0").replace(/0+$/, "");
  return `${whole}${fraction === "" ? "" : `.${fraction}`}Z`;
}
