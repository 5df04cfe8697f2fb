import type { Backend, EngineView, FileEdit, Site, Snapshot } from "../../src/engine/backend.ts";
import { assertIntact, definedByOthers } from "../../src/engine/ownership.ts";
import { isTable, tableAt } from "../../src/engine/tables.ts";
import type { Handler } from "../../src/handler/model.ts";
import { type Layout, runs } from "../../src/layout/layout.ts";
import { decodeToml, encodeToml } from "../../src/toml/decode.ts";
import { findBlocks, removeBlock, setBlock } from "../../src/toml/edit.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { renderTable } from "../../src/toml/render.ts";

/** A third engine, made up: one file, `[handler.NAME]` with the path of a shim. What a new backend takes. */
export const toy: Backend = {
  // A real one would add its name to EngineName; the rest of the program does not look at it.
  name: "toy" as Backend["name"],
  want: (site, seen) => ({ files: seen.files.has(site.rootFile) ? [] : [site.rootFile], folders: [] }),
  read: (site, seen) => view(site, seen),
  tablesOf: (handler) => [["handler", handler]],
  render: (handler) => (handler.containerd === undefined ? undefined : body([handler])),
};

export const toyLayout: Layout = {
  name: "toy",
  engine: "toy" as Layout["engine"],
  evidence: (host) => ["/etc/toy.toml"].filter((path) => host.exists(path)),
  title: "a toy",
  places: () => ({ rootFile: "/etc/toy.toml", socket: "/run/toy.sock", binaries: [] }),
  unit: "toy.service",
  isDaemon: (daemon) => runs(daemon, "toyd"),
  killModes: ["process"],
  survives: "everything",
  module: /^example\.com\/toy$/,
  oldest: { major: 1, minor: 0 },
};

function body(handlers: readonly Handler[]): string {
  return handlers
    .map(({ name, containerd }) =>
      renderTable(["handler", name], [["shim", containerd?.runtime_path ?? containerd?.runtime_type ?? ""]]),
    )
    .join("\n");
}

function view({ rootFile }: Site, seen: Snapshot): EngineView {
  const read = seen.files.get(rootFile);
  const text = read?.kind === "file" ? decodeToml(read.bytes, rootFile) : "";
  const blocks = findBlocks(text, rootFile);
  const named = (source: string) => Object.entries(tableAt(parseToml(source, rootFile), "handler") ?? {});
  const bare = blocks.reduce(
    (rest, { owner }) => removeBlock(rest, owner, { force: true, path: rootFile }),
    text,
  );

  const handlersOf = (owner: string): Handler[] =>
    blocks
      .filter((block) => block.owner === owner)
      .flatMap((block) => {
        assertIntact(block, rootFile);
        return named(block.body).map(([name, table]) => {
          const shim = isTable(table) ? table["shim"] : undefined;
          return {
            name,
            containerd: {
              runtime_type: `io.containerd.${name}.v1`,
              runtime_path: String(shim),
              options: {},
              like_runc: false,
            },
          };
        });
      });

  const plan = (owner: string, desired: readonly Handler[]): FileEdit[] => {
    for (const { name } of desired)
      if (named(bare).some(([taken]) => taken === name)) throw definedByOthers(name, rootFile, undefined);
    const sorted = [...desired].sort((a, b) => (a.name < b.name ? -1 : 1));
    const change = (old: string) =>
      sorted.length === 0
        ? removeBlock(old, owner, { path: rootFile })
        : setBlock(old, { owner, body: body(sorted) }, { path: rootFile });
    const edit = (base: Uint8Array | null) =>
      encodeToml(change(base === null ? "" : decodeToml(base, rootFile)));
    if (change(text) === text) return [];
    const without = (bytes: Uint8Array | null) =>
      bytes === null
        ? null
        : encodeToml(removeBlock(decodeToml(bytes, rootFile), owner, { force: true, path: rootFile }));
    const before = read?.kind === "file" ? read.bytes : null;
    return [{ path: rootFile, before, after: edit(before), edit, bare: without }];
  };

  return {
    unmarked: () => new Map(),
    state: {
      engine: toy.name,
      schema: 1,
      loaded: [rootFile],
      handlers: named(text).map(([name]) => ({
        name,
        path: rootFile,
        owner: blocks.find((block) => named(block.body).some(([own]) => own === name))?.owner,
        runtimeType: "toy",
      })),
      defaultHandler: "none",
      defaultKey: "default",
      holdings: blocks.map((block) => ({
        owner: block.owner,
        path: rootFile,
        line: block.line,
        handlers: named(block.body).map(([name]) => name),
        intact: block.intact,
        loaded: true,
      })),
      foreign: [],
      imports: [],
    },
    plan,
    handlersOf,
    check: () => [],
    needs: () => [],
    expect: (_, desired) => ({ present: desired.map(({ name }) => name), absent: [] }),
    stage: (folder) => ({
      files: [{ path: `${folder}/toy.toml`, bytes: encodeToml(text) }],
      args: [`${folder}/toy.toml`],
    }),
  };
}
