import { removeArrayElement } from "../../toml/edit.ts";
import { lineOf } from "../../toml/find.ts";
import { eolBefore, nextLineStart } from "../../toml/splice.ts";
import type { EngineVersion } from "../backend.ts";
import type { Mending, Remedy } from "../remedy.ts";
import { tableAt } from "../tables.ts";
import { type Loaded, textOf, walk, withoutDoubled } from "./load.ts";
import { renderedSource, withoutEchoes } from "./rendered.ts";
import { criImages, criV2, criV3, mergesTables, migratesEachFile } from "./schema.ts";
import { importOf, valuesOf } from "./understand.ts";
import { versionFor } from "./version.ts";

export const containerdMending: Mending = {
  acceptsMark: false,
  tempDir: () => undefined,
  leaves(site, path) {
    if (site.source?.kind === "merged") {
      const { by, into } = site.source;
      return path === site.rootFile || path === into
        ? `restart ${by}, which writes this file anew`
        : undefined;
    }
    const source = renderedSource(site);
    if (source === undefined) return undefined;
    const { by, templates } = source;
    if (path === site.rootFile) return `mend what it is made from, then restart ${by}, which writes it anew`;
    if (templates.some((each) => each.path === path))
      return `mend it by hand: it is a template of ${by}, of which nobody can tell what was meant`;
    return undefined;
  },
  remedies(site, seen, cut) {
    // What its starter renders, it renders again.
    if (site.source?.kind === "merged") return [];
    const bare = withoutEchoes(site, seen);
    const version = versionFor(site, textOf(bare.files.get(site.rootFile)));
    const walked = walk(site.rootFile, bare, version, importOf(site, version), valuesOf(site));
    const found = [
      ...lostVersion(walked.loaded[0], version, cut.some(isVersion)),
      ...dangling(walked),
      ...doubled(walked.loaded),
    ];
    return found.filter(({ path }) => containerdMending.leaves?.(site, path) === undefined);
  },
};

/**
 * Without `version` the file counts as version 1. 1.x passes over the tables of today then, 2.0 to 2.2 over those of
 * version 2; tables of version 3 they find all the same, and 2.3 migrates everything (config-semantics.md, 1). Where the line was there, and
 * was cut as it was damaged, it comes back all the same.
 */
function lostVersion(root: Loaded | undefined, version: EngineVersion, wasCut: boolean): Remedy[] {
  const plugins = tableAt(root?.table, "plugins");
  if (root === undefined || root.table["version"] !== undefined || plugins === undefined) return [];
  const ids = Object.keys(plugins);
  const disabled = root.table["disabled_plugins"];
  // Where anything speaks for version 1, it may be meant.
  if (!ids.every((id) => id.startsWith("io.containerd."))) return [];
  if (Array.isArray(disabled) && disabled.includes("cri")) return [];
  const isThird = ids.includes(criV3) || ids.includes(criImages);
  const isSecond = ids.includes(criV2);
  if (isThird === isSecond || (isThird && !mergesTables(version))) return [];
  if (!wasCut && (isThird || migratesEachFile(version))) return [];
  const line = `version = ${isThird ? 3 : 2}`;
  return [
    {
      rule: "version",
      message: wasCut
        ? "it has lost its 'version'"
        : "it has lost its 'version': containerd reads it as version 1, and passes over its tables",
      path: root.path,
      line: 1,
      words: `put ${line} on a line of its own above all others, as its tables' names say`,
      edit: (text) => `${line}${eolBefore(text, nextLineStart(text, 0)) || "\n"}${text}`,
    },
  ];
}

/** A `version` line, or the first letters of one. */
function isVersion(line: string): boolean {
  const text = line.trim();
  return /^version\b/.test(text) || (text !== "" && "version".startsWith(text));
}

/** containerd does not start while a file is missing that is imported by its very name. */
function dangling({ loaded, missing }: ReturnType<typeof walk>): Remedy[] {
  return missing.flatMap(({ path, from, read }) => {
    const file = loaded.find((each) => each.path === from);
    const entries = file?.imports.filter((entry) => !entry.glob && entry.pattern === path) ?? [];
    if (file === undefined || read.kind !== "absent" || entries.length === 0) return [];
    const line = lineOf(file.text, ["imports"]);
    return [
      {
        rule: "import-must-exist",
        message: `containerd does not start while it imports a file that is not there: ${path}`,
        path: from,
        ...(line === undefined ? {} : { line }),
        words: "take it out of imports",
        edit: (text) =>
          entries.reduce((rest, { text: entry }) => removeArrayElement(rest, ["imports"], entry, from), text),
      },
    ];
  });
}

/** A line or block of ours that doubles what the administrator has defined since. */
function doubled(loaded: readonly Loaded[]): Remedy[] {
  return loaded
    .filter((file) => file.givesWay)
    .map(({ path }) => ({
      rule: "shared-piece-doubled",
      message: "containerd does not start, as a line of ours stands beside the administrator's own",
      path,
      words: "cut ours",
      edit: (text) => withoutDoubled(text, path),
    }));
}
