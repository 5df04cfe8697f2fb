import { ShimctlError } from "../../error.ts";
import type { Handler, Need } from "../../handler/model.ts";
import { inServicePath } from "../../handler/resolve.ts";
import { lineOf } from "../../toml/find.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import { deepEqual } from "../../toml/prove.ts";
import { adopt, takenFrom, withoutZeros } from "../adopt.ts";
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
} from "../backend.ts";
import { assertIntact, newerBlocks, refuseNewer, undefinedFor, writtenByNewer } from "../ownership.ts";
import { isTable, tableAt } from "../tables.ts";
import { builtinFor, check } from "./check.ts";
import { editFor } from "./edit.ts";
import { dropInFolder, type Loaded, runtimesIn, walk } from "./load.ts";
import { blockBody, fromTable, likeDefault } from "./table.ts";
import { definer, type Understood, understand } from "./understand.ts";

export const crio: Backend = {
  name: "crio",
  want(site, seen) {
    const { wantedFiles, wantedFolders } = walk(site, seen);
    return { files: wantedFiles, folders: wantedFolders };
  },
  read: (site, seen) => view(understand(site, seen)),
  tablesOf,
  render: (handler, target) =>
    handler.crio === undefined ? undefined : blockBody([likeDefault(handler, target?.base)]),
};

function tablesOf(handler: string): string[][] {
  return [["crio", "runtime", "runtimes", handler]];
}

/** CRI-O has one schema. */
const schema = 1;

function view(node: Understood): EngineView {
  const handlersOf = (owner: string) => handlersIn(node, owner);
  return {
    state: stateOf(node),
    handlersOf,
    plan: (owner, desired, adopting) => plan(node, owner, desired, adopting),
    // An owner's handlers have a file to themselves, which no other program writes anew.
    unmarked: () => new Map(),
    check: (facts) => [...check(node, facts), ...newerBlocks(node.loaded)],
    needs: (handlers) => handlers.flatMap(needs),
    expect(owner, desired) {
      const present = desired.map((handler) => handler.name);
      return {
        present,
        absent: handlersOf(owner)
          .map((handler) => handler.name)
          .filter((name) => !present.includes(name)),
      };
    },
    stage: (folder) => ({
      files: node.loaded.map((file, index) => ({
        path:
          file.path === node.site.rootFile
            ? `${folder}/crio.conf`
            : `${folder}/crio.conf.d/${String(index).padStart(4, "0")}`,
        bytes: new TextEncoder().encode(file.text),
      })),
      args: [
        "--config",
        node.loaded.some((file) => file.path === node.site.rootFile) ? `${folder}/crio.conf` : "",
        "--config-dir",
        `${folder}/crio.conf.d`,
        "config",
      ],
    }),
  };
}

/** What must be on the host for this handler to run a pod under CRI-O. */
function needs(handler: Handler): Need[] {
  const { crio } = handler;
  if (crio === undefined) return [];
  const found: Need[] = [];
  const add = (what: Need["what"], paths: readonly string[]) =>
    found.push({ handler: handler.name, what, paths });
  if (crio.runtime_path !== undefined) add("binary", [crio.runtime_path]);
  else if (crio.inherit_default_runtime !== true) add("binary", inServicePath(handler.name));
  if (crio.runtime_config_path !== undefined) add("configuration", [crio.runtime_config_path]);
  if (crio.monitor_path !== undefined) add("binary", [crio.monitor_path]);
  if (crio.seccomp_profile !== undefined) add("configuration", [crio.seccomp_profile]);
  for (const path of Object.values(crio.platform_runtime_paths ?? {})) add("binary", [path]);
  for (const binary of handler.requires ?? []) add("binary", inServicePath(binary));
  return found;
}

function stateOf(node: Understood): EngineState {
  const builtin = node.version?.minor === undefined ? undefined : builtinFor(node.version.minor);
  return {
    engine: "crio",
    schema,
    loaded: node.loaded.map((file) => file.path),
    handlers: served(node, builtin),
    defaultHandler: node.defaultHandler ?? builtin ?? "(built in)",
    defaultKey: "default_runtime",
    holdings: node.loaded.flatMap((file) =>
      [...file.blocks, ...file.newerBlocks].map(
        (block): Holding => ({
          owner: block.owner,
          path: file.path,
          line: block.line,
          handlers: [...block.names],
          intact: block.intact || file.newerBlocks.includes(block),
          loaded: true,
        }),
      ),
    ),
    // Only a report asks for it.
    get foreign() {
      return foreignIn(node);
    },
    imports: [],
  };
}

function foreignIn(node: Understood): ForeignDefinition[] {
  return node.loaded.flatMap((file) =>
    Object.entries(runtimesIn(file.bareTable) ?? {}).flatMap(([name, table]): ForeignDefinition[] => {
      if (!isTable(table)) return [];
      const line = lineIn(file, name);
      const path = table["runtime_path"];
      return [
        {
          name,
          path: file.path,
          ...(line === undefined ? {} : { line }),
          runtimeType: typeOf(table),
          programs: typeof path === "string" && path !== "" ? [path] : [],
        },
      ];
    }),
  );
}

function lineIn(file: Loaded, name: string): number | undefined {
  return lineOf(file.text, ["crio", "runtime", "runtimes", name]);
}

function typeOf(table: TomlTable): string {
  const type = table["runtime_type"];
  return typeof type === "string" && type !== "" ? type : "oci";
}

function served(node: Understood, builtin: string | undefined): ServedHandler[] {
  const handlers = Object.entries(node.runtimes).map(([name, table]): ServedHandler => {
    const file = definer(node, name);
    return {
      name,
      path: file?.path,
      owner: file?.blocks.find((block) => block.names.has(name))?.owner,
      runtimeType: isTable(table) ? typeOf(table) : "oci",
    };
  });
  if (builtin !== undefined && node.runtimes[builtin] === undefined)
    handlers.push({ name: builtin, path: undefined, owner: undefined, runtimeType: "oci" });
  return handlers.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function handlersIn(node: Understood, owner: string): Handler[] {
  return node.loaded.flatMap((file) =>
    file.blocks
      .filter((block) => block.owner === owner)
      .flatMap((block) => {
        assertIntact(block, file.path);
        return Object.entries(runtimesIn(parseToml(block.body, file.path)) ?? {}).map(([name, entry]) => {
          const handler = isTable(entry) ? fromTable(name, entry) : undefined;
          if (handler === undefined) throw writtenByNewer(name, block, file.path);
          return handler;
        });
      }),
  );
}

/** One drop-in per owner; what the owner has elsewhere moves there. */
function plan(
  node: Understood,
  owner: string,
  desired: readonly Handler[],
  adopting: Adopting | undefined,
): FileEdit[] {
  refuseNewer(node.loaded);
  const base = node.defaultHandler === undefined ? undefined : tableAt(node.runtimes, node.defaultHandler);
  const handlers = desired
    .map((handler) => likeDefault(handler, base))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const taking = handlers.flatMap((handler) => adoptedFor(node, owner, handler, adopting));
  const here = node.loaded.filter((file) => file.blocks.some((block) => block.owner === owner));
  for (const file of here)
    for (const block of file.blocks) if (block.owner === owner) assertIntact(block, file.path);

  const target =
    here.find((file) => file.path.startsWith(`${dropInFolder}/`))?.path ??
    `${dropInFolder}/50-shimctl-${owner}.conf`;
  const body = handlers.length === 0 ? undefined : blockBody(handlers);
  const tempDir = dropInFolder.slice(0, dropInFolder.lastIndexOf("/"));
  // What others define goes last: a handler that is the default must never be missing.
  const paths = [target, ...here.map((file) => file.path), ...taking.map((each) => each.path)];
  return [...new Set(paths)].flatMap((path) => {
    const read = node.seen.files.get(path);
    if (read !== undefined && read.kind !== "file" && read.kind !== "absent") {
      throw new ShimctlError(
        "unsupported-node",
        read.kind === "unreadable"
          ? `Cannot write this drop-in, as it cannot be read: ${read.reason}`
          : "Cannot write this drop-in, as something else stands in its place",
        { path, hint: "move it away" },
      );
    }
    const block = path === target ? keepIfSame(node, path, owner, body) : undefined;
    const file = read?.kind === "file" ? read : undefined;
    const adopts = taking.filter((each) => each.path === path);
    const text = node.loaded.find((each) => each.path === path)?.text;
    const names = [...new Set(adopts.map((each) => each.handler))];
    const taken = text === undefined ? [] : takenFrom(text, path, owner, names.flatMap(tablesOf));
    const place = { path, owner, tempDir, mustStay: file?.linked === true, taken };
    const edit = editFor(place, block, file?.bytes ?? null);
    if (edit === undefined) return [];
    const labelFrom = node.loaded[0]?.path ?? node.site.rootFile;
    return [{ ...edit, labelFrom, ...(adopts.length === 0 ? {} : { adopts }) }];
  });
}

/** Every definition of a handler that is not the owner's, where it may be taken over; it throws where not. */
function adoptedFor(
  node: Understood,
  owner: string,
  handler: Handler,
  adopting: Adopting | undefined,
): Adopted[] {
  const { name } = handler;
  if (handler.crio === undefined) throw undefinedFor("CRI-O", "crio", name);
  // The last file that has a handler's table replaces those of all others.
  const winning = node.loaded.findLast((file) => isTable(runtimesIn(file.bareTable)?.[name]));
  const meaning = meaningIn(winning?.bareTable, name);
  const places = node.loaded.flatMap((file) => [
    ...(isTable(runtimesIn(file.bareTable)?.[name])
      ? [{ path: file.path, line: lineIn(file, name), owner: undefined, meaning }]
      : []),
    ...file.blocks
      .filter((block) => block.owner !== owner && block.names.has(name))
      .map((block) => ({
        path: file.path,
        line: block.line,
        owner: block.owner,
        meaning: meaningIn(parseToml(block.body, file.path), name),
      })),
  ]);
  if (places.length === 0) return [];
  return adopt(name, meaningIn(parseToml(blockBody([handler]), ""), name), places, adopting);
}

/** What a handler's table means to CRI-O: without what it says and CRI-O would do anyway. */
function meaningIn(table: TomlTable | undefined, name: string): TomlTable {
  const own = withoutZeros(tableAt(table ?? {}, "crio", "runtime", "runtimes", name) ?? {}, true);
  return { ...own, runtime_type: typeOf(own) };
}

/** The block's own text where it already means the same: a new release alone changes nothing on a node. */
function keepIfSame(
  node: Understood,
  path: string,
  owner: string,
  body: string | undefined,
): string | undefined {
  const block = node.loaded
    .find((file) => file.path === path)
    ?.blocks.find((candidate) => candidate.owner === owner);
  if (block === undefined || body === undefined) return body;
  return deepEqual(parseToml(block.body, path), parseToml(body, path)) ? block.body : body;
}
