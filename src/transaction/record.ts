import * as z from "zod/mini";
import { ShimctlError } from "../error.ts";
import { Handler } from "../handler/model.ts";

const formatNumber = 1;

/** What we own on this node. It is rebuilt from the markers in the files when it is lost. */
export const NodeRecord = z.strictObject({
  format: z.literal(formatNumber),
  owners: z.record(
    z.string(),
    z.strictObject({
      /** As they were resolved when they were written. */
      handlers: z.record(z.string(), Handler),
      updated: z.string(),
    }),
  ),
  /** Folders that we made, outermost first; they go when they are empty again. */
  folders: z.array(z.string()),
});

export type NodeRecord = z.infer<typeof NodeRecord>;

export const emptyRecord: NodeRecord = { format: formatNumber, owners: {}, folders: [] };

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

/** The record after an owner's handlers became exactly `handlers`. */
export function withOwner(
  record: NodeRecord,
  owner: string,
  handlers: readonly Handler[],
  time: string,
): NodeRecord {
  const { [owner]: _, ...others } = record.owners;
  const entry = {
    handlers: Object.fromEntries(handlers.map((handler) => [handler.name, handler])),
    updated: time,
  };
  return { ...record, owners: handlers.length === 0 ? others : { ...others, [owner]: entry } };
}
