import type { TomlTable } from "../toml/parse.ts";

export function isTable(value: unknown): value is TomlTable {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** The table behind a path, or `undefined` when there is none. */
export function tableAt(table: TomlTable | undefined, ...path: readonly string[]): TomlTable | undefined {
  let here: unknown = table;
  for (const part of path) {
    if (!isTable(here)) return undefined;
    here = here[part];
  }
  return isTable(here) ? here : undefined;
}

/** Tables are merged deeply; every other value of a later file replaces that of an earlier one. */
export function mergeTables(base: TomlTable, later: TomlTable): TomlTable {
  const merged: TomlTable = Object.assign(Object.create(null), base);
  for (const [key, value] of Object.entries(later)) {
    const before = merged[key];
    merged[key] = isTable(before) && isTable(value) ? mergeTables(before, value) : value;
  }
  return merged;
}
