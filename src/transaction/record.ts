import "../jitless.ts";
import * as z from "zod/mini";
import { ShimctlError } from "../error.ts";
import { Basis } from "../handler/asked.ts";
import { Handler } from "../handler/model.ts";
import type { Bases } from "./settle.ts";

const formatNumber = 1;

const Owners = z.lazy(() =>
  z.record(
    z.string(),
    z.strictObject({
      /** As they were resolved when they were written. */
      handlers: z.record(z.string(), Handler),
      /** For those that are made from a preset: what it was then. */
      bases: z.optional(z.record(z.string(), Basis)),
      updated: z.string(),
    }),
  ),
);

export type Owners = z.infer<typeof Owners>;

/** A plan that was undone: the same on the same inputs is not tried again by itself until `until`. */
const Held = z.lazy(() =>
  z.strictObject({
    inputs: z.string(),
    why: z.string(),
    tries: z.number(),
    since: z.string(),
    until: z.string(),
  }),
);

export type Held = z.infer<typeof Held>;

/** A restart of the engine that we made. */
const Restart = z.lazy(() => z.strictObject({ time: z.string(), owner: z.string(), why: z.string() }));

export type Restart = z.infer<typeof Restart>;

/** What was written and no start of the engine was seen to serve yet, and since when. */
const Pending = z.lazy(() => z.strictObject({ since: z.string() }));

export type Pending = z.infer<typeof Pending>;

const Root = z.lazy(() =>
  z.strictObject({
    owners: Owners,
    held: z.optional(z.record(z.string(), Held)),
    pending: z.optional(Pending),
  }),
);

export type Root = z.infer<typeof Root>;

/** What we own on this node. It is rebuilt from the markers in the files when it is lost. */
export const NodeRecord = z.lazy(() =>
  z.strictObject({
    format: z.literal(formatNumber),
    /** By the engine's root file: two configurations on one node have nothing to do with each other. */
    roots: z.record(z.string(), Root),
    /** Folders that we made, outermost first; they go when they are empty again. */
    folders: z.array(z.string()),
    /** Of this node's engine, over all owners and reboots; those of the last day. */
    restarts: z.optional(z.array(Restart)),
  }),
);

export type NodeRecord = z.infer<typeof NodeRecord>;

export const emptyRecord: NodeRecord = { format: formatNumber, roots: {}, folders: [] };

/**
 * Reads a record. Older formats are read, a newer one is refused; damaged bytes count as lost, since the
 * markers in the files say the same.
 */
export function parseRecord(
  bytes: Uint8Array | undefined,
  path: string,
): { record: NodeRecord; lost: boolean } {
  if (bytes === undefined) return { record: emptyRecord, lost: true };
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return { record: emptyRecord, lost: true };
  }
  const format = typeof value === "object" && value !== null && "format" in value ? value.format : undefined;
  if (typeof format === "number" && format > formatNumber) {
    throw new ShimctlError("unsupported-node", `Cannot use the record of a newer shimctl: format ${format}`, {
      path,
      hint: "run the newer release",
    });
  }
  const parsed = NodeRecord.safeParse(value);
  return parsed.success ? { record: parsed.data, lost: false } : { record: emptyRecord, lost: true };
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
  root: Pick<Root, "owners" | "held"> & { readonly pending?: Pending | undefined },
): NodeRecord {
  const { [rootFile]: _, ...others } = record.roots;
  const { owners, held = {}, pending } = root;
  const isEmpty = Object.keys(owners).length + Object.keys(held).length === 0 && pending === undefined;
  const next: Root = {
    owners,
    ...(Object.keys(held).length === 0 ? {} : { held }),
    ...(pending === undefined ? {} : { pending }),
  };
  return { ...record, roots: isEmpty ? others : { ...others, [rootFile]: next } };
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

/** The record after an owner's handlers in one configuration became exactly `handlers`. */
export function withOwner(
  record: NodeRecord,
  rootFile: string,
  owner: string,
  handlers: readonly Handler[],
  time: string,
  bases: Bases = {},
): NodeRecord {
  const { [owner]: _, ...others } = ownersOf(record, rootFile);
  const entry = {
    handlers: Object.fromEntries(handlers.map((handler) => [handler.name, handler])),
    ...(Object.keys(bases).length === 0 ? {} : { bases: { ...bases } }),
    updated: time,
  };
  const owners = handlers.length === 0 ? others : { ...others, [owner]: entry };
  return withRoot(record, rootFile, { ...rootOf(record, rootFile), owners });
}
