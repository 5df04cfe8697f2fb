import { dirname } from "node:path/posix";
import { ShimctlError } from "../../error.ts";
import type { Handler } from "../../handler/model.ts";
import type { Read } from "../../host/host.ts";
import { blockLines, inspectBlocks } from "../../toml/block.ts";
import { decodeToml, encodeToml } from "../../toml/decode.ts";
import { factsAt } from "../../toml/excerpt.ts";
import { canExtend } from "../../toml/extend.ts";
import { parseToml, scanToml } from "../../toml/parse.ts";
import { asScan, ScanError } from "../../toml/scan.ts";
import { splice } from "../../toml/splice.ts";
import type { EngineVersion, Problem, Site, Snapshot, Source } from "../backend.ts";
import { tableAt } from "../tables.ts";
import { globMatcher, hasMeta } from "./glob.ts";
import { handlerLine, type Loaded, loadFile, sharedOwner } from "./load.ts";
import { criV2, criV3, mergesTables, runtimesAt } from "./schema.ts";
import { decodeTemplate, readTemplate, type Template } from "./template.ts";
import { isMade } from "./template_edit.ts";

/**
 * A root file that something else writes anew at each start. It is never edited: what the engine will have at its next
 * start is this file without the echoes of our blocks, and the blocks that its template has by now.
 */

export type RenderedSource = Extract<Source, { kind: "rendered" }>;

export function renderedSource(site: Site): RenderedSource | undefined {
  return site.source?.kind === "rendered" ? site.source : undefined;
}

/** One template that is there. */
export interface TemplateFile {
  readonly path: string;
  /** That of its name, by which it is chosen. */
  readonly schema: number;
  /** The version of what it renders. */
  readonly renders: number;
  readonly template: Template;
  /** Its blocks, as those of any file; nothing else of it. */
  readonly file: Loaded;
}

export interface Rendering {
  readonly source: RenderedSource;
  readonly templates: readonly TemplateFile[];
  /** The one of them that the next start renders. */
  readonly used: TemplateFile | undefined;
}

/**
 * The snapshot with the root file as it would be without anything of ours: rendering keeps our markers, and what they
 * enclose is no holding there. A snapshot of any other site is returned as it is.
 * Throws ShimctlError where there is no such file yet, or it is damaged
 */
export function withoutEchoes(site: Site, seen: Snapshot): Snapshot {
  const source = renderedSource(site);
  const root = seen.files.get(site.rootFile);
  if (source === undefined || root === undefined) return seen;
  if (root.kind === "absent") {
    const folder = dirname(site.rootFile);
    if (seen.folders.has(folder) && seen.folders.get(folder) === undefined) {
      throw new ShimctlError(
        "unsupported-node",
        `Cannot tell what ${source.by} configures, as this folder is not there, or not mounted`,
        {
          path: folder,
          hint: `where shimctl runs in a container, mount it as the node has it; else start ${source.by} once`,
        },
      );
    }
    throw new ShimctlError(
      "unsupported-node",
      `Cannot tell what ${source.by} configures, as it has not written this file yet`,
      {
        path: site.rootFile,
        hint: `start ${source.by} once, then run the same command again`,
      },
    );
  }
  if (root.kind !== "file") {
    throw new ShimctlError("invalid-config", "Cannot read the engine's configuration file", {
      path: site.rootFile,
      cause: root,
    });
  }
  const bare = bareRoots.get(root) ?? bareRoot(source, root);
  bareRoots.set(root, bare);
  return { ...seen, files: new Map(seen.files).set(site.rootFile, bare) };
}

const bareRoots = new WeakMap<Read, Read>();

function bareRoot(source: RenderedSource, root: Extract<Read, { kind: "file" }>): Read {
  const { path } = root;
  try {
    const rendered = decodeToml(root.bytes, path);
    let text = rendered;
    for (;;) {
      const { blocks, problems } = inspectBlocks(scanToml(text, path));
      const problem = problems.find(({ newer }) => !newer);
      if (problem !== undefined)
        throw new ShimctlError("conflict", problem.message, factsAt(text, problem.offset, path, ""));
      const last = blocks.at(-1);
      if (last === undefined) break;
      text = splice(text, blockLines(text, last), "");
    }
    parseToml(text, path);
    return text === rendered ? root : { ...root, bytes: encodeToml(text) };
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    throw new ShimctlError(error.code, inWords(error, `what ${source.by} has rendered`), {
      ...error.facts,
      hint: `mend what it is made from, then restart ${source.by}, which writes this file anew`,
      cause: error,
    });
  }
}

/** The next step for a rendered file, where another one is meant for files that can be edited. */
export function renderedHint(
  site: Site,
  { path, hint }: { readonly path?: string; readonly hint?: string },
): string | undefined {
  const source = renderedSource(site);
  if (source === undefined || path !== site.rootFile) return hint;
  const { by } = source;
  if (hint?.includes("--engine-version") === true || hint?.includes(by) === true) return hint;
  const what = hint === undefined ? "mend that" : hint;
  return `${what}; not in this file, but in what ${by} makes it from at each start`;
}

/** The same of what is thrown. */
export function withRenderedHint<T>(site: Site, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    const hint = renderedHint(site, error.facts);
    if (hint === error.facts.hint || hint === undefined) throw error;
    throw new ShimctlError(error.code, error.message, { ...error.facts, hint, cause: error });
  }
}

/** The templates that exist, and the one that counts. `undefined` for a site of another kind. */
export function renderingOf(site: Site, seen: Snapshot, version: EngineVersion): Rendering | undefined {
  const source = renderedSource(site);
  if (source === undefined) return undefined;
  const templates = source.templates.flatMap(({ path, schema }) => {
    const read = seen.files.get(path);
    if (read === undefined || read.kind === "absent") return [];
    if (read.kind !== "file") {
      throw new ShimctlError("unsupported-node", "Cannot read this template, and it may be the one in use", {
        path,
        hint: "make it a regular file that root can read",
      });
    }
    const template = readTemplate(decodeTemplate(read.bytes, path));
    const file = loadTemplate(path, asTomlRead(read, template), version);
    return [{ path, schema, renders: versionIn(template) ?? schema, template, file }];
  });
  const used = templates.find(({ schema }) => schema <= newestTemplate(source, version));
  return { source, templates, used };
}

/**
 * The version that a template says by itself: a copy of a rendered file says it, and the first line of such a file of
 * version 3 may advise to make one under the name of version 2.
 */
function versionIn({ lines }: Template): number | undefined {
  const end = lines.findIndex(({ text, plain }) => plain && /^[ \t]*\[/.test(text));
  const said = lines.slice(0, end < 0 ? lines.length : end).flatMap(({ text, plain }) => {
    const match = plain ? /^[ \t]*version[ \t]*=[ \t]*(\d+)[ \t]*(?:#.*)?$/.exec(text) : null;
    return match === null ? [] : [Number(match[1])];
  });
  return new Set(said).size === 1 ? said[0] : undefined;
}

/** The newest version that is rendered for this engine: what a start without a template makes. */
function newestTemplate(source: RenderedSource, version: EngineVersion): number {
  const schemas = source.templates
    .map(({ schema }) => schema)
    .filter((schema) => mergesTables(version) || schema === 2);
  return Math.max(0, ...schemas);
}

/** Where a block goes: the template that is used, or the one that goes on with what was rendered last. */
export function templateFor(
  { source, used }: Rendering,
  schema: number,
): { readonly path: string; readonly exists: boolean } | undefined {
  if (used !== undefined) return { path: used.path, exists: true };
  const made = source.templates.find((each) => each.schema === schema);
  return made === undefined ? undefined : { path: made.path, exists: false };
}

function loadTemplate(path: string, read: Read, version: EngineVersion): Loaded {
  try {
    return loadFile(path, read, version, "");
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    throw new ShimctlError(error.code, inWords(error, "the blocks in this template"), {
      ...error.facts,
      ...(error.code === "unsupported-config"
        ? {}
        : {
            hint: "restore the lines of these blocks, or remove them with their markers, then run the same command again",
          }),
      cause: error,
    });
  }
}

/** The same error of a file that is no usual one: `repair` does nothing about it. */
function inWords({ message }: ShimctlError, what: string): string {
  return message
    .replace(/^Cannot read the file\b/, `Cannot read ${what}`)
    .replace(/^Cannot trust the shimctl blocks of the file\b/, `Cannot trust ${what}`);
}

/** The same template is read with every step of following imports. */
const tomlReads = new WeakMap<Read, Read>();

function asTomlRead(read: Extract<Read, { kind: "file" }>, template: Template): Read {
  const known = tomlReads.get(read) ?? { ...read, bytes: encodeToml(template.toml) };
  tomlReads.set(read, known);
  return known;
}

/** Why nothing may be added here now; what is ours can be removed all the same. */
export function renderingRefusal(
  { source, used }: Rendering,
  root: Loaded,
  schema: number,
): ShimctlError | undefined {
  const { by, mark } = source;
  const [firstLine = ""] = root.text.split(/\r?\n/, 1);
  if (mark !== undefined && firstLine !== mark) {
    return new ShimctlError(
      "unsupported-node",
      `Cannot install here, as ${by} does not manage this file: its first line is not '${mark}'`,
      {
        path: root.path,
        line: 1,
        hint: `move this file away and restart ${by}, which then writes and manages its own; or add the handlers to it by hand`,
      },
    );
  }
  if (root.table["version"] === undefined) {
    return new ShimctlError(
      "unsupported-config",
      `Cannot add to what ${by} renders, as this file has no version`,
      {
        path: root.path,
        line: 1,
        hint: `mend what it is made from, if anything, then restart ${by}, which writes it anew`,
      },
    );
  }
  if (source.templates.length === 0) return undefined;
  if (!source.templates.some((each) => each.schema === schema)) {
    return new ShimctlError(
      "unsupported-config",
      `Cannot add to a configuration of version ${schema}, as no template of ${by} for it is known`,
      { path: root.path, line: 1, hint: "a newer shimctl may know it" },
    );
  }
  // Without a template, one is made that goes on with this version.
  if (used === undefined || used.renders === schema) return undefined;
  return new ShimctlError(
    "unsupported-config",
    `Cannot add to a configuration of version ${schema}, as ${by} renders version ${used.renders} from this template at its next start`,
    { path: used.path, hint: `restart ${by} first, then run the same command again` },
  );
}

/**
 * The drop-in of an owner that the root file imports by a pattern; nothing where tables of several files do not merge.
 * Nor where the root file is of an older version only since a template of ours makes it so, or one that is gone: the
 * next start may import another folder.
 */
export function renderedDropIn(
  { source, used }: Rendering,
  root: Loaded,
  schema: number,
  version: EngineVersion,
  name: string,
): string | undefined {
  if (!mergesTables(version)) return undefined;
  const isOlder = source.templates.length > 0 && schema < newestTemplate(source, version);
  if (isOlder && (used === undefined || isMade(used.template, source.base))) return undefined;
  if (!maySayImports(used)) return undefined;
  for (const { glob, pattern } of root.imports) {
    const slash = pattern.lastIndexOf("/");
    const folder = pattern.slice(0, slash);
    if (!glob || hasMeta(folder) || !source.dropIns.includes(folder)) continue;
    if (globMatcher(pattern.slice(slash + 1))(name)) return `${folder}/${name}`;
  }
  return undefined;
}

/** Whether the next start may render imports: a template that was put there since the last one may be whole by itself. */
export function maySayImports(used: TemplateFile | undefined): boolean {
  const isMeant = (text: string) => /\bimports\b|\btemplate\b/.test(text) && !/^[ \t]*#/.test(text);
  return used === undefined || used.template.lines.some(({ text }) => isMeant(text));
}

/**
 * Refuses a handler that is in the rendered file without us, or in its template outside our blocks.
 * Throws ShimctlError `conflict`
 * @param holder the owner, where ours is installed already
 */
export function refuseRendered(
  { source, used }: Rendering,
  root: Loaded,
  id: string,
  name: string,
  holder: string | undefined,
): void {
  const leave =
    holder === undefined
      ? `leave '${name}' out of the command`
      : `shimctl uninstall ${name} --owner ${holder}`;
  const line = used === undefined ? undefined : definitionLine(used.template, name);
  if (line !== undefined && used !== undefined) {
    throw new ShimctlError(
      "conflict",
      `Cannot define handler '${name}', as this template defines it already`,
      {
        path: used.path,
        line,
        hint: `it is served under this name already, or from the next start on, and needs no install: ${leave}; --adopt takes nothing out of a template`,
      },
    );
  }
  if (tableAt(runtimesAt(root.mergedBare, id), name) === undefined) return;
  const at = handlerLine(root, name);
  throw new ShimctlError(
    "conflict",
    `Cannot define handler '${name}', as ${source.by} renders it by itself`,
    {
      path: root.path,
      ...(at === undefined ? {} : { line: at }),
      hint: `it is served under this name already and needs no install: ${leave}; --adopt takes nothing out of a rendered file`,
    },
  );
}

/**
 * Refuses a handler of another owner's block in a template: nothing is taken out of one.
 * Throws ShimctlError `conflict`
 */
export function refuseInBlocks(
  { source }: Rendering,
  name: string,
  places: readonly { readonly path: string; readonly line: number; readonly owner: string }[],
): void {
  const place = places.find(({ path }) => source.templates.some((each) => each.path === path));
  if (place === undefined) return;
  const { path, line, owner } = place;
  throw new ShimctlError(
    "conflict",
    `Cannot define handler '${name}', as owner '${owner}' has installed it`,
    {
      path,
      line,
      hint: `use --owner ${owner}, or uninstall it there first; --adopt takes nothing out of a template`,
    },
  );
}

/** The default handler that a template names by itself: the last line counts, whatever table it stands in. */
export function defaultIn({ used }: Rendering): string | undefined {
  const named = used?.template.lines.flatMap(({ text, ours, plain }) => {
    const name =
      ours || !plain ? null : /^[ \t]*default_runtime_name[ \t]*=[ \t]*(["'])([^"']*)\1/.exec(text);
    return name === null ? [] : [name[2]];
  });
  return named?.at(-1);
}

/** The line of a template on which it defines a handler by a plain header, under either plugin id. */
function definitionLine(template: Template, name: string): number | undefined {
  const at = template.lines.findIndex(({ text, ours, plain }) => {
    if (ours || !plain || !/^[ \t]*\[/.test(text)) return false;
    const [, id = "", , runtimes = "", handler] = headerOf(text);
    return [criV2, criV3].includes(id) && runtimes === "runtimes" && handler === name;
  });
  return at < 0 ? undefined : at + 1;
}

function headerOf(line: string): readonly string[] {
  try {
    const [item] = asScan(line).items;
    return item?.kind === "table" && item.path[0] === "plugins" ? item.path : [];
  } catch (error) {
    if (error instanceof ScanError) return [];
    throw error;
  }
}

/**
 * What cannot stand in a template: text that would be taken for an action, and handlers that are rendered as soon as
 * their binary is found, as a second table of the name keeps containerd from starting (k3s-io/docs#566).
 * Throws ShimctlError
 * @param place where they would stand: with the names that the owner has anywhere, and those that stand there already
 */
export function refuseInTemplate(
  { source }: Rendering,
  place: {
    readonly path: string;
    readonly owner: string;
    readonly held: readonly string[];
    readonly standing: readonly string[];
  },
  handlers: readonly Handler[],
  textOf: (handler: Handler) => string,
): void {
  const { path, owner, held, standing } = place;
  for (const handler of handlers) {
    const { name } = handler;
    if (/\{\{|\}\}/.test(textOf(handler))) {
      throw new ShimctlError(
        "unsupported-config",
        `Cannot put handler '${name}' into a template, which would read a part of it as an action: {{ or }}`,
        { path, hint: "leave these characters out of its definition" },
      );
    }
    if (source.makes?.includes(name) !== true || standing.includes(name)) continue;
    throw new ShimctlError(
      "conflict",
      `Cannot define handler '${name}' in a template, as ${source.by} renders it by itself once it finds its binary, and containerd does not start with both`,
      {
        path,
        // A drop-in that nothing imports any more held it without harm.
        hint: held.includes(name)
          ? `shimctl uninstall ${name} --owner ${owner}`
          : `restart ${source.by}, and where the binary is found it serves '${name}' without an install; else give the handler another name`,
      },
    );
  }
}

/**
 * Refuses a table that would stand in one file with what TOML does not allow to extend: containerd would not start.
 * Throws ShimctlError `unsupported-config`
 */
export function refuseInextensible({ source }: Rendering, root: Loaded, table: readonly string[]): void {
  const obstacle = canExtend(root.text, table);
  if (obstacle === null) return;
  throw new ShimctlError(
    "unsupported-config",
    `Cannot add a handler to what ${source.by} renders, as ${obstacle.reason}`,
    {
      path: root.path,
      line: obstacle.line,
      hint: `write it as [headers] in the template that it comes from, restart ${source.by}, then run the same command again`,
    },
  );
}

/** Handlers that are rendered by themselves since our block was written: the same table twice in one file. */
export function renderedTwice(rendering: Rendering, root: Loaded): Problem[] {
  const { used, source } = rendering;
  if (used === undefined) return [];
  return used.file.blocks.flatMap((block) =>
    block.owner === sharedOwner
      ? []
      : [...block.names].flatMap((name): Problem[] => {
          const twice =
            definitionLine(used.template, name) !== undefined ||
            [criV2, criV3].some((id) => tableAt(runtimesAt(root.bareTable, id), name) !== undefined);
          if (!twice) return [];
          const message = `containerd does not start, as ${source.by} renders handler '${name}' by itself, and the block of owner '${block.owner}' defines it again`;
          const hint = `uninstall it: shimctl uninstall ${name} --owner ${block.owner}`;
          const { path } = used;
          return [
            {
              severity: "error",
              rule: "rendered-twice",
              message,
              path,
              line: block.line,
              handler: name,
              hint,
            },
          ];
        }),
  );
}

/** The root file as the next start makes it: with the blocks of the template at its end. */
export function composed(root: Loaded, used: TemplateFile | undefined): Loaded {
  if (used === undefined || used.file.blocks.length === 0) return root;
  const bodies = used.file.blocks.map(({ body }) => `\n${body}`).join("");
  return { ...root, text: `${root.text.replace(/\n?$/, "\n")}${bodies}` };
}
