import { ShimctlError } from "../../error.ts";
import type { Handler, Need } from "../../handler/model.ts";
import { inServicePath } from "../../handler/resolve.ts";
import { lineOf } from "../../toml/find.ts";
import { parseToml } from "../../toml/parse.ts";
import { deepEqual } from "../../toml/prove.ts";
import type { Backend, EngineState, EngineView, FileEdit, Holding, ServedHandler } from "../backend.ts";
import { assertIntact, definedByOthers, definedByOwner, undefinedFor, writtenByNewer } from "../ownership.ts";
import { isTable, tableAt } from "../tables.ts";
import { builtinFor, check } from "./check.ts";
import { editFor } from "./edit.ts";
import { dropInFolder, runtimesIn, walk } from "./load.ts";
import { blockBody, fromTable, likeDefault } from "./table.ts";
import { definer, type Understood, understand } from "./understand.ts";

export const crio: Backend = {
  name: "crio",
  want(site, seen) {
    const { wantedFiles, wantedFolders } = walk(site, seen);
    return { files: wantedFiles, folders: wantedFolders };
  },
  read: (site, seen) => view(understand(site, seen)),
  render: (handler, target) =>
    handler.crio === undefined ? undefined : blockBody([likeDefault(handler, target?.base)]),
};

/** CRI-O has one schema. */
const schema = 1;

function view(node: Understood): EngineView {
  const handlersOf = (owner: string) => handlersIn(node, owner);
  return {
    state: stateOf(node),
    handlersOf,
    plan: (owner, desired) => plan(node, owner, desired),
    check: (facts) => check(node, facts),
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
      file.blocks.map(
        (block): Holding => ({
          owner: block.owner,
          path: file.path,
          line: block.line,
          handlers: [...block.names],
          intact: block.intact,
          loaded: true,
        }),
      ),
    ),
  };
}

function served(node: Understood, builtin: string | undefined): ServedHandler[] {
  const handlers = Object.entries(node.runtimes).map(([name, table]): ServedHandler => {
    const file = definer(node, name);
    const type = isTable(table) ? table["runtime_type"] : undefined;
    return {
      name,
      path: file?.path,
      owner: file?.blocks.find((block) => block.names.has(name))?.owner,
      runtimeType: typeof type === "string" && type !== "" ? type : "oci",
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
function plan(node: Understood, owner: string, desired: readonly Handler[]): FileEdit[] {
  const folder = dropInFolder(node.site);
  const base = node.defaultHandler === undefined ? undefined : tableAt(node.runtimes, node.defaultHandler);
  const handlers = desired
    .map((handler) => likeDefault(handler, base))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const handler of handlers) assertDefinable(node, owner, handler);
  const here = node.loaded.filter((file) => file.blocks.some((block) => block.owner === owner));
  for (const file of here)
    for (const block of file.blocks) if (block.owner === owner) assertIntact(block, file.path);

  const target =
    here.find((file) => file.path.startsWith(`${folder}/`))?.path ?? `${folder}/50-shimctl-${owner}.conf`;
  const body = handlers.length === 0 ? undefined : blockBody(handlers);
  const tempDir = folder.slice(0, folder.lastIndexOf("/"));
  return [...new Set([target, ...here.map((file) => file.path)])].flatMap((path) => {
    const read = node.seen.files.get(path);
    if (read !== undefined && read.kind !== "file" && read.kind !== "absent") {
      throw new ShimctlError(
        "unsupported-node",
        "Cannot write this drop-in, as something else stands in its place",
        { path, hint: "move it away" },
      );
    }
    const block = path === target ? keepIfSame(node, path, owner, body) : undefined;
    const file = read?.kind === "file" ? read : undefined;
    const place = { path, owner, tempDir, mustStay: file?.linked === true };
    const edit = editFor(place, block, file?.bytes ?? null);
    return edit === undefined ? [] : [{ ...edit, labelFrom: node.loaded[0]?.path ?? node.site.rootFile }];
  });
}

function assertDefinable(node: Understood, owner: string, handler: Handler): void {
  const { name } = handler;
  if (handler.crio === undefined) throw undefinedFor("CRI-O", "crio", name);
  for (const file of node.loaded) {
    if (isTable(runtimesIn(file.bareTable)?.[name])) {
      throw definedByOthers(name, file.path, lineOf(file.text, ["crio", "runtime", "runtimes", name]));
    }
    const taken = file.blocks.find((block) => block.owner !== owner && block.names.has(name));
    if (taken !== undefined) throw definedByOwner(name, taken, file.path);
  }
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
