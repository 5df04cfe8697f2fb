import type { FileEdit } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import { sha256 } from "../sha256.ts";
import { decodeToml } from "../toml/decode.ts";
import { removeBlock, takeOut } from "../toml/edit.ts";
import { parseToml } from "../toml/parse.ts";
import { valueAt } from "../toml/prove.ts";
import type { Environment } from "./environment.ts";
import type { Unfinished } from "./journal.ts";
import { mergeForeign } from "./merge.ts";
import { type NodeState, stateFolder } from "./state.ts";

type Intent = Unfinished["intents"][number];

/** A file of which the operation took something out. */
interface Taken {
  readonly path: string;
  /** The exchange that did, and all that came after it. */
  readonly intents: readonly Intent[];
  /** The bytes that it displaced. */
  readonly before: Uint8Array;
  readonly tables: readonly (readonly string[])[];
}

/**
 * The edits that undo an operation, with what it took out of others' files put back, and that first: a handler
 * that the engine serves must not be missing meanwhile. A file that is as we left it becomes what it was, byte
 * for byte; one that others changed since gets the lines back. One that they removed stays away.
 */
export function givingBack(
  env: Environment,
  state: NodeState,
  operation: Unfinished,
  edits: readonly FileEdit[],
): FileEdit[] {
  const given = takenBy(env, state, operation).flatMap((taken) => {
    const existing = edits.find((edit) => edit.path === taken.path);
    const edit = editOf(env, operation.begin.owner, taken, existing);
    return edit === undefined ? [] : [edit];
  });
  return [...given, ...edits.filter((edit) => !given.some(({ path }) => path === edit.path))];
}

function takenBy(env: Environment, state: NodeState, { begin, intents }: Unfinished): Taken[] {
  const tables = begin.desired.flatMap(({ name }) => env.backend.tablesOf(name));
  return [...new Set(intents.map(({ path }) => path))].flatMap((path): Taken[] => {
    const own = intents.filter((intent) => intent.path === path);
    for (let at = own.length - 1; at >= 0; at--) {
      const hash = own[at]?.before ?? null;
      const before = hash === null ? undefined : state.stored(hash);
      if (before === undefined) continue;
      if (!hasTaken(before, tables, begin.owner, path)) continue;
      return [{ path, intents: own.slice(at), before, tables }];
    }
    return [];
  });
}

/** Whether the bytes define any of it. A template is no TOML, and nothing of others is taken out of one. */
function hasTaken(before: Uint8Array, tables: Taken["tables"], owner: string, path: string): boolean {
  try {
    const text = decodeToml(before, path);
    return takeOut(text, tables, owner, path) !== text;
  } catch (error) {
    if (error instanceof ShimctlError) return false;
    throw error;
  }
}

/** `undefined`: everything is there already, or the file is gone. */
function editOf(
  env: Environment,
  owner: string,
  taken: Taken,
  existing: FileEdit | undefined,
): FileEdit | undefined {
  const { path, intents } = taken;
  const read = env.host.read(path);
  if (read.kind !== "file" || hasAll(taken, owner, read.bytes)) return undefined;
  const edit = (base: Uint8Array | null) => (base === null ? null : giveBack(taken, owner, base, existing));
  const [{ temp, target } = { temp: "", target: "" }] = intents;
  const folder = (file: string) => file.slice(0, file.lastIndexOf("/"));
  // CRI-O reads every file in its drop-in folder: a temporary file stands where the first one stood.
  const tempDir = folder(temp) === folder(target) ? undefined : folder(temp);
  return {
    path,
    before: read.bytes,
    after: edit(read.bytes),
    edit,
    bare: existing?.bare ?? ((bytes) => bytes),
    ...(tempDir === undefined ? {} : { tempDir }),
  };
}

function giveBack(
  taken: Taken,
  owner: string,
  base: Uint8Array,
  existing: FileEdit | undefined,
): Uint8Array | null {
  if (isAsLeft(taken, base)) return taken.before;
  const rest = existing === undefined ? base : existing.edit(base);
  if (rest === null || hasAll(taken, owner, rest)) return rest;
  const { path, tables, before } = taken;
  const old = decodeToml(before, path);
  const merge = mergeForeign(takeOut(old, tables, owner, path), decodeToml(rest, path), old);
  const merged = "merged" in merge ? new TextEncoder().encode(merge.merged) : undefined;
  if (merged !== undefined && hasAll(taken, owner, merged)) return merged;
  throw new ShimctlError(
    "undo-failed",
    "Cannot put back what was adopted from this file, as it was changed since",
    {
      path,
      hint: `copy what is missing from ${stateFolder}/store/${sha256(before)}, then restart the engine`,
    },
  );
}

/** Whether nobody has written the file since the operation did. */
function isAsLeft({ intents }: Taken, base: Uint8Array): boolean {
  const isChain = intents.every((intent, at) => at === 0 || intent.before === intents[at - 1]?.after);
  return isChain && intents.at(-1)?.after === sha256(base);
}

/** Whether the file defines what was taken out of it; where that is something else by now, its writer meant it. */
function hasAll({ path, tables, before }: Taken, owner: string, bytes: Uint8Array): boolean {
  const meaning = (content: Uint8Array) => {
    try {
      return parseToml(removeBlock(decodeToml(content, path), owner, { path, force: true }), path);
    } catch {
      return undefined;
    }
  };
  const [then, now] = [meaning(before), meaning(bytes)];
  if (then === undefined || now === undefined) return false;
  return tables.every((table) => {
    const isThere = valueAt(now, table) !== undefined;
    return isThere || valueAt(then, table) === undefined;
  });
}
