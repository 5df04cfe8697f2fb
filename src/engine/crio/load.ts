import { ShimctlError } from "../../error.ts";
import type { Read } from "../../host/host.ts";
import { decodeToml } from "../../toml/decode.ts";
import { type Block, findBlocks, type MarkerProblem, removeBlock, setAsideNewer } from "../../toml/edit.ts";
import { lineOf } from "../../toml/find.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import type { Site, Snapshot } from "../backend.ts";
import { isTable, tableAt } from "../tables.ts";

/** A block with the names of the handlers that it defines. */
export interface OwnedBlock extends Block {
  readonly names: ReadonlySet<string>;
}

/** One file of the configuration, as a whole and without anything of ours. */
export interface Loaded {
  readonly path: string;
  /** The first block of a newer release in it: such blocks are read as if they were somebody else's. */
  readonly newer: MarkerProblem | undefined;
  readonly newerBlocks: readonly OwnedBlock[];
  readonly text: string;
  readonly table: TomlTable;
  readonly bareTable: TomlTable;
  readonly blocks: readonly OwnedBlock[];
}

/** Wherever the root file is: only `--config-dir` moves it (crio(8)), and an engine with that is refused. */
export const dropInFolder = "/etc/crio/crio.conf.d";

export interface Walk {
  /** In the order in which CRI-O reads and merges them. */
  readonly loaded: readonly Loaded[];
  /** Entries of the drop-in folder on which CRI-O does not start. */
  readonly fatal: readonly { readonly path: string; readonly why: string }[];
  readonly wantedFiles: readonly string[];
  readonly wantedFolders: readonly string[];
}

/**
 * The root file, then every file of the drop-in folder by Go's `filepath.Walk`: in byte order, folders
 * entered where they stand, whatever the name (CRI-O: pkg/config, UpdateFromPath).
 */
export function walk(site: Site, seen: Snapshot): Walk {
  const loaded: Loaded[] = [];
  const fatal: { path: string; why: string }[] = [];
  const wantedFiles: string[] = [];
  const wantedFolders: string[] = [];
  const root = seen.files.get(site.rootFile);
  if (root === undefined) wantedFiles.push(site.rootFile);
  else if (root.kind === "file") loaded.push(loadFile(root));
  else if (root.kind !== "absent") fatal.push({ path: site.rootFile, why: reasonOf(root) });

  const enter = (folder: string) => {
    if (!seen.folders.has(folder)) {
      wantedFolders.push(folder);
      return;
    }
    for (const name of seen.folders.get(folder) ?? []) {
      const path = `${folder}/${name}`;
      const read = seen.files.get(path);
      if (read === undefined) wantedFiles.push(path);
      else if (read.kind === "file") loaded.push(loadFile(read));
      else if (read.kind === "other" && read.what === "directory" && !read.linked) enter(path);
      else if (read.kind === "other" && read.what === "directory")
        fatal.push({ path, why: "it is a symbolic link to a folder" });
      else if (read.kind === "absent" && read.dangling)
        fatal.push({ path, why: "it is a symbolic link that leads nowhere" });
      // CRI-O opens a named pipe too, and waits for ever.
      else if (read.kind !== "absent") fatal.push({ path, why: reasonOf(read) });
    }
  };
  // One of its files is looked at alone.
  if (site.rootFile.startsWith(`${dropInFolder}/`)) return { loaded, fatal, wantedFiles, wantedFolders };
  const top = seen.files.get(dropInFolder);
  if (top === undefined) wantedFiles.push(dropInFolder);
  // It walks to a single file as well.
  else if (top.kind === "file") loaded.push(loadFile(top));
  else if (top.kind === "other" && top.linked)
    fatal.push({ path: dropInFolder, why: "the folder is a symbolic link" });
  else enter(dropInFolder);
  return { loaded, fatal, wantedFiles, wantedFolders };
}

function reasonOf(read: Exclude<Read, { kind: "file" | "absent" }>): string {
  if (read.kind === "unreadable") return read.reason;
  return read.what === "directory" ? "it is a folder" : "it is not a regular file";
}

function loadFile(read: Extract<Read, { kind: "file" }>): Loaded {
  // CRI-O's parser passes over a byte order mark; only files of ours are ever edited, and those have none.
  const hasMark = read.bytes[0] === 0xef && read.bytes[1] === 0xbb && read.bytes[2] === 0xbf;
  const decoded = decodeToml(hasMark ? read.bytes.subarray(3) : read.bytes, read.path);
  const { text, newer, newerBlocks } = setAsideNewer(decoded, read.path);
  const named = (block: Block) => ({ ...block, names: new Set(namesIn(block.body, read.path)) });
  const blocks = findBlocks(text, read.path).map(named);
  const bareText = blocks.reduce(
    (rest, block) => removeBlock(rest, block.owner, { path: read.path, force: true }),
    text,
  );
  const table = parseToml(text, read.path);
  refuseOtherCase(table, text, read.path);
  return {
    path: read.path,
    newer,
    newerBlocks: newerBlocks.map(named),
    text,
    table,
    blocks,
    bareTable: parseToml(bareText, read.path),
  };
}

export function runtimesIn(table: TomlTable): TomlTable | undefined {
  return tableAt(table, "crio", "runtime", "runtimes");
}

/** The handlers that a block defines; a hand-edited one may not even parse on its own. */
function namesIn(body: string, path: string): string[] {
  try {
    return Object.keys(runtimesIn(parseToml(body, path)) ?? {});
  } catch {
    return [];
  }
}

/** CRI-O's parser matches keys in any case; nobody writes them so, and two spellings of one key would surprise. */
function refuseOtherCase(table: TomlTable, text: string, path: string): void {
  let here: TomlTable | undefined = table;
  for (const key of ["crio", "runtime", "runtimes"]) {
    const other = Object.keys(here ?? {}).find((name) => name !== key && name.toLowerCase() === key);
    if (other !== undefined) {
      const line = lineOf(text, [other]);
      throw new ShimctlError(
        "unsupported-config",
        `Cannot use the key '${other}', as CRI-O reads it as '${key}'`,
        {
          path,
          ...(line === undefined ? {} : { line }),
          hint: `write it as '${key}'`,
        },
      );
    }
    const next: unknown = here?.[key];
    here = isTable(next) ? next : undefined;
  }
}
