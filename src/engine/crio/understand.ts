import type { TomlTable } from "../../toml/parse.ts";
import type { EngineVersion, Site, Snapshot } from "../backend.ts";
import { isTable, tableAt } from "../tables.ts";
import { type Loaded, runtimesIn, walk } from "./load.ts";

/** Everything that is known of one node's CRI-O, as values. */
export interface Understood {
  readonly site: Site;
  readonly seen: Snapshot;
  readonly version: EngineVersion | undefined;
  readonly loaded: readonly Loaded[];
  readonly fatal: ReturnType<typeof walk>["fatal"];
  /** What `[crio.runtime]` says for all handlers. */
  readonly runtime: TomlTable;
  /** Handlers in effect: a later file replaces the whole table of an earlier one. */
  readonly runtimes: TomlTable;
  /** `undefined` where no file says it, and the release decides. */
  readonly defaultHandler: string | undefined;
  /** The file that says it. */
  readonly defaultFile: Loaded | undefined;
}

export function understand(site: Site, seen: Snapshot): Understood {
  const { loaded, fatal } = walk(site, seen);
  const runtime: TomlTable = Object.create(null);
  const runtimes: TomlTable = Object.create(null);
  let defaultHandler: string | undefined;
  let defaultFile: Loaded | undefined;
  for (const file of loaded) {
    Object.assign(runtime, tableAt(file.table, "crio", "runtime"));
    Object.assign(runtimes, runtimesIn(file.table));
    const name = tableAt(file.table, "crio", "runtime")?.["default_runtime"];
    if (typeof name !== "string" || name === "") continue;
    defaultHandler = name;
    defaultFile = file;
  }
  return { site, seen, version: site.version, loaded, fatal, runtime, runtimes, defaultHandler, defaultFile };
}

/** The last file that defines a handler: the one that wins. */
export function definer(node: Understood, name: string): Loaded | undefined {
  return node.loaded.findLast((file) => isTable(runtimesIn(file.table)?.[name]));
}
