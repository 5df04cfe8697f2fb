import "../jitless.ts";
import * as z from "zod/mini";
import { type Bases, Basis } from "../handler/asked.ts";
import { Handler } from "../handler/model.ts";
import {
  compareEpochs,
  type Known,
  type Latest,
  latestOf,
  living,
  type Order,
  orderFields,
  orderOf,
  Tombstone,
  tombstonesAfter,
} from "./epoch.ts";

/** The format that is written. 1 had no epochs, tombstones, holds and adopted definitions; it is read as this one. */
export const recordFormat = 2;

// Loose: a later release of the same format may have added keys, which are kept as they stand.
const Owners = z.lazy(() =>
  z.record(
    z.string(),
    z.looseObject({
      /** As they were resolved when they were written. */
      handlers: z.record(z.string(), Handler),
      /** For those that are made from a preset: what it was then. */
      bases: z.optional(z.record(z.string(), Basis)),
      /** For those that were taken over from others: where they stood. */
      adopted: z.optional(z.record(z.string(), z.array(AdoptedFrom))),
      updated: z.string(),
      ...orderFields,
    }),
  ),
);

export type Owners = z.infer<typeof Owners>;

/** A plan that was undone: the same on the same inputs is not tried again by itself until `until`. */
const Held = z.lazy(() =>
  z.looseObject({
    inputs: z.string(),
    why: z.string(),
    tries: z.number(),
    since: z.string(),
    until: z.string(),
  }),
);

export type Held = z.infer<typeof Held>;

/** A restart of the engine that we made. */
const Restart = z.lazy(() => z.looseObject({ time: z.string(), owner: z.string(), why: z.string() }));

export type Restart = z.infer<typeof Restart>;

/** A definition that stood in somebody else's file or block until an owner took it over. */
export const AdoptedFrom = z.lazy(() =>
  z.looseObject({
    path: z.string(),
    /** The owner whose it was; absent for the administrator's and other tools'. */
    owner: z.optional(z.string()),
    /** SHA-256 of the file's bytes before, which the store keeps. */
    store: z.string(),
  }),
);

export type AdoptedFrom = z.infer<typeof AdoptedFrom>;

/** By handler. */
export type AdoptedHandlers = Readonly<Record<string, readonly AdoptedFrom[]>>;

/** What was written and no start of the engine was seen to serve yet, and since when. */
const Pending = z.lazy(() => z.looseObject({ since: z.string() }));

export type Pending = z.infer<typeof Pending>;

/** Automatic runs for an owner only report, until somebody releases it. Has nothing to do with `Held`. */
const Hold = z.lazy(() =>
  z.looseObject({
    since: z.string(),
    until: z.optional(z.string()),
    reason: z.optional(z.string()),
    /** Who made it: a user and a host, for people. */
    who: z.string(),
    /** The command: one that is not `hold` was made by itself, and goes with the person's next install. */
    by: z.string(),
  }),
);

export type Hold = z.infer<typeof Hold>;

/** What others had done to an owner's handlers and an automatic run mended; those of the last day. */
const Repair = z.lazy(() =>
  z.looseObject({ time: z.string(), owner: z.string(), cause: z.string(), handlers: z.array(z.string()) }),
);

export type Repair = z.infer<typeof Repair>;

/** An owner whose handlers another writer takes away again and again: automatic runs leave it alone. */
const Contended = z.lazy(() =>
  z.looseObject({ since: z.string(), cause: z.string(), handlers: z.array(z.string()) }),
);

export type Contended = z.infer<typeof Contended>;

/** How often something happened since this record was begun; by reason or cause. They only grow. */
const Counts = z.lazy(() =>
  z.looseObject({
    restarts: z.optional(z.record(z.string(), z.number())),
    repairs: z.optional(z.record(z.string(), z.number())),
    undone: z.optional(z.number()),
  }),
);

export type Counts = z.infer<typeof Counts>;

/** A label that an owner has set on a Kubernetes node. */
const NodeLabel = z.lazy(() =>
  z.looseObject({
    owner: z.string(),
    node: z.string(),
    key: z.string(),
    value: z.string(),
    /** Since when it shall be gone, and the API could not be reached to say so. */
    pending: z.optional(z.string()),
  }),
);

export type NodeLabel = z.infer<typeof NodeLabel>;

const Root = z.lazy(() =>
  z.looseObject({
    owners: Owners,
    /** On the Kubernetes node that this is. */
    labels: z.optional(z.array(NodeLabel)),
    held: z.optional(z.record(z.string(), Held)),
    pending: z.optional(Pending),
    /** Oldest first. */
    repairs: z.optional(z.array(Repair)),
    /** By owner. */
    contended: z.optional(z.record(z.string(), Contended)),
    /** Oldest first. */
    tombstones: z.optional(z.array(Tombstone)),
  }),
);

export type Root = z.infer<typeof Root>;

/** What we own on this node. It is rebuilt from the markers in the files when it is lost. */
export const NodeRecord = z.lazy(() =>
  z.looseObject({
    format: z.literal(recordFormat),
    /** By the engine's root file: two configurations on one node have nothing to do with each other. */
    roots: z.record(z.string(), Root),
    /** Folders that we made, outermost first; they go when they are empty again. */
    folders: z.array(z.string()),
    /** Of this node's engine, over all owners and reboots; those of the last day. */
    restarts: z.optional(z.array(Restart)),
    counts: z.optional(Counts),
    /** How long the last operation waited for the node's lock. */
    lockWaitMs: z.optional(z.number()),
    /** By owner; `*`: the whole node. */
    holds: z.optional(z.record(z.string(), Hold)),
  }),
);

export type NodeRecord = z.infer<typeof NodeRecord>;

export const emptyRecord: NodeRecord = { format: recordFormat, roots: {}, folders: [] };

/** A record as it was read, as one of this release's format. */
export interface ReadRecord {
  readonly record: NodeRecord;
  /** There is none, or nothing of it can be read: the markers in the files say what is ours. */
  readonly lost: boolean;
  /** There is one, of which nothing can be read. */
  readonly unreadable?: boolean;
  /** The format that it stands in on disk; `undefined` where nobody can tell. */
  readonly format?: number;
  /** Parts of it that could not be read and count as not there, as paths of keys. */
  readonly damaged?: readonly string[];
}

/**
 * Reads a record of any format, as far as it can be understood; what may be done with a newer one is the
 * caller's to decide. Never throws: damaged bytes count as lost, damaged parts as not there, since the
 * markers in the files say the same.
 */
export function parseRecord(bytes: Uint8Array | undefined): ReadRecord {
  if (bytes === undefined) return { record: emptyRecord, lost: true };
  const unreadable: ReadRecord = { record: emptyRecord, lost: true, unreadable: true };
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return unreadable;
  }
  if (typeof value !== "object" || value === null) return unreadable;
  const format: unknown = Reflect.get(value, "format");
  if (typeof format !== "number" || !Number.isSafeInteger(format) || format < 1) return unreadable;
  const { record, damaged } = understood({ ...value, format: recordFormat });
  return record === undefined
    ? { ...unreadable, format }
    : { record, lost: false, format, ...(damaged.length === 0 ? {} : { damaged }) };
}

/** More damage than that is no record any more. */
const damageLimit = 64;

/** The record without what cannot be read in it: one bad entry must not cost the others. */
function understood(value: object): { record: NodeRecord | undefined; damaged: readonly string[] } {
  const damaged = new Set<string>();
  while (damaged.size <= damageLimit) {
    const parsed = NodeRecord.safeParse(value);
    if (parsed.success) return { record: parsed.data, damaged: [...damaged] };
    const issue = parsed.error.issues[0];
    const unknown = issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
    const path = [...(issue?.path ?? []), ...unknown];
    const gone = takeOut(value, path);
    if (gone === undefined) break;
    damaged.add(gone.map(String).join("."));
  }
  return { record: undefined, damaged: [...damaged] };
}

/** Takes out what stands at a path or, where nothing does, what misses it; tells what it was. */
function takeOut(value: object, path: readonly PropertyKey[]): readonly PropertyKey[] | undefined {
  let parent: object = value;
  for (const [index, key] of path.entries()) {
    if (!Object.hasOwn(parent, key)) return index === 0 ? undefined : takeOut(value, path.slice(0, index));
    const inner: unknown = Reflect.get(parent, key);
    if (index === path.length - 1) {
      if (Array.isArray(parent)) parent.splice(Number(key), 1);
      else Reflect.deleteProperty(parent, key);
      return path;
    }
    if (typeof inner !== "object" || inner === null) return undefined;
    parent = inner;
  }
  return undefined;
}

/** A damaged record, with the owners, folders and holds that only another account of the same node has. */
export function withMissing(record: NodeRecord, other: NodeRecord): NodeRecord {
  const roots = Object.entries(other.roots).map(([rootFile, root]) => {
    const known = record.roots[rootFile];
    const owners: Owners = { ...root.owners };
    for (const [owner, entry] of Object.entries(known?.owners ?? {})) {
      const { epoch, instance, instances } = entryOf(root, owner) ?? {};
      const isLost = entry.epoch === undefined && epoch !== undefined;
      owners[owner] = isLost ? { ...entry, epoch, instance, instances } : entry;
    }
    const has = (one: Tombstone) =>
      known?.tombstones?.some(
        (each) => each.owner === one.owner && each.epoch === one.epoch && each.instance === one.instance,
      );
    const tombstones = [
      ...(root.tombstones ?? []).filter((each) => !has(each)),
      ...(known?.tombstones ?? []),
    ];
    const buried = tombstones.length === 0 ? {} : { tombstones };
    return [rootFile, { ...root, ...known, owners, ...buried }] as const;
  });
  return {
    ...other,
    ...record,
    roots: { ...record.roots, ...Object.fromEntries(roots) },
    folders: [...new Set([...record.folders, ...other.folders])],
    ...(other.holds === undefined ? {} : { holds: { ...other.holds, ...record.holds } }),
  };
}

export function renderRecord(record: NodeRecord): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`);
}

/** The owners of one configuration. */
export function ownersOf(record: NodeRecord, rootFile: string): Owners {
  return rootOf(record, rootFile).owners;
}

/** All that is known of one configuration. */
export function rootOf(record: NodeRecord, rootFile: string): Root {
  return (Object.hasOwn(record.roots, rootFile) ? record.roots[rootFile] : undefined) ?? { owners: {} };
}

/** The record with another root; one that says nothing any more is left out. */
export function withRoot(
  record: NodeRecord,
  rootFile: string,
  root: Pick<Root, "owners" | "held" | "tombstones"> & { readonly pending?: Pending | undefined },
): NodeRecord {
  const { [rootFile]: before = {}, ...others } = record.roots;
  const { owners, held = {}, pending, tombstones = [] } = root;
  const { owners: _, held: __, pending: ___, tombstones: ____, ...kept } = before as Partial<Root>;
  const said = [owners, held, tombstones, kept].reduce((sum, part) => sum + Object.keys(part).length, 0);
  const isEmpty = said === 0 && pending === undefined;
  const next: Root = {
    ...kept,
    owners,
    ...(Object.keys(held).length === 0 ? {} : { held }),
    ...(pending === undefined ? {} : { pending }),
    ...(tombstones.length === 0 ? {} : { tombstones }),
  };
  return { ...record, roots: isEmpty ? others : { ...others, [rootFile]: next } };
}

/** Whether nothing of ours is in any configuration any more, whatever is recorded of the past or still to be done. */
export function isIdle({ roots }: NodeRecord): boolean {
  return Object.values(roots).every(({ owners }) =>
    Object.values(owners).every(({ handlers }) => Object.keys(handlers).length === 0),
  );
}

/** What is known of the order of one owner's incarnations. */
export function orderIn(record: NodeRecord, rootFile: string, owner: string, now: Date): Known {
  return knownOf(rootOf(record, rootFile), owner, now);
}

/** The newest incarnation of each owner whose order is kept, by name. */
export function latestByOwner(root: Root, now: Date): (readonly [owner: string, latest: Latest])[] {
  const names = [...Object.keys(root.owners), ...(root.tombstones ?? []).map(({ owner }) => owner)];
  return [...new Set(names)].sort().flatMap((owner) => {
    const latest = latestOf(knownOf(root, owner, now));
    return latest === undefined ? [] : [[owner, latest] as const];
  });
}

/** What is recorded of an owner; any name that every object knows is one that an owner may have. */
export function entryOf({ owners }: Root, owner: string): Owners[string] | undefined {
  return Object.hasOwn(owners, owner) ? owners[owner] : undefined;
}

function knownOf(root: Root, owner: string, now: Date): Known {
  return {
    entry: entryOf(root, owner),
    tombstones: living(root.tombstones ?? [], now.getTime()).filter((tombstone) => tombstone.owner === owner),
  };
}

/** What one owner was left with in one configuration. */
export function handlersIn(record: NodeRecord, rootFile: string, owner: string): Handler[] {
  const owners = ownersOf(record, rootFile);
  return Object.hasOwn(owners, owner) ? Object.values(owners[owner]?.handlers ?? {}) : [];
}

/** What the presets of one owner's handlers were when they were installed. */
export function basesIn(record: NodeRecord, rootFile: string, owner: string): Bases {
  const owners = ownersOf(record, rootFile);
  return Object.hasOwn(owners, owner) ? (owners[owner]?.bases ?? {}) : {};
}

/** Where those of one owner's handlers stood that were taken over from others. */
export function adoptedBy(record: NodeRecord, rootFile: string, owner: string): AdoptedHandlers {
  const owners = ownersOf(record, rootFile);
  return Object.hasOwn(owners, owner) ? (owners[owner]?.adopted ?? {}) : {};
}

/** What an owner's entry says besides its handlers. */
export interface Owned {
  readonly bases?: Bases | undefined;
  /** What was taken over from others just now. */
  readonly adopted?: AdoptedHandlers | undefined;
  /** Without one, the owner keeps the one that it has. */
  readonly order?: Order | undefined;
}

/** The record after an owner's handlers in one configuration became exactly `handlers`. */
export function withOwner(
  record: NodeRecord,
  rootFile: string,
  owner: string,
  handlers: readonly Handler[],
  time: string,
  { bases = {}, adopted = {}, order }: Owned = {},
): NodeRecord {
  const root = rootOf(record, rootFile);
  const { [owner]: _, ...rest } = root.owners;
  const known = entryOf(root, owner);
  const { bases: __, adopted: before, epoch: ___, instance: ____, instances: _____, ...kept } = known ?? {};
  const names = handlers.map((handler) => handler.name);
  const { epoch, instance, instances } = order ?? orderOf(known, names);
  const present = (places: AdoptedHandlers): Record<string, AdoptedFrom[]> =>
    Object.fromEntries(
      names.flatMap((name) => (Object.hasOwn(places, name) ? [[name, [...(places[name] ?? [])]]] : [])),
    );
  const from = present({ ...before, ...adopted });
  const others = withoutAdopted(rest, present(adopted));
  const entry = {
    ...kept,
    handlers: Object.fromEntries(handlers.map((handler) => [handler.name, handler])),
    ...(Object.keys(bases).length === 0 ? {} : { bases: { ...bases } }),
    ...(Object.keys(from).length === 0 ? {} : { adopted: from }),
    updated: time,
    ...(epoch === undefined ? {} : { epoch, instance: instance ?? "", instances }),
  };
  // An owner that has nothing for now, and is not over, is newer than what was before it all the same.
  const isOver = order?.ends === true && Object.keys(order.instances).length === 0;
  const stays = handlers.length > 0 || (epoch !== undefined && !isOver);
  const tombstones = tombstonesAfter(root.tombstones ?? [], owner, order, time);
  const owners = stays ? { ...others, [owner]: entry } : others;
  return withRoot(record, rootFile, { ...root, owners, tombstones });
}

/**
 * The record after an operation of the owner was begun and undone: what it has is as before, and yet it is at that
 * operation's epoch, where that is a newer one.
 */
export function withEpoch(
  record: NodeRecord,
  rootFile: string,
  owner: string,
  begun: Order,
  now: Date,
): NodeRecord {
  const latest = latestOf(orderIn(record, rootFile, owner, now));
  if (latest !== undefined && !((compareEpochs(begun.epoch, latest.epoch) ?? 0) > 0)) return record;
  const entry = entryOf(rootOf(record, rootFile), owner);
  const handlers = Object.values(entry?.handlers ?? {});
  const names = Object.keys({ ...entry?.instances, ...entry?.handlers });
  const instances = Object.fromEntries(names.map((name) => [name, begun.instance ?? ""]));
  const order = { ...begun, instances, ends: false };
  return withOwner(record, rootFile, owner, handlers, now.toISOString(), { bases: entry?.bases, order });
}

/** An owner's entry with all that it says of these handlers gone, so that nothing of it counts for later ones. */
function withoutHandlers(entry: Owners[string], lost: readonly string[]): Owners[string] {
  const rest = <Value>(values: Readonly<Record<string, Value>>) =>
    Object.fromEntries(Object.entries(values).filter(([name]) => !lost.includes(name)));
  const { adopted, bases, instances } = entry;
  return {
    ...entry,
    handlers: rest(entry.handlers),
    ...(adopted === undefined ? {} : { adopted: rest(adopted) }),
    ...(bases === undefined ? {} : { bases: rest(bases) }),
    ...(instances === undefined ? {} : { instances: rest(instances) }),
  };
}

/** The other owners without the handlers that were taken over from them. */
function withoutAdopted(owners: Owners, adopted: AdoptedHandlers): Owners {
  if (Object.keys(adopted).length === 0) return owners;
  return Object.fromEntries(
    Object.entries(owners).flatMap(([owner, entry]) => {
      const lost = Object.keys(adopted).filter((name) => adopted[name]?.some((from) => from.owner === owner));
      if (lost.length === 0) return [[owner, entry]];
      const { handlers } = withoutHandlers(entry, lost);
      // One that has nothing any more is at its epoch all the same.
      return Object.keys(handlers).length === 0 && entry.epoch === undefined
        ? []
        : [[owner, withoutHandlers(entry, lost)]];
    }),
  );
}

/** What another owner installed after this one had lost it stands in the record twice. */
export function recordedByOthers(
  owners: Owners,
  owner: string,
): ReadonlyMap<string, { readonly owner: string; readonly isLater: boolean }> {
  const own = Object.hasOwn(owners, owner) ? (owners[owner]?.updated ?? "") : "";
  const others = Object.entries(owners).filter(([name]) => name !== owner);
  return new Map(
    others.flatMap(([name, { handlers, updated }]) =>
      Object.keys(handlers).map((handler) => [handler, { owner: name, isLater: updated >= own }] as const),
    ),
  );
}
