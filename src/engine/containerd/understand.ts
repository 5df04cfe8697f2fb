import { ShimctlError } from "../../error.ts";
import type { TomlTable } from "../../toml/parse.ts";
import type { EngineVersion, Site, Snapshot } from "../backend.ts";
import { mergeTables, tableAt } from "../tables.ts";
import { hasMeta } from "./glob.ts";
import { type Loaded, loadFile, textOf, type Values, walk } from "./load.ts";
import { understandMerged } from "./merged.ts";
import { renderedSource, renderingOf, renderingRefusal, withoutEchoes } from "./rendered.ts";
import { builtinHandler, criV2, criV3, mergesTables, migratesEachFile, runtimesAt } from "./schema.ts";
import type { Understood } from "./understood.ts";
import { refusalOf, rootSchema, versionFor } from "./version.ts";

export function dropInFolder(site: Site): string {
  return `${site.rootFile.slice(0, site.rootFile.lastIndexOf("/"))}/conf.d`;
}

/** The folders in which drop-ins of ours may stand. */
export function ourFolders(site: Site): readonly string[] {
  const { source } = site;
  return renderedSource(site)?.dropIns ?? [source?.kind === "merged" ? source.folder : dropInFolder(site)];
}

/**
 * An absolute glob that matches only our files: a file that is missing then never stops the engine. 1.x and a template
 * get no import of ours, so whatever stands in their lists is somebody else's; nor does a file that is written anew.
 */
export function importOf(site: Site, version: EngineVersion): string {
  return mergesTables(version) && site.source === undefined ? `${dropInFolder(site)}/*-shimctl-*.toml` : "";
}

export function dropInName(owner: string): string {
  return `50-shimctl-${owner}.toml`;
}

export const dropInPattern = /^[0-9]+-shimctl-.+\.toml$/;

/** Drop-ins of ours that stand in our folders, whether or not anything imports them. */
export function strays(site: Site, seen: Snapshot): string[] {
  return ourFolders(site).flatMap((folder) =>
    (seen.folders.get(folder) ?? [])
      .filter((name) => dropInPattern.test(name))
      .map((name) => `${folder}/${name}`),
  );
}

export function understand(site: Site, asSeen: Snapshot): Understood {
  const { source } = site;
  if (source?.kind === "merged") return understandMerged(site, source, asSeen);
  const seen = withoutEchoes(site, asSeen);
  const rootRead = seen.files.get(site.rootFile);
  if (hasMeta(site.rootFile)) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot import drop-ins beside a file whose path holds glob characters: ${site.rootFile}`,
      { hint: "pass another --config" },
    );
  }
  const version = versionFor(site, textOf(rootRead));
  const { loaded: read, missing } = walk(
    site.rootFile,
    seen,
    version,
    importOf(site, version),
    valuesOf(site),
  );
  const rendering = renderingOf(site, seen, version);
  const [root, ...others] = read;
  if (root === undefined) {
    throw new ShimctlError("invalid-config", "Cannot read the engine's configuration file", {
      path: site.rootFile,
      cause: rootRead,
    });
  }
  const template = rendering?.used?.file;
  const loaded = template === undefined ? read : [root, template, ...others];
  const schema = rootSchema(root, version);
  const refusal =
    refusalOf(loaded, schema, version) ??
    (rendering === undefined ? undefined : renderingRefusal(rendering, root, schema));

  const unusedTemplates = rendering?.templates.flatMap(({ file }) => (file === template ? [] : [file])) ?? [];
  const dropIns = strays(site, seen)
    .filter((path) => !loaded.some((file) => file.path === path))
    .flatMap((path) => {
      const read = seen.files.get(path);
      return read?.kind === "file" ? [loadFile(path, read, version, importOf(site, version))] : [];
    });
  const unread = [...unusedTemplates, ...dropIns];

  const merge = (table: (file: Loaded) => TomlTable) => {
    if (mergesTables(version)) return loaded.map(table).reduce(mergeTables, Object.create(null));
    // A template's blocks end up in the root file itself.
    const last = loaded.findLast(
      (file) => file !== template && tableAt(table(file), "plugins", criV2) !== undefined,
    );
    if (template !== undefined && (last === undefined || last === root))
      return mergeTables(table(root), table(template));
    return last === undefined ? root.bareTable : table(last);
  };
  const last = loaded.findLast((file) => tableAt(file.bareTable, "plugins", criV2) !== undefined);
  // A template takes ours wherever tables add up.
  const winner = source?.kind === "template" && mergesTables(version) ? root : (last ?? root);
  const effective = merge((file) => file.merged);
  const effectiveBare = merge((file) => file.mergedBare);
  const newIdUsed = runtimesAt(
    merge((file) => file.bareTable),
    criV3,
  );
  const writeId = !mergesTables(version) || (schema === 2 && newIdUsed === undefined) ? criV2 : criV3;
  const id = migratesEachFile(version) ? criV3 : writeId;
  return {
    site,
    seen,
    version,
    schema,
    loaded,
    missing,
    unread,
    merges: mergesTables(version),
    id,
    writeId,
    refusal,
    winner,
    effective,
    effectiveBare,
    rendering,
  };
}

/** The files whose CRI tables count: all of them on 2.x; on 1.x one, with the template that it is made from. */
export function inEffect({ merges, loaded, winner, rendering }: Understood): readonly Loaded[] {
  if (merges) return loaded;
  const template = rendering?.used?.file;
  return template !== undefined && winner === loaded[0] ? [winner, template] : [winner];
}

/** What a template's variables become, as far as imports go. */
export function valuesOf({ source }: Site): Values {
  return (source?.kind === "template" ? source.values : undefined) ?? {};
}

export function defaultHandler(effective: TomlTable, id: string): string {
  const name = tableAt(effective, "plugins", id, "containerd")?.["default_runtime_name"];
  return typeof name === "string" ? name : builtinHandler;
}
