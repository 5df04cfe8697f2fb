import { ShimctlError } from "../../error.ts";
import type { Read } from "../../host/host.ts";
import { decodeToml } from "../../toml/decode.ts";
import { type Block, findBlocks, removeArrayElement, removeBlock, withoutShared } from "../../toml/edit.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import { withoutOurs } from "../../toml/prove.ts";
import type { EngineVersion, Snapshot } from "../backend.ts";
import { filesOf, type Import, resolveImport } from "./imports.ts";

/** One file of the configuration, as a whole and without anything of ours. */
export interface Loaded {
  readonly path: string;
  readonly read: Read;
  readonly text: string;
  readonly table: TomlTable;
  readonly blocks: readonly Block[];
  /** What belongs to others. */
  readonly bareText: string;
  readonly bareTable: TomlTable;
  readonly imports: readonly Import[];
  /** A line or block of ours that must go because the administrator has defined the same since. */
  readonly givesWay: boolean;
}

/** The owner of the block that belongs to no owner. */
export const sharedOwner = "shared";

/** Bytes of a file that is there, decoded; `undefined` for one that is not. */
export function textOf(read: Read | undefined): string | undefined {
  return read?.kind === "file" ? decodeToml(read.bytes, read.path) : undefined;
}

/**
 * Parses one file. Where it does not parse only because the administrator has since defined what a shared
 * piece of ours defines, the piece is left out: it gives way in the next edit.
 */
export function loadFile(path: string, read: Read, version: EngineVersion, ourImport: string): Loaded {
  const text = textOf(read) ?? "";
  const blocks = findBlocks(text, path);
  const bareText = bare(text, path, ourImport);
  const single = withoutDoubled(text, path);
  const table = parseToml(single, path);
  const imports = stringList(table, "imports", path).map((entry) => resolveImport(entry, path, version));
  return {
    path,
    read,
    text,
    table,
    blocks,
    bareText,
    bareTable: parseToml(bareText, path),
    imports,
    givesWay: single !== text,
  };
}

/** The text without every block, line and element of ours, whoever owns it. */
export function bare(text: string, path: string, ourImport: string): string {
  try {
    return withoutOurs(text, [{ keyPath: ["imports"], value: ourImport }]);
  } catch {
    // A key that is defined twice, by us and by the administrator since: ours goes first.
    let rest = withoutShared(text, path);
    for (const { owner } of findBlocks(rest, path)) rest = removeBlock(rest, owner, { path, force: true });
    return removeArrayElement(rest, ["imports"], ourImport, path);
  }
}

/** The text with its shared pieces left out where they double what the administrator has defined since. */
export function withoutDoubled(text: string, path: string): string {
  try {
    parseToml(text, path);
    return text;
  } catch (error) {
    const without = withoutShared(text, path);
    if (without === text) throw error;
    try {
      parseToml(without, path);
    } catch {
      throw error;
    }
    return without;
  }
}

/** A hand-edited block may not even parse on its own; then it says nothing. */
export function bodyTable(body: string, path: string): TomlTable {
  try {
    return parseToml(body, path);
  } catch {
    return Object.create(null);
  }
}

export function stringList(table: TomlTable, key: string, path: string): string[] {
  const value = table[key];
  if (value === undefined) return [];
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return value;
  throw new ShimctlError(
    "invalid-config",
    `Cannot read '${key}', which containerd wants as a list of strings`,
    { path, hint: `write ${key} = [ "…" ]` },
  );
}

export interface Walk {
  /** In the order in which containerd loads and merges them. */
  readonly loaded: readonly Loaded[];
  readonly missing: readonly { readonly path: string; readonly from: string; readonly read: Read }[];
  readonly wantedFiles: readonly string[];
  readonly wantedFolders: readonly string[];
}

/** Follows imports breadth first, as containerd's LoadConfig does, as far as the snapshot reaches. */
export function walk(rootFile: string, seen: Snapshot, version: EngineVersion, ourImport: string): Walk {
  const loaded: Loaded[] = [];
  const missing: { path: string; from: string; read: Read }[] = [];
  const wantedFiles: string[] = [];
  const wantedFolders: string[] = [];
  const done = new Set<string>();
  const pending: { path: string; from: string }[] = [{ path: rootFile, from: rootFile }];
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    if (done.has(next.path)) continue;
    done.add(next.path);
    const read = seen.files.get(next.path);
    if (read === undefined) {
      wantedFiles.push(next.path);
      continue;
    }
    if (read.kind !== "file") {
      if (next.path === rootFile && read.kind === "absent")
        loaded.push(loadFile(next.path, read, version, ourImport));
      else missing.push({ ...next, read });
      continue;
    }
    const file = loadFile(next.path, read, version, ourImport);
    loaded.push(file);
    for (const entry of file.imports) {
      const { files, wanted } = filesOf(entry, seen);
      wantedFolders.push(...wanted);
      for (const path of files) pending.push({ path, from: next.path });
    }
  }
  return { loaded, missing, wantedFiles, wantedFolders };
}
