import { ShimctlError } from "../error.ts";
import { decodeToml } from "../toml/decode.ts";
import { removeBlock, takeOut } from "../toml/edit.ts";
import { parseToml, type TomlTable, type TomlValue } from "../toml/parse.ts";
import { deepEqual, valueAt } from "../toml/prove.ts";
import { redactText } from "../toml/redact.ts";
import { renderPath } from "../toml/render.ts";
import type { Adopted, Adopting, Difference } from "./backend.ts";
import { definedByOthers, definedByOwner } from "./ownership.ts";
import { isTable } from "./tables.ts";

/** Taking over what others define: the same rules for every engine. */

/** One definition of a handler that is not the owner's. */
export interface Place {
  readonly path: string;
  readonly line: number | undefined;
  /** Of the block that it stands in. */
  readonly owner: string | undefined;
  /** Without the keys that say no more than the engine does by itself. */
  readonly meaning: TomlTable;
}

/** Tables that go from a file, each as it was when it was judged. */
export type Taken = readonly { readonly table: readonly string[]; readonly judged: TomlValue | undefined }[];

/**
 * What is taken out so that `ours` can stand instead. Nothing where nobody else defines the handler.
 * Throws ShimctlError `conflict`: it may not be taken over, or only by `replace`
 */
export function adopt(
  name: string,
  ours: TomlTable,
  places: readonly Place[],
  adopting: Adopting | undefined,
): Adopted[] {
  if (adopting?.mode === "leave") return [];
  return places.map(({ path, line, owner, meaning }) => {
    const isIn = (places: Adopting["before"] | undefined) =>
      owner === undefined && places?.get(name)?.includes(path) === true;
    const isOurs = isIn(adopting?.unmarked) && !isIn(adopting?.before);
    const again = isOurs || isIn(adopting?.before);
    if (adopting?.mode === undefined && !again) {
      throw owner === undefined
        ? definedByOthers(name, path, line)
        : definedByOwner(name, { owner, line: line ?? 1 }, path);
    }
    const difference = deepEqual(meaning, ours) ? undefined : differenceOf(meaning, ours);
    if (difference !== undefined && adopting?.mode !== "replace" && !again) {
      throw new ShimctlError(
        "conflict",
        `Cannot adopt handler '${name}', as this file defines it differently`,
        {
          path,
          ...(line === undefined ? {} : { line }),
          difference,
          hint: `pass --adopt=replace to put ours in its place, or leave '${name}' out of the command`,
        },
      );
    }
    return {
      handler: name,
      path,
      ...(line === undefined ? {} : { line }),
      owner,
      ...(isOurs ? { isOurs } : {}),
      ...(difference === undefined ? {} : { difference }),
    };
  });
}

/** The tables of a file as they are judged now. */
export function takenFrom(
  text: string,
  path: string,
  owner: string,
  tables: Taken[number]["table"][],
): Taken {
  const rest = parseToml(removeBlock(text, owner, { path, force: true }), path);
  return tables.map((table) => ({ table, judged: valueAt(rest, table) }));
}

/**
 * The text without what is taken over. Throws ShimctlError `conflict`, retryable, where that was changed since
 * it was judged.
 */
export function withoutTaken(text: string, path: string, owner: string, taken: Taken): string {
  if (taken.length === 0) return text;
  const rest = parseToml(removeBlock(text, owner, { path, force: true }), path);
  for (const { table, judged } of taken) {
    const now = valueAt(rest, table);
    if (now === undefined || (judged !== undefined && deepEqual(now, judged))) continue;
    throw new ShimctlError(
      "conflict",
      `Cannot adopt ${renderPath(table.slice(-1))}, as it was changed meanwhile`,
      {
        path,
        hint: "run the same command again",
        retryable: true,
      },
    );
  }
  return takeOut(
    text,
    taken.map(({ table }) => table),
    owner,
    path,
  );
}

/** The bytes without these tables, whatever they say by now. */
export function bareOf(bytes: Uint8Array, path: string, owner: string, taken: Taken): string {
  const text = decodeToml(bytes, path);
  return taken.length === 0
    ? text
    : takeOut(
        text,
        taken.map(({ table }) => table),
        owner,
        path,
      );
}

/** A table without values that every engine takes for "not said": its programs are Go, where these are the zero values. */
export function withoutZeros(table: TomlTable, deep: boolean): TomlTable {
  const kept: TomlTable = Object.create(null);
  for (const [key, value] of Object.entries(table)) {
    const isZero =
      value === "" || value === false || value === 0n || (Array.isArray(value) && value.length === 0);
    if (isZero) continue;
    const inner = isTable(value) && deep ? withoutZeros(value, true) : value;
    if (isTable(inner) && Object.keys(inner).length === 0) continue;
    kept[key] = inner;
  }
  return kept;
}

function differenceOf(theirs: TomlTable, ours: TomlTable): Difference {
  return { theirs: redactText(linesOf(theirs).join("")), ours: redactText(linesOf(ours).join("")) };
}

/** One key a line, sorted: what differs is what a reader sees. */
function linesOf(table: TomlTable, path: readonly string[] = []): string[] {
  return Object.keys(table)
    .sort()
    .flatMap((key) => {
      const value = table[key];
      if (isTable(value)) return linesOf(value, [...path, key]);
      return [`${renderPath([...path, key])} = ${shown(value)}\n`];
    });
}

function shown(value: TomlValue | undefined): string {
  if (typeof value === "bigint" || typeof value === "number" || typeof value === "boolean")
    return String(value);
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return `[${value.map(shown).join(", ")}]`;
  return JSON.stringify(value);
}
