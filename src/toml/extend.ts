import { renderKey, renderPath } from "./render.ts";
import { asScan, type KeyValue, lineAt, type Scan } from "./scan.ts";

/** Why a table cannot be added. */
export interface Obstacle {
  /** A clause for people, naming the key: "`runtimes` is an inline table, which …". */
  readonly reason: string;
  readonly offset: number;
  /** 1-based. */
  readonly line: number;
}

/**
 * What forbids a new `[tablePath]` header at the end of the file, or null when TOML allows it: an existing
 * table of that name, a value or inline table on the way, a table defined by dotted keys, an array of tables
 * (TOML 1.0, section "Table").
 */
export function canExtend(source: string | Scan, tablePath: readonly string[]): Obstacle | null {
  const scanned = asScan(source);
  for (const item of scanned.items) {
    const reason =
      item.kind === "key-value"
        ? valueReason(item, tablePath)
        : headerReason(item.kind, item.path, tablePath);
    if (reason !== null) return { reason, offset: item.span.start, line: lineAt(scanned, item.span.start) };
  }
  return null;
}

/** Whether `[tablePath]` stands in the file as a header: such a table stays when it becomes empty. */
export function isExplicitTable(source: string | Scan, tablePath: readonly string[]): boolean {
  return asScan(source).items.some(
    (item) =>
      item.kind !== "key-value" &&
      item.path.length === tablePath.length &&
      commonLength(item.path, tablePath) === tablePath.length,
  );
}

function headerReason(
  kind: "table" | "array-of-tables",
  path: readonly string[],
  tablePath: readonly string[],
): string | null {
  if (commonLength(path, tablePath) < path.length) return null;
  if (kind === "array-of-tables") {
    return `\`${renderPath(path)}\` is an array of tables, so it is not clear which of them is meant`;
  }
  return path.length === tablePath.length ? `\`${renderPath(path)}\` is defined already` : null;
}

function valueReason(item: KeyValue, tablePath: readonly string[]): string | null {
  const { table, key } = item;
  // Cheap and first: nearly every line of a file stands in a table that is not on the way.
  const tableCommon = commonLength(table, tablePath);
  if (tableCommon < table.length && tableCommon < tablePath.length) return null;
  if (table.length >= tablePath.length) return null;
  const common = tableCommon + commonLength(key, tablePath.slice(table.length));
  const name = renderKey(tablePath[common - 1] ?? "");
  if (common === table.length + key.length) {
    return item.value.kind === "inline-table"
      ? `\`${name}\` is an inline table, which TOML does not allow to extend: rewrite it as [table] headers`
      : `\`${name}\` is a value, not a table`;
  }
  if (common === tablePath.length) {
    return `\`${name}\` is defined by dotted keys, which TOML does not allow to extend by a header: rewrite it as [table] headers`;
  }
  return null;
}

function commonLength(a: readonly string[], b: readonly string[]): number {
  let common = 0;
  while (common < a.length && common < b.length && a[common] === b[common]) common++;
  return common;
}
