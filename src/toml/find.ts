import { asScan, type Item, type KeyValue, lineAt, type Scan, ScanError } from "./scan.ts";

/**
 * 1-based line where a key path is defined: its own header or key, else the first one below it, else the
 * inline table that would hold it; undefined where nothing does or the text cannot be scanned.
 */
export function lineOf(source: string | Scan, keyPath: readonly string[]): number | undefined {
  const scanned = scannedOrNothing(source);
  const offset = scanned === undefined ? undefined : offsetOf(scanned, keyPath);
  return scanned === undefined || offset === undefined ? undefined : lineAt(scanned, offset);
}

/** Where a key or the nearest thing to it begins, as for `lineOf`. */
export function offsetOf(source: string | Scan, keyPath: readonly string[]): number | undefined {
  const scanned = scannedOrNothing(source);
  return scanned === undefined ? undefined : findPath(scanned.items, keyPath)?.span.start;
}

function scannedOrNothing(source: string | Scan): Scan | undefined {
  try {
    return asScan(source);
  } catch (error) {
    if (error instanceof ScanError) return undefined;
    throw error;
  }
}

/**
 * The item that a key path is defined by: its own header or key, else the first one below it, else the value that
 * would hold it. Whoever asks for one path asks for many, so the paths of a text are looked up, not searched.
 */
export function findPath(items: readonly Item[], keyPath: readonly string[]): Item | undefined {
  const { at, below, values } = indexOf(items);
  const found = at.get(keyOf(keyPath)) ?? below.get(keyOf(keyPath));
  if (found !== undefined) return found;
  const around = prefixes(keyPath)
    .flatMap((prefix) => values.get(prefix) ?? [])
    .sort((a, b) => a.span.start - b.span.start)[0];
  if (around?.value.kind !== "inline-table") return around;
  return findPath(around.value.entries, keyPath) ?? around;
}

/** By path, the first item in the text. */
interface Index {
  readonly at: Map<string, Item>;
  readonly below: Map<string, Item>;
  readonly values: Map<string, KeyValue>;
}

const indexes = new WeakMap<readonly Item[], Index>();

function indexOf(items: readonly Item[]): Index {
  const known = indexes.get(items);
  if (known !== undefined) return known;
  const index: Index = { at: new Map(), below: new Map(), values: new Map() };
  for (const item of items) {
    const path = item.kind === "key-value" ? [...item.table, ...item.key] : item.path;
    keep(index.at, keyOf(path), item);
    if (item.kind === "key-value") keep(index.values, keyOf(path), item);
    for (const prefix of prefixes(path)) keep(index.below, prefix, item);
  }
  indexes.set(items, index);
  return index;
}

function keep<Value>(map: Map<string, Value>, key: string, value: Value): void {
  if (!map.has(key)) map.set(key, value);
}

/** Names may hold any character; with their lengths, no two paths are the same text. */
function keyOf(path: readonly string[]): string {
  return path.map((name) => `${name.length}:${name}`).join("");
}

/** Every shorter path that leads to this one, the empty one included. */
function prefixes(path: readonly string[]): string[] {
  return path.map((_, length) => keyOf(path.slice(0, length)));
}
