import { dirname } from "node:path/posix";
import { ShimctlError } from "../../error.ts";
import type { Handler } from "../../handler/model.ts";
import { findBlocks, takeOut } from "../../toml/edit.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import { deepEqual } from "../../toml/prove.ts";
import { adopt, type Taken, takenFrom, withoutZeros } from "../adopt.ts";
import type {
  Adopted,
  Adopting,
  Backend,
  EngineState,
  EngineView,
  FileEdit,
  ForeignDefinition,
  Holding,
  ServedHandler,
  Site,
  Snapshot,
  Unmarked,
} from "../backend.ts";
import { assertIntact, newerBlocks, refuseNewer, undefinedFor, writtenByNewer } from "../ownership.ts";
import { isTable, tableAt } from "../tables.ts";
import { builtinBody, saysBuiltIn } from "./builtin.ts";
import { check } from "./check.ts";
import { globMatcher, hasMeta } from "./glob.ts";
import { assertExtensible, editFor, type Goal } from "./goal.ts";
import { handlerLine, type Loaded, type OwnedBlock, sharedOwner, textOf, walk } from "./load.ts";
import { stageMerged, wantMerged } from "./merged.ts";
import { needs } from "./needs.ts";
import {
  composed,
  defaultIn,
  maySayImports,
  type Rendering,
  refuseInBlocks,
  refuseInextensible,
  refuseInTemplate,
  refuseRendered,
  renderedDropIn,
  renderedHint,
  renderedSource,
  templateFor,
  withoutEchoes,
  withRenderedHint,
} from "./rendered.ts";
import { builtinHandler, criImages, criV2, criV3, mergesTables, runtimesAt } from "./schema.ts";
import { stage } from "./stage.ts";
import { blockBody, fromTable, likeRunc } from "./table.ts";
import { templateEdit } from "./template_edit.ts";
import {
  defaultHandler,
  dropInFolder,
  dropInName,
  dropInPattern,
  importOf,
  inEffect,
  ourFolders,
  strays,
  understand,
  valuesOf,
} from "./understand.ts";
import type { Understood } from "./understood.ts";
import { versionFor } from "./version.ts";

export const containerd: Backend = {
  name: "containerd",
  want(site, seen) {
    if (site.source?.kind === "merged") return wantMerged(site, site.source, seen);
    const source = renderedSource(site);
    const templates = source?.templates.map(({ path }) => path) ?? [];
    if (!seen.files.has(site.rootFile))
      return { files: [site.rootFile, ...templates], folders: ourFolders(site) };
    const folder = dirname(site.rootFile);
    // What is missing with its folder may only not be mounted.
    const isMissing = source !== undefined && seen.files.get(site.rootFile)?.kind === "absent";
    if (isMissing && !seen.folders.has(folder)) return { files: [], folders: [folder] };
    const bare = withoutEchoes(site, seen);
    const version = versionFor(site, textOf(bare.files.get(site.rootFile)));
    const { wantedFiles, wantedFolders } = withRenderedHint(site, () =>
      walk(site.rootFile, bare, version, importOf(site, version), valuesOf(site)),
    );
    const ours = [...strays(site, seen), ...templates].filter((path) => !seen.files.has(path));
    const folders = ourFolders(site).filter((folder) => !seen.folders.has(folder));
    return { files: [...wantedFiles, ...ours], folders: [...wantedFolders, ...folders] };
  },
  read(site, seen) {
    return view(withRenderedHint(site, () => understand(site, seen)));
  },
  tablesOf,
  render: (handler, target) =>
    handler.containerd === undefined
      ? undefined
      : blockBody([likeRunc(handler, target?.base)], target?.schema === 2 ? criV2 : criV3),
};

function view(node: Understood): EngineView {
  const state = stateOf(node);
  const known = new Map<string, Handler[]>();
  const handlersOf = (owner: string): Handler[] => {
    const handlers = known.get(owner) ?? handlersIn(node, owner);
    known.set(owner, handlers);
    return handlers;
  };
  return {
    state,
    handlersOf,
    plan: (owner, desired, adopting) => plan(node, owner, desired, handlersOf(owner), adopting),
    unmarked: (installed) => unmarked(node, installed),
    check: (facts) =>
      [...check(node, facts), ...newerBlocks([...node.loaded, ...node.unread])].map((problem) => {
        const hint = renderedHint(node.site, problem);
        return hint === undefined ? problem : { ...problem, hint };
      }),
    needs: (handlers) => handlers.flatMap(needs),
    stage: (folder) => {
      const { source } = node.site;
      return source?.kind === "merged" ? stageMerged(node, source, folder) : stage(staged(node), folder);
    },
    expect: (owner, desired) => {
      const present = desired.map((handler) => handler.name);
      const before = handlersOf(owner).map((handler) => handler.name);
      // What others define as well is served without us too.
      const others = runtimesAt(node.effectiveBare, node.id) ?? {};
      const isGone = (name: string) => !present.includes(name) && others[name] === undefined;
      return { present, absent: before.filter(isGone) };
    },
  };
}

const ids = [criV2, criV3];

function stateOf(node: Understood): EngineState {
  const files = [...node.loaded, ...node.unread];
  const nextDefault = node.rendering === undefined ? undefined : defaultIn(node.rendering);
  const holdings: Holding[] = files.flatMap((file) =>
    [...file.blocks, ...file.newerBlocks]
      .filter((block) => block.owner !== sharedOwner)
      .map((block) => ({
        owner: block.owner,
        path: file.path,
        line: block.line,
        handlers: [...block.names],
        intact: block.intact || file.newerBlocks.includes(block),
        loaded: isServed(node, file, block),
      })),
  );
  return {
    engine: "containerd",
    schema: node.schema,
    loaded: node.loaded.filter((file) => file.read.kind === "file").map((file) => file.path),
    handlers: served(node),
    defaultHandler: defaultHandler(node.effective, node.id),
    ...(nextDefault === undefined ? {} : { nextDefault }),
    defaultKey: "default_runtime_name",
    holdings,
    // Only a report asks for these.
    get foreign() {
      return foreignIn(node);
    },
    get imports() {
      return node.loaded.flatMap((file) =>
        file.imports.map(({ pattern }) => ({ path: pattern, from: file.path })),
      );
    },
  };
}

function tablesOf(handler: string): string[][] {
  return [
    ...ids.map((id) => ["plugins", id, "containerd", "runtimes", handler]),
    ["plugins", criImages, "runtime_platforms", handler],
  ];
}

function foreignIn(node: Understood): ForeignDefinition[] {
  // What a root file is rendered with, no tool has left there.
  const edited = node.rendering === undefined ? node.loaded : node.loaded.slice(1);
  return edited.flatMap((file) => {
    const named = ids.flatMap((id) => Object.entries(runtimesAt(file.bareTable, id) ?? {}));
    return named.flatMap(([name, table]): ForeignDefinition[] => {
      if (!isTable(table)) return [];
      const line = handlerLine(file, name);
      const type = table["runtime_type"];
      const programs = [type, table["runtime_path"], tableAt(table, "options")?.["BinaryName"]];
      return [
        {
          name,
          path: file.path,
          ...(line === undefined ? {} : { line }),
          runtimeType: typeof type === "string" ? type : "",
          programs: programs
            .filter((value) => typeof value === "string" && value.startsWith("/"))
            .map(String),
        },
      ];
    });
  });
}

function served(node: Understood): ServedHandler[] {
  const runtimes = runtimesAt(node.effective, node.id);
  const names = Object.keys(runtimes ?? {});
  // 2.x merges what files say into its defaults; 1.x keeps its default only where no file defines any.
  const builtin = (mergesTables(node.version) || runtimes === undefined) && !names.includes(builtinHandler);
  const handlers = names.map((name): ServedHandler => {
    const file = definer(node, name);
    const type = tableAt(runtimes, name)?.["runtime_type"];
    return {
      name,
      path: file?.path,
      owner: file?.blocks.find((block) => block.owner !== sharedOwner && block.names.has(name))?.owner,
      runtimeType:
        typeof type === "string"
          ? type
          : name === builtinHandler && mergesTables(node.version)
            ? "io.containerd.runc.v2"
            : "",
    };
  });
  if (builtin)
    handlers.push({
      name: builtinHandler,
      path: undefined,
      owner: undefined,
      runtimeType: "io.containerd.runc.v2",
    });
  return handlers.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Whether the engine takes handlers from this block: its file is loaded, and not masked, and under the id that counts. */
function isServed(node: Understood, file: Loaded, block: OwnedBlock): boolean {
  if (!node.loaded.includes(file) || !inEffect(node).includes(file)) return false;
  const effective = runtimesAt(node.effective, node.id);
  return [...block.names].every((name) => tableAt(effective, name) !== undefined);
}

/** The last file that defines a handler: the one that wins. */
function definer(node: Understood, name: string): Loaded | undefined {
  const files = node.merges
    ? node.loaded
    : node.rendering !== undefined
      ? inEffect(node)
      : node.loaded.filter((file) => tableAt(file.table, "plugins", criV2) !== undefined).slice(-1);
  return files.findLast((file) => tableAt(runtimesAt(file.merged, node.id), name) !== undefined);
}

function handlersIn(node: Understood, owner: string): Handler[] {
  return [...node.loaded, ...node.unread].flatMap((file) =>
    file.blocks
      .filter((block) => block.owner === owner)
      .flatMap((block) => {
        assertIntact(block, file.path);
        const table = parseToml(block.body, file.path);
        return ids.flatMap((id) =>
          Object.entries(runtimesAt(table, id) ?? {}).map(([name, entry]) => {
            const handler = isTable(entry) ? fromTable(name, entry) : undefined;
            if (handler === undefined) throw writtenByNewer(name, block, file.path);
            return handler;
          }),
        );
      }),
  );
}

function plan(
  node: Understood,
  owner: string,
  desired: readonly Handler[],
  present: readonly Handler[],
  adopting: Adopting | undefined,
): FileEdit[] {
  refuseNewer([...node.loaded, ...node.unread]);
  const held = present.map((handler) => handler.name);
  if (node.refusal !== undefined && desired.some((handler) => !held.includes(handler.name)))
    withRenderedHint(node.site, () => {
      throw node.refusal;
    });
  const runc = tableAt(runtimesAt(node.effectiveBare, node.id), builtinHandler);
  const handlers = desired
    .map((handler) => likeRunc(handler, runc))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const taking = handlers.flatMap((handler) => {
    if (handler.containerd === undefined) throw undefinedFor("containerd", "containerd", handler.name);
    return adoptedFor(node, owner, handler, adopting);
  });
  for (const [handler, paths] of adopting?.unmarked ?? []) {
    if (handlers.some(({ name }) => name === handler)) continue;
    taking.push(...paths.map((path): Adopted => ({ handler, path, owner: undefined, isOurs: true })));
  }
  for (const file of [...node.loaded, ...node.unread]) {
    for (const block of file.blocks) if (block.owner === owner) assertIntact(block, file.path);
  }
  if (node.rendering !== undefined)
    return planRendered(node, node.rendering, owner, { handlers, held, taking, adopting });
  const kind = node.site.source?.kind;
  return kind === "merged" || (node.merges && kind !== "template")
    ? planDropIn(node, owner, handlers, taking)
    : planBlock(node, owner, handlers, taking);
}

/** Every definition of a handler that is not the owner's, where it may be taken over; it throws where not. */
function adoptedFor(
  node: Understood,
  owner: string,
  handler: Handler,
  adopting: Adopting | undefined,
): Adopted[] {
  const { name } = handler;
  const [root] = node.loaded;
  const holding = [...node.loaded, ...node.unread].filter((file) =>
    file.blocks.some((block) => block.owner === owner && block.names.has(name)),
  );
  // A drop-in goes on over a handler that the root file has got since; in one file they would be the same table twice.
  const isOver =
    node.rendering !== undefined &&
    mergesTables(node.version) &&
    holding.some((file) => node.loaded.includes(file) && file !== node.rendering?.used?.file);
  if (node.rendering !== undefined && root !== undefined && adopting?.mode !== "leave" && !isOver)
    refuseRendered(node.rendering, root, node.id, name, holding.length > 0 ? owner : undefined);
  // 1.x has one table in effect and the others masked; 2.x makes one of them all.
  const merged = meaningIn(node.effectiveBare, node.id, name);
  const defining = node.loaded.filter(
    (file) => tableAt(runtimesAt(file.mergedBare, node.id), name) !== undefined && !(isOver && file === root),
  );
  for (const file of defining) refuseOwn(node.site, file, name);
  const foreign = defining.map((file) => ({
    path: file.path,
    line: handlerLine(file, name),
    owner: undefined,
    meaning: node.merges || file === node.winner ? merged : meaningIn(file.mergedBare, node.id, name),
  }));
  const owned = [...node.loaded, ...node.unread].flatMap((file) =>
    file.blocks
      .filter((block) => block.owner !== owner && block.owner !== sharedOwner && block.names.has(name))
      .map((block) => ({
        path: file.path,
        line: block.line,
        owner: block.owner,
        meaning: meaningIn(parseToml(block.body, file.path), node.writeId, name),
      })),
  );
  if (node.rendering !== undefined && adopting?.mode !== "leave") refuseInBlocks(node.rendering, name, owned);
  const places = [...foreign, ...owned];
  if (places.length === 0) return [];
  const ours = meaningIn(parseToml(blockBody([handler], node.writeId), ""), node.writeId, name);
  return adopt(name, ours, places, adopting);
}

/**
 * A program that parses a file and writes it anew without its comments (nvidia-ctk, tomlq) takes our markers away,
 * and keeps all that they enclosed. Where only some of it stands, somebody has defined that meanwhile.
 */
function unmarked(node: Understood, installed: readonly Handler[]): Unmarked {
  const { source } = node.site;
  // What is made of other files is made of them again, and a template is no TOML. Drop-ins beside them are as any file.
  const isMade = (path: string) =>
    (source?.kind === "rendered" && (path === node.site.rootFile || path === node.rendering?.used?.path)) ||
    source?.kind === "merged";
  const files = node.loaded.filter((file) => !isMade(file.path) && hasTables(file));
  if (files.length === 0 || installed.length === 0) return new Map();
  // On 1.x a copy masks what it was made of. Where files merge, nobody makes one: what stands beside ours is theirs.
  const isMarked = (name: string) =>
    node.loaded.some(({ blocks }) => blocks.some(({ names }) => names.has(name)));
  if (mergesTables(node.version) && installed.some(({ name }) => isMarked(name))) return new Map();
  const wanted = installed.map((handler) => {
    const { name } = handler;
    const body = handler.containerd === undefined ? "" : blockBody([handler], node.writeId);
    return { name, meaning: meaningIn(parseToml(body, ""), node.writeId, name) };
  });
  const paths = files
    .filter(({ mergedBare, newerBlocks }) =>
      wanted.every(
        ({ name, meaning }) =>
          tableAt(runtimesAt(mergedBare, node.id), name) !== undefined &&
          !newerBlocks.some((block) => block.names.has(name)) &&
          deepEqual(meaningIn(mergedBare, node.id, name), meaning),
      ),
    )
    .map(({ path }) => path);
  return paths.length === 0 ? new Map() : new Map(wanted.map(({ name }) => [name, paths]));
}

function hasTables({ bareTable }: Loaded): boolean {
  return ids.some((id) => runtimesAt(bareTable, id) !== undefined);
}

/** What is rendered into a file at each start cannot be taken out of it. */
function refuseOwn({ source }: Site, file: Loaded, name: string): void {
  if (source?.kind !== "merged" || file.path !== source.into) return;
  throw new ShimctlError(
    "conflict",
    `Cannot define handler '${name}', as ${source.by} defines it by itself`,
    {
      path: file.path,
      hint: `leave '${name}' out of the command`,
    },
  );
}

/** What a handler's tables mean to the engine: without what they say and it would do anyway. */
function meaningIn(table: TomlTable, id: string, name: string): TomlTable {
  const meaning: TomlTable = Object.create(null);
  const { options, ...own } = tableAt(runtimesAt(table, id), name) ?? {};
  for (const [key, value] of Object.entries(withoutZeros(own, false)))
    if (!((key === "sandboxer" || key === "sandbox_mode") && value === "podsandbox")) meaning[key] = value;
  // Only runc's options are read into a Go struct; any other shim is handed the table as it is.
  if (isTable(options)) {
    const isRunc = own["runtime_type"] === "io.containerd.runc.v2";
    const said = isRunc ? withoutZeros(options, true) : options;
    if (Object.keys(said).length > 0) meaning["options"] = said;
  }
  const platform = tableAt(table, "plugins", criImages, "runtime_platforms", name);
  if (platform !== undefined && Object.keys(platform).length > 0) meaning["runtime_platform"] = platform;
  return meaning;
}

/** The tables that go from one file. */
function takenIn(node: Understood, owner: string, path: string, taking: readonly Adopted[]): Taken {
  const names = new Set(taking.filter((each) => each.path === path).map(({ handler }) => handler));
  const file = [...node.loaded, ...node.unread].find((each) => each.path === path);
  if (names.size === 0 || file === undefined) return [];
  return takenFrom(file.text, path, owner, [...names].flatMap(tablesOf));
}

/** What a file says without ours and what is taken out of it. */
function leftOf(node: Understood, owner: string, file: Loaded, taking: readonly Adopted[]): string {
  const tables = takenIn(node, owner, file.path, taking).map(({ table }) => table);
  return tables.length === 0 ? file.bareText : takeOut(file.bareText, tables, owner, file.path);
}

/** The edit that reaches a goal, and what it takes over. */
function editOf(node: Understood, goal: Goal, taking: readonly Adopted[]): FileEdit | undefined {
  const edit = editFor(goal, bytesAt(node.seen, goal.path));
  const adopts = taking.filter(({ path, isOurs }) => path === goal.path && isOurs !== true);
  if (edit === undefined) return undefined;
  return { ...edit, labelFrom: node.site.rootFile, ...(adopts.length === 0 ? {} : { adopts }) };
}

/** containerd 2.x: one drop-in per owner, then the import that reaches it; the other way round to remove. */
function planDropIn(
  node: Understood,
  owner: string,
  handlers: readonly Handler[],
  taking: readonly Adopted[],
): FileEdit[] {
  const { site, seen, schema, writeId } = node;
  const ourImport = importOf(site, node.version);
  const here = [...node.loaded, ...node.unread].filter((file) =>
    file.blocks.some((block) => block.owner === owner),
  );
  const reached = here.find((file) => node.loaded.includes(file) && file.path !== site.rootFile);
  const target =
    reached?.path ??
    mergedDropIn(site, owner) ??
    reachableDropIn(node, owner) ??
    `${dropInFolder(site)}/${dropInName(owner)}`;

  const body = handlers.length === 0 ? undefined : blockBody(handlers, writeId);
  // Somebody may have made our file theirs.
  const theirs = [...node.loaded, ...node.unread].find(({ path }) => path === target);
  if (theirs !== undefined)
    for (const { name } of handlers)
      assertExtensible(leftOf(node, owner, theirs, taking), target, [
        "plugins",
        writeId,
        "containerd",
        "runtimes",
        name,
      ]);
  const inOurFolder = (path: string) =>
    path.startsWith(`${dropInFolder(site)}/`) && dropInPattern.test(path.slice(path.lastIndexOf("/") + 1));
  const keepsDropIn = (path: string) =>
    path === target
      ? body !== undefined
      : [...node.loaded, ...node.unread].some(
          (file) => file.path === path && file.blocks.some((block) => block.owner !== owner),
        );
  const needsOurs = [
    ...new Set([target, ...node.loaded.map((file) => file.path), ...node.unread.map((file) => file.path)]),
  ].some((path) => inOurFolder(path) && keepsDropIn(path) && !foreignReaches(node, path));

  const goal = (path: string, block: string | undefined): Goal => ({
    path,
    owner,
    block,
    schema,
    ourImport,
    needsImport: () => path === site.rootFile && needsOurs,
    shared: () => undefined,
    leavesShared: () => false,
    isRoot: path === site.rootFile,
    mustStay: namedByImport(node, path) || isLinked(seen, path),
    taken: takenIn(node, owner, path, taking),
  });
  const edit = (path: string, block: string | undefined) => editOf(node, goal(path, block), taking);

  const dropIns = [...new Set([target, ...here.map((file) => file.path)])]
    .filter((path) => path !== site.rootFile)
    .map((path) => edit(path, path === target ? keepIfSame(node, path, owner, body) : undefined));
  const root = edit(site.rootFile, undefined);
  // What others define goes when ours is in effect: a handler that is the default must never be missing.
  const others = [...new Set(taking.map(({ path }) => path))]
    .filter((path) => path !== site.rootFile && path !== target && !here.some((file) => file.path === path))
    .map((path) => edit(path, undefined));
  const order = body === undefined ? [root, ...dropIns] : [...dropIns, root, ...others];
  return order.filter((change) => change !== undefined);
}

interface RenderedWish {
  readonly handlers: readonly Handler[];
  /** Names that the owner has now. */
  readonly held: readonly string[];
  readonly taking: readonly Adopted[];
  readonly adopting: Adopting | undefined;
}

/**
 * Where the root file is written anew at each start: one drop-in per owner where that file imports a folder of them,
 * else one block per owner in the template. Whatever the owner has elsewhere goes, after the new place has it.
 */
function planRendered(
  node: Understood,
  rendering: Rendering,
  owner: string,
  { handlers, held, taking, adopting }: RenderedWish,
): FileEdit[] {
  const { site, seen, schema, version, writeId } = node;
  const { source } = rendering;
  const [root] = node.loaded;
  if (root === undefined) return [];
  const isTemplate = (path: string) => source.templates.some((each) => each.path === path);
  const here = [...node.loaded, ...node.unread]
    .filter((file) => file.blocks.some((block) => block.owner === owner))
    .map(({ path }) => path);
  const reached = node.loaded.find(
    ({ path }) => here.includes(path) && path !== root.path && !isTemplate(path),
  );
  const inUse = maySayImports(rendering.used) ? reached?.path : undefined;
  const dropIn = inUse ?? renderedDropIn(rendering, root, schema, version, dropInName(owner));
  const body = handlers.length === 0 ? undefined : blockBody(handlers, writeId);
  const namesAt = (path: string | undefined) =>
    [...node.loaded, ...node.unread]
      .filter((file) => file.path === path)
      .flatMap((file) => file.blocks.filter((block) => block.owner === owner))
      .flatMap(({ names }) => [...names]);
  // Until the next start it is not known where a new block belongs: what is there stays where it is.
  const isFixed = node.refusal !== undefined && body !== undefined && here.length > 0;
  const target = isFixed ? here[0] : (dropIn ?? templateFor(rendering, schema)?.path);
  if (!isFixed && body !== undefined && dropIn === undefined) {
    refuseNoPlace(node, rendering, root);
    if (adopting?.mode !== "leave")
      refuseInTemplate(
        rendering,
        { path: target ?? root.path, owner, held, standing: namesAt(target) },
        handlers,
        (each) => blockBody([each], writeId),
      );
  }
  const edit = (path: string, block: string | undefined): FileEdit | undefined => {
    const taken = takenIn(node, owner, path, taking);
    const mustStay = namedByImport(node, path) || isLinked(seen, path);
    if (isTemplate(path)) {
      if (block !== undefined)
        for (const { name } of handlers)
          refuseInextensible(rendering, root, ["plugins", writeId, "containerd", "runtimes", name]);
      const made = templateEdit({ path, owner, block, base: source.base, mustStay }, bytesAt(seen, path));
      return made && { ...made, labelFrom: site.rootFile };
    }
    if (block !== undefined) {
      const theirs = [...node.loaded, ...node.unread].find((file) => file.path === path);
      const text = theirs === undefined ? "" : leftOf(node, owner, theirs, taking);
      for (const { name } of handlers)
        assertExtensible(text, path, ["plugins", writeId, "containerd", "runtimes", name]);
    }
    return editOf(
      node,
      {
        path,
        owner,
        block,
        schema,
        ourImport: "",
        needsImport: () => false,
        shared: () => undefined,
        leavesShared: () => false,
        isRoot: false,
        mustStay,
        taken,
      },
      taking,
    );
  };
  const others = [...new Set([...(isFixed ? [] : here), ...taking.map(({ path }) => path)])].filter(
    (path) => path !== target,
  );
  const edits = [
    ...(target !== undefined &&
    (body !== undefined || here.includes(target) || taking.some(({ path }) => path === target))
      ? [edit(target, keepIfSame(node, target, owner, body))]
      : []),
    ...others.map((path) => edit(path, undefined)),
  ];
  return edits.filter((change) => change !== undefined);
}

/** Throws where no drop-in is imported and no template can be used or made. */
function refuseNoPlace({ version, winner, schema }: Understood, rendering: Rendering, root: Loaded): void {
  const { source } = rendering;
  const { by } = source;
  const target = templateFor(rendering, schema);
  if (target === undefined) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot add to what ${by} renders, as this file imports none of the folders for drop-ins`,
      { path: root.path, hint: `restart ${by}, or look for these folders: ${source.dropIns.join(", ")}` },
    );
  }
  if (!mergesTables(version) && winner !== root) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot add to what ${by} renders, as this file has a CRI table, and containerd 1.x takes that in place of the rendered one`,
      { path: winner.path, hint: "move its CRI table into a template" },
    );
  }
  // A template that is made is nothing without the base one (k3s-io/k3s#7991: 1.24.17, 1.25.13, 1.26.8, 1.27.5, 1.28.1).
  const isOld = !mergesTables(version) && (version.minor === undefined || version.minor < 7);
  if (!target.exists && isOld) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot make a template for this release of ${by}, which may not know the base one that it would need`,
      {
        path: target.path,
        hint: `upgrade ${by}; or put a whole template there, as its documentation shows, and restart ${by}`,
      },
    );
  }
}

/** The files for the engine's own parser: what a template adds stands in the root file. */
function staged({ loaded, rendering }: Understood): readonly Loaded[] {
  const [root, ...others] = loaded;
  if (root === undefined || rendering === undefined) return loaded;
  const { used } = rendering;
  return [composed(root, used), ...others.filter((file) => file !== used?.file)];
}

/** Where an owner's drop-in stands that the engine's starter merges. */
function mergedDropIn({ source }: Site, owner: string): string | undefined {
  return source?.kind === "merged" ? `${source.folder}/${dropInName(owner)}` : undefined;
}

/** A drop-in name that an import of somebody else reaches, so that the root file need not be touched. */
function reachableDropIn(node: Understood, owner: string): string | undefined {
  const name = dropInName(owner);
  for (const file of node.loaded) {
    for (const entry of file.imports) {
      if (!entry.glob || entry.text === importOf(node.site, node.version)) continue;
      const slash = entry.pattern.lastIndexOf("/");
      const folder = entry.pattern.slice(0, slash);
      // A folder elsewhere is another tool's own: what stands there goes when that tool goes.
      const isBeside = folder.startsWith(dropInFolder(node.site).slice(0, -"conf.d".length));
      if (isBeside && !hasMeta(folder) && globMatcher(entry.pattern.slice(slash + 1))(name))
        return `${folder}/${name}`;
    }
  }
  return undefined;
}

/** Whether a list names this very file: a literal import of a file that is not there stops containerd. */
function namedByImport(node: Understood, path: string): boolean {
  return node.loaded.some((file) => file.imports.some((entry) => !entry.glob && entry.pattern === path));
}

/** A link that leads nowhere stops containerd as well, where an import's pattern matches it. */
function isLinked(seen: Snapshot, path: string): boolean {
  const read = seen.files.get(path);
  return read?.kind === "file" && read.linked === true;
}

function foreignReaches(node: Understood, path: string): boolean {
  const slash = path.lastIndexOf("/");
  return node.loaded.some((file) =>
    file.imports.some((entry) => {
      if (entry.text === importOf(node.site, node.version)) return false;
      const at = entry.pattern.lastIndexOf("/");
      return entry.glob
        ? entry.pattern.slice(0, at) === path.slice(0, slash) &&
            globMatcher(entry.pattern.slice(at + 1))(path.slice(slash + 1))
        : entry.pattern === path;
    }),
  );
}

/** containerd 1.x and templates: one marked block per owner in the file whose CRI table is in effect. */
function planBlock(
  node: Understood,
  owner: string,
  handlers: readonly Handler[],
  taking: readonly Adopted[],
): FileEdit[] {
  const { site, seen, schema, winner, writeId, merges } = node;
  const left = (file: Loaded) => leftOf(node, owner, file, taking);
  if (!merges) refuseUnmasking(node, taking, left);
  const ourImport = importOf(site, node.version);
  const body = handlers.length === 0 ? undefined : blockBody(handlers, writeId);
  if (body !== undefined)
    for (const { name } of handlers)
      assertExtensible(left(winner), winner.path, ["plugins", writeId, "containerd", "runtimes", name]);
  const goal = (path: string, block: string | undefined): Goal => ({
    path,
    owner,
    block,
    schema,
    ourImport,
    needsImport: () => false,
    shared: (bareTable, others, stands) => (merges ? undefined : lostDefault(bareTable, others, stands)),
    leavesShared: (bareTable, shared) => !merges && needsBuiltin(bareTable, shared),
    isRoot: path === site.rootFile,
    mustStay: namedByImport(node, path) || isLinked(seen, path),
    taken: takenIn(node, owner, path, taking),
  });
  const target = editOf(node, goal(winner.path, keepIfSame(node, winner.path, owner, body)), taking);
  // A block in a file that no longer wins is left over from before another file took its place.
  const moved = [...node.loaded, ...node.unread]
    .filter((file) => file.blocks.some((block) => block.owner === owner) || isTakenFrom(taking, file))
    .filter((file) => realPath(file) !== realPath(winner))
    .map((file) => editOf(node, goal(file.path, undefined), taking));
  return [target, ...moved].filter((change) => change !== undefined);
}

function isTakenFrom(taking: readonly Adopted[], file: Loaded): boolean {
  return taking.some(({ path }) => path === file.path);
}

/**
 * On 1.x the last file that has a CRI table replaces those of all others. Were a handler the only thing in it,
 * the table would go with the handler, and everything that it had masked would come into effect.
 */
function refuseUnmasking(node: Understood, taking: readonly Adopted[], left: (file: Loaded) => string): void {
  const { winner, site } = node;
  if (winner.path === site.rootFile || !isTakenFrom(taking, winner)) return;
  if (tableAt(parseToml(left(winner), winner.path), "plugins", criV2) !== undefined) return;
  throw new ShimctlError(
    "unsupported-config",
    "Cannot adopt from this file, as nothing else of it would be left and the files that it overrides would come into effect",
    { path: winner.path, hint: "remove the file and its import, then run the same command without --adopt" },
  );
}

/**
 * Trap 1 of containerd 1.x: a file that defines any handler makes the built-in one vanish, and where that is the
 * default, the CRI plugin does not load. It is written too, as long as one of our handlers stands in the file.
 */
function lostDefault(bareTable: TomlTable, others: TomlTable, stands: boolean): string | undefined {
  const defined = (table: TomlTable) => tableAt(runtimesAt(table, criV2), builtinHandler) !== undefined;
  if (defined(bareTable) || defined(others)) return undefined;
  const had = runtimesAt(bareTable, criV2) === undefined;
  return had || stands || defaultHandler(bareTable, criV2) === builtinHandler ? builtinBody(had) : undefined;
}

/** Handlers that somebody added beside ours rely on the built-in one that we wrote: without it CRI would not load. */
function needsBuiltin(bareTable: TomlTable, shared: string): boolean {
  const runtimes = runtimesAt(bareTable, criV2);
  return (
    saysBuiltIn(shared) &&
    runtimes !== undefined &&
    runtimes[builtinHandler] === undefined &&
    defaultHandler(bareTable, criV2) === builtinHandler
  );
}

/** A file that is imported by two names is one file. */
function realPath(file: Loaded): string {
  return file.read.kind === "file" ? file.read.resolved : file.path;
}

/** The block's own text where it already means the same: a new release alone changes nothing on a node. */
function keepIfSame(
  node: Understood,
  path: string,
  owner: string,
  body: string | undefined,
): string | undefined {
  if (body === undefined) return undefined;
  const file = [...node.loaded, ...node.unread].find((candidate) => candidate.path === path);
  const block =
    file === undefined
      ? undefined
      : findBlocks(file.text, path).find((candidate) => candidate.owner === owner);
  if (block === undefined) return body;
  return deepEqual(parseToml(block.body, path), parseToml(body, path)) ? block.body : body;
}

function bytesAt(seen: Snapshot, path: string): Uint8Array | null {
  const read = seen.files.get(path);
  if (read === undefined || read.kind === "absent") return null;
  if (read.kind === "file") return read.bytes;
  throw new ShimctlError(
    "unsupported-node",
    `Cannot write this file, as it is ${read.kind === "other" ? `a ${read.what} file` : `not readable: ${read.reason}`}`,
    { path },
  );
}
