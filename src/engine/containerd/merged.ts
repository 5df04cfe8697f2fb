import { ShimctlError } from "../../error.ts";
import { encodeToml } from "../../toml/decode.ts";
import type { TomlTable } from "../../toml/parse.ts";
import { renderString } from "../../toml/render.ts";
import { renderWhole } from "../../toml/whole.ts";
import type { EngineVersion, Site, Snapshot, Source, Staged, Wanted } from "../backend.ts";
import { mergeTables, tableAt } from "../tables.ts";
import { filesOf, type Import } from "./imports.ts";
import { type Loaded, loadFile } from "./load.ts";
import { refuseUnmanaged, rewritten } from "./managed.ts";
import { builtinHandler, criV2, runtimesAt } from "./schema.ts";
import type { Understood } from "./understood.ts";
import { nameOf, refusalOf } from "./version.ts";

/**
 * containerd 1.x whose starter merges drop-ins by itself, before the engine sees them (k0s up to 1.35,
 * pkg/component/worker/containerd/configurer.go): every file of a folder that has a table of the CRI plugin becomes a
 * merge patch to one rendered file, in the order of the names; the others become imports of the root file. Both are
 * written anew at each start, so that what they say of drop-ins is that of the last start, and no edit of ours goes
 * to them.
 */
type Merged = Extract<Source, { kind: "merged" }>;

/** What every k0s of that generation brings; its binary seldom tells. */
const itsVersion: EngineVersion = { major: 1, minor: 7, source: "the merged drop-ins" };

/** Files and folders to read next. */
export function wantMerged(site: Site, source: Merged, seen: Snapshot): Wanted {
  const { wantedFiles, wantedFolders } = look(source, seen, versionOf(site));
  const unseen = [site.rootFile, source.into].filter((path) => !seen.files.has(path));
  const folders = seen.folders.has(source.folder) ? [] : [source.folder];
  return { files: [...unseen, ...wantedFiles], folders: [...folders, ...wantedFolders] };
}

/** What the engine will have once its starter has merged the folder again. */
export function understandMerged(site: Site, source: Merged, seen: Snapshot): Understood {
  const version = versionOf(site);
  const root = rootOf(site, source, seen, version);
  const { patches, imported, nested, missing } = look(source, seen, version);
  const own = ownOf(source, seen, version);
  // The root file's list is that of the last start.
  const loaded = [{ ...root, imports: [] }, own, ...patches, ...imported, ...nested];
  // An import that has the table itself comes last, and replaces all that was merged.
  const masking = nested.findLast((file) => tableAt(file.table, "plugins", criV2) !== undefined);
  const merge = (table: (file: Loaded) => TomlTable) =>
    masking === undefined ? [own, ...patches].map(table).reduce(mergeTables) : table(masking);
  return {
    site,
    seen,
    version,
    schema: 2,
    loaded,
    missing,
    unread: [],
    merges: masking === undefined,
    rendering: undefined,
    id: criV2,
    writeId: criV2,
    refusal:
      outgrown(site, source, patches) ??
      (masking === undefined
        ? refusalOf([root, ...patches, ...imported], 2, version)
        : masked(masking, source)),
    winner: masking ?? own,
    effective: merge((file) => file.table),
    effectiveBare: merge((file) => file.bareTable),
  };
}

/** The files as its starter would hand them to the engine, side by side in a folder. */
export function stageMerged(node: Understood, source: Merged, folder: string): Staged {
  const nameAt = (index: number) => `${folder}/${String(index).padStart(3, "0")}.toml`;
  const isMerged = (file: Loaded) =>
    file.path === source.into || tableAt(file.table, "plugins", criV2) !== undefined;
  const [, ...files] = node.loaded;
  const into = files
    .filter(isMerged)
    .map((file) => file.table)
    .reduce(mergeTables, Object.create(null));
  const tables = [...files.filter((file) => !isMerged(file)).map((file) => file.table), into].map(
    ({ imports: _, ...table }) => table,
  );
  const names = tables.map((_, index) => nameAt(index + 1));
  const root = `version = 2\nimports = [${names.map(renderString).join(", ")}]\n`;
  return {
    files: [root, ...tables.map(renderWhole)].map((text, index) => ({
      path: nameAt(index),
      bytes: encodeToml(text),
    })),
    args: ["--config", nameAt(0), "config", "dump"],
  };
}

function versionOf({ version }: Site): EngineVersion {
  return version?.major === 1 ? version : itsVersion;
}

/** The root file, where it is still what the layout took it for. */
function rootOf(site: Site, source: Merged, seen: Snapshot, version: EngineVersion): Loaded {
  const read = seen.files.get(site.rootFile);
  refuseUnmanaged(site, source, read);
  if (read === undefined) throw new ShimctlError("internal", "Cannot understand a file that was not read");
  const root = loadFile(site.rootFile, read, version, "");
  if (!root.imports.some(({ pattern }) => pattern === source.into))
    throw rewritten(site, source, `it does not import ${source.into} any more`);
  return root;
}

/** Its starter was upgraded, and has not written its files since: it may not even start on what is there. */
function outgrown(
  { version, rootFile }: Site,
  { by }: Merged,
  patches: readonly Loaded[],
): ShimctlError | undefined {
  if (version === undefined || version.major === 1) return undefined;
  const [first] = patches;
  return new ShimctlError(
    "unsupported-node",
    `Cannot add drop-ins, as ${by} has written this file for containerd 1.x, and its engine is ${nameOf(version)} by now (by ${version.source})`,
    {
      path: rootFile,
      hint:
        first === undefined
          ? `restart ${by}, which writes it anew, then run the same command again`
          : `uninstall or remove ${first.path}, on which the newer ${by} does not start, and restart ${by}`,
    },
  );
}

interface Look {
  readonly patches: readonly Loaded[];
  readonly imported: readonly Loaded[];
  /** What those import in turn. */
  readonly nested: readonly Loaded[];
  readonly missing: Understood["missing"];
  readonly wantedFiles: readonly string[];
  readonly wantedFolders: readonly string[];
}

function look(source: Merged, seen: Snapshot, version: EngineVersion): Look {
  const missing: Understood["missing"][number][] = [];
  const wantedFiles: string[] = [];
  const wantedFolders: string[] = [];
  const load = (path: string, from: string): Loaded | undefined => {
    const read = seen.files.get(path);
    if (read === undefined) wantedFiles.push(path);
    else if (read.kind === "file") return loadFile(path, read, version, "");
    else missing.push({ path, from, read });
    return undefined;
  };
  // As Go's `*.toml`, which takes names that begin with a dot as well.
  const files = (seen.folders.get(source.folder) ?? [])
    .filter((name) => name.endsWith(".toml"))
    .map((name) => `${source.folder}/${name}`)
    .flatMap((path) => load(path, path) ?? []);
  const nested: Loaded[] = [];
  const done = new Set(files.map(({ path }) => path));
  const pending = files.flatMap((file) => importsOf(file));
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    const { files: paths, wanted } = filesOf(next.entry, seen);
    wantedFolders.push(...wanted);
    for (const path of paths) {
      if (done.has(path)) continue;
      done.add(path);
      const file = load(path, next.from);
      if (file === undefined) continue;
      nested.push(file);
      pending.push(...importsOf(file));
    }
  }
  const isPatch = (file: Loaded) => tableAt(file.table, "plugins", criV2) !== undefined;
  return {
    patches: files.filter(isPatch),
    imported: files.filter((file) => !isPatch(file)),
    nested,
    missing,
    wantedFiles,
    wantedFolders,
  };
}

function importsOf(file: Loaded): { entry: Import; from: string }[] {
  return file.imports.map((entry) => ({ entry, from: file.path }));
}

/**
 * What the starter itself has in the file that it merges into: of the handlers, its own. Any other came from a drop-in
 * at the last start, and is gone at the next one unless that drop-in is still there.
 */
function ownOf(source: Merged, seen: Snapshot, version: EngineVersion): Loaded {
  const { into } = source;
  const read = seen.files.get(into) ?? { kind: "absent", path: into, resolved: into, dangling: false };
  const file = loadFile(into, read, version, "");
  const cri = tableAt(file.table, "plugins", criV2);
  const own = tableAt(runtimesAt(file.table, criV2), builtinHandler);
  const runc: TomlTable = own ?? table({ runtime_type: "io.containerd.runc.v2" });
  const containerd = table({
    ...tableAt(cri, "containerd"),
    default_runtime_name: builtinHandler,
    runtimes: table({ [builtinHandler]: runc }),
  });
  const rendered = table({ version: 2n, plugins: table({ [criV2]: table({ ...cri, containerd }) }) });
  return {
    ...file,
    table: rendered,
    bareTable: rendered,
    merged: rendered,
    mergedBare: rendered,
    imports: [],
  };
}

function table(entries: TomlTable): TomlTable {
  return Object.assign(Object.create(null), entries);
}

/** k0s does not look into what a drop-in imports; to containerd that is what counts (k0sproject/k0s#6547). */
function masked(file: Loaded, source: Merged): ShimctlError {
  return new ShimctlError(
    "unsupported-config",
    `Cannot add handlers, as this file is imported by a drop-in and replaces the whole CRI configuration that ${source.by} merges`,
    {
      path: file.path,
      hint: `move it into ${source.folder}, where it is merged, and take it out of imports`,
    },
  );
}
