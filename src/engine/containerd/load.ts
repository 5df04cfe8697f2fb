import { ShimctlError } from "../../error.ts";
import type { Read } from "../../host/host.ts";
import { isSame } from "../../same.ts";
import { decodeToml } from "../../toml/decode.ts";
import {
  type Block,
  findBlocks,
  type MarkerProblem,
  removeArrayElement,
  removeBlock,
  removeRootLine,
  setAsideNewer,
  withoutShared,
} from "../../toml/edit.ts";
import { factsAt } from "../../toml/excerpt.ts";
import { lineOf } from "../../toml/find.ts";
import { remember } from "../../toml/memo.ts";
import { parseToml, scanToml, type TomlTable } from "../../toml/parse.ts";
import { withoutOurs, withPath } from "../../toml/prove.ts";
import { sharedLines } from "../../toml/root-line.ts";
import type { EngineVersion, Snapshot } from "../backend.ts";
import { tableAt } from "../tables.ts";
import { filesOf, type Import, resolveImport } from "./imports.ts";
import { criV2, criV3, migratesEachFile, runtimesAt } from "./schema.ts";

/** A block with the names of the handlers that it defines, under either plugin id. */
export interface OwnedBlock extends Block {
  readonly names: ReadonlySet<string>;
}

/** One file of the configuration, as a whole and without anything of ours. */
export interface Loaded {
  readonly path: string;
  readonly read: Read;
  /** The first block of a newer release in it: such blocks are read as if they were somebody else's. */
  readonly newer: MarkerProblem | undefined;
  readonly newerBlocks: readonly OwnedBlock[];
  readonly text: string;
  readonly table: TomlTable;
  readonly blocks: readonly OwnedBlock[];
  /** What belongs to others. */
  readonly bareText: string;
  readonly bareTable: TomlTable;
  /** The two tables as the engine merges them: 2.3 and later migrate each file by itself before. */
  readonly merged: TomlTable;
  readonly mergedBare: TomlTable;
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
  const known = loads.get(read);
  if (known?.path === path && isSame(known.version, version) && known.ourImport === ourImport)
    return known.file;
  const file = parseFile(path, read, version, ourImport);
  loads.set(read, { path, version, ourImport, file });
  return file;
}

/** Following the imports asks for the same files again with every step. */
const loads = new WeakMap<
  Read,
  {
    readonly path: string;
    readonly version: EngineVersion;
    readonly ourImport: string;
    readonly file: Loaded;
  }
>();

function parseFile(path: string, read: Read, version: EngineVersion, ourImport: string): Loaded {
  const { text, newer, newerBlocks } = setAsideNewer(textOf(read) ?? "", path);
  refuseStrayMark(text, path);
  const named = (block: Block) => ({ ...block, names: new Set(namesIn(block.body, path)) });
  const blocks = findBlocks(text, path).map(named);
  const bareText = bare(text, path, ourImport);
  const single = withoutDoubled(text, path);
  const table = parseToml(single, path);
  const imports = stringList(table, "imports", path).map((entry) => resolveImport(entry, path, version));
  const bareTable = parseToml(bareText, path);
  const merged = asMerged(table, version);
  const mergedBare = asMerged(bareTable, version);
  return {
    path,
    read,
    newer,
    newerBlocks: newerBlocks.map(named),
    text,
    table,
    blocks,
    bareText,
    bareTable,
    merged,
    mergedBare,
    imports,
    givesWay: single !== text,
  };
}

/** Our mark behind a key that we never write: somebody has renamed the key, and nobody can say whose the line is. */
function refuseStrayMark(text: string, path: string): void {
  const scanned = scanToml(text, path);
  const stray = sharedLines(scanned).find(({ key }) => key[0] !== "version" && key[0] !== "imports");
  if (stray === undefined) return;
  throw new ShimctlError(
    "conflict",
    "Cannot trust the shimctl marks of the file: one stands behind a line that shimctl did not write",
    factsAt(text, stray.span.start, path, "Remove the comment behind this line, or the line with it."),
  );
}

/** What 2.3 and later make of one file of version 2: its handlers move to the new id, where that has none. */
function asMerged(table: TomlTable, version: EngineVersion): TomlTable {
  const old = tableAt(table, "plugins", criV2, "containerd");
  if (!migratesEachFile(version) || old === undefined) return table;
  const kept = tableAt(table, "plugins", criV3, "containerd") ?? Object.create(null);
  const { runtimes, ...rest } = old;
  const remaining = kept["runtimes"] === undefined ? Object.create(null) : { runtimes };
  const moved = { ...rest, ...(runtimes === undefined ? {} : { runtimes }), ...kept };
  return withPath(
    withPath(table, ["plugins", criV2, "containerd"], remaining),
    ["plugins", criV3, "containerd"],
    moved,
  );
}

/** The text without every block, line and element of ours, whoever owns it. */
export function bare(text: string, path: string, ourImport: string): string {
  return bared(`${ourImport}\0${text}`, text, path, ourImport);
}

const bared = remember((_: string, text: string, path: string, ourImport: string): string => {
  try {
    return withoutOurs(text, ourImport === "" ? [] : [{ keyPath: ["imports"], value: ourImport }]);
  } catch {
    // A key that is defined twice, by us and by the administrator since: ours goes first.
    let rest = withoutShared(text, path);
    for (const { owner } of findBlocks(rest, path)) rest = removeBlock(rest, owner, { path, force: true });
    return ourImport === "" ? rest : removeArrayElement(rest, ["imports"], ourImport, path);
  }
});

/**
 * The text with a shared piece left out where it doubles what the administrator has defined since: that one
 * piece, or all of them where no single one helps.
 */
export function withoutDoubled(text: string, path: string): string {
  try {
    parseToml(text, path);
    return text;
  } catch (error) {
    const attempts = [
      () => removeRootLine(text, "version", path),
      () => removeRootLine(text, "imports", path),
      () => removeBlock(text, sharedOwner, { path }),
      () => withoutShared(text, path),
    ];
    for (const attempt of attempts) {
      try {
        const without = attempt();
        if (without === text) continue;
        parseToml(without, path);
        return without;
      } catch {
        // The next one may help; if none does, the file's own error is the one to show.
      }
    }
    throw error;
  }
}

/** The handlers that a block defines. A hand-edited one may not even parse on its own; then it says nothing. */
function namesIn(body: string, path: string): string[] {
  try {
    const table = parseToml(body, path);
    return [criV2, criV3].flatMap((id) => Object.keys(runtimesAt(table, id) ?? {}));
  } catch {
    return [];
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

/** By the name of a template's variable, what it may become: the first is what imports are followed with. */
export type Values = Readonly<Record<string, readonly string[]>>;

/** Follows imports breadth first, as containerd's LoadConfig does, as far as the snapshot reaches. */
export function walk(
  rootFile: string,
  seen: Snapshot,
  version: EngineVersion,
  ourImport: string,
  values: Values = {},
): Walk {
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
      const filled = fill(entry.text, values);
      const { files, wanted } = filesOf(
        filled === entry.text ? entry : resolveImport(filled, next.path, version),
        seen,
      );
      wantedFolders.push(...wanted);
      for (const path of files) pending.push({ path, from: next.path });
    }
  }
  return { loaded, missing, wantedFiles, wantedFolders };
}

function fill(text: string, values: Values): string {
  return text.replace(/\$\{(\w+)\}/g, (variable, name: string) => values[name]?.[0] ?? variable);
}

/** The line on which a file defines a handler, under either plugin id. */
export function handlerLine(file: Loaded, name: string): number | undefined {
  const at = (id: string) => lineOf(file.text, ["plugins", id, "containerd", "runtimes", name]);
  return at(
    tableAt(file.table, "plugins", criV3, "containerd", "runtimes", name) === undefined ? criV2 : criV3,
  );
}
