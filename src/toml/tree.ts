import { TomlDate, type TomlTable, type TomlValue } from "smol-toml";
import { ShimctlError } from "../error.ts";
import { renderPath } from "./render.ts";

/** Whether two TOML values are the same: 1 is not 1.0, NaN is NaN, order counts in arrays and not in tables. */
export function deepEqual(a: TomlValue, b: TomlValue): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof Date || b instanceof Date) return sameDate(a, b);
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((each, at) => {
      const other = b[at];
      return other !== undefined && deepEqual(each, other);
    });
  }
  if (!isTable(a) || !isTable(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => {
    const [left, right] = [ownValue(a, key), ownValue(b, key)];
    return left !== undefined && right !== undefined && deepEqual(left, right);
  });
}

/** The value at a path, or undefined. */
export function valueAt(table: TomlTable, path: readonly string[]): TomlValue | undefined {
  let value: TomlValue | undefined = table;
  for (const key of path) value = value !== undefined && isTable(value) ? ownValue(value, key) : undefined;
  return value;
}

/** A copy of the table with the value at a path; missing tables on the way are made. @throws ShimctlError `internal` where the way leads through something else. */
export function withPath(table: TomlTable, path: readonly string[], value: TomlValue): TomlTable {
  const [key, ...rest] = path;
  if (key === undefined) throw new ShimctlError("internal", "Cannot set a value without a path");
  const copy = copyOf(table);
  if (rest.length === 0) {
    copy[key] = value;
    return copy;
  }
  const inner = ownValue(table, key) ?? emptyTable();
  if (!isTable(inner))
    throw new ShimctlError("internal", `Cannot set a value below one that is no table: ${renderPath(path)}`);
  copy[key] = withPath(inner, rest, value);
  return copy;
}

/**
 * A copy of the table without what stands at a path. A table that becomes empty on the way goes too,
 * unless `stays` says that it is there in its own right (`isExplicitTable`).
 */
export function withoutPath(
  table: TomlTable,
  path: readonly string[],
  stays: (parent: readonly string[]) => boolean = () => true,
): TomlTable {
  return without(table, path, 0, stays);
}

function without(
  table: TomlTable,
  path: readonly string[],
  at: number,
  stays: (parent: readonly string[]) => boolean,
): TomlTable {
  const key = path[at];
  if (key === undefined) return table;
  const inner = ownValue(table, key);
  if (inner === undefined) return table;
  const copy = copyOf(table);
  if (at === path.length - 1) {
    delete copy[key];
    return copy;
  }
  if (!isTable(inner)) return table;
  const rest = without(inner, path, at + 1, stays);
  const emptied = rest !== inner && Object.keys(rest).length === 0;
  if (emptied && !stays(path.slice(0, at + 1))) delete copy[key];
  else copy[key] = rest;
  return copy;
}

/** Whether a value is a table, not an array or a date. */
export function isTable(value: TomlValue): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}

function sameDate(a: TomlValue, b: TomlValue): boolean {
  if (!(a instanceof TomlDate) || !(b instanceof TomlDate)) return false;
  return (
    a.toISOString() === b.toISOString() &&
    a.isDate() === b.isDate() &&
    a.isTime() === b.isTime() &&
    a.isLocal() === b.isLocal()
  );
}

function ownValue(table: TomlTable, key: string): TomlValue | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

/** Without prototype, so that `__proto__` is a key like any other. */
function emptyTable(): TomlTable {
  return Object.create(null);
}

function copyOf(table: TomlTable): TomlTable {
  return Object.assign(emptyTable(), table);
}
