import { stringify } from "smol-toml";
import type { TomlTable } from "./parse.ts";

/** A whole document that means the table: for files that nobody edits, as no comment is in it. */
export function renderWhole(table: TomlTable): string {
  return stringify(table, { numbersAsFloat: true });
}
