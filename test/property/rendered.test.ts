import { expect, test } from "bun:test";
import type { FileEdit } from "../../src/engine/backend.ts";
import { tableAt } from "../../src/engine/tables.ts";
import { ShimctlError } from "../../src/error.ts";
import { k3sServer } from "../../src/layout/k3s.ts";
import { parseToml, type TomlTable } from "../../src/toml/parse.ts";
import { random } from "../support/any_template.ts";
import {
  folderOf,
  middleK3s,
  newK3s,
  oldK3s,
  type Release,
  renderedFile,
  startK3s,
} from "../support/k3s_render.ts";
import { handler, MemoryNode } from "../support/memory.ts";

/**
 * Any sequence of owners' changes, starts, upgrades and edits of templates: whenever k3s starts, between any two
 * edits, what it renders is one file that defines no table twice, with everything that was asked for in it.
 */

const folder = folderOf(newK3s);
const templates = [`${folder}/config-v3.toml.tmpl`, `${folder}/config.toml.tmpl`] as const;
const names = ["kata-qemu", "kata-clh", "runsc", "kata-fc", "urunc", "sysbox-runc"];
/** Two that k3s finds by itself. */
const programs = { "/usr/bin/crun": "", "/usr/bin/nvidia-container-runtime": "" };
const owners = ["default", "dev", "team-b"];

function copyOf(node: MemoryNode): MemoryNode {
  const { version, rootFile, source } = node.site;
  const text = version === undefined ? undefined : `${version.major}.${version.minor}`;
  return new MemoryNode(text, Object.fromEntries(node.files), rootFile, node.backend, source);
}

/** The handlers that a containerd would have that k3s starts on these files. @throws for a table defined twice */
function startedWith(node: MemoryNode, release: Release): string[] {
  const next = copyOf(node);
  startK3s(next, release);
  const text = next.text() ?? "";
  const root = parseToml(text, "rendered");
  const id = root["version"] === 3n ? "io.containerd.cri.v1.runtime" : "io.containerd.grpc.v1.cri";
  const imported = (root["imports"] as string[] | undefined)?.[0]?.replace(/\/\*\.toml$/, "");
  const dropIns = [...next.files.keys()].filter(
    (path) => imported !== undefined && path.startsWith(`${imported}/`),
  );
  const tables: TomlTable[] = [root, ...dropIns.map((path) => parseToml(next.text(path) ?? "", path))];
  return [
    ...new Set(
      tables.flatMap((table) => Object.keys(tableAt(table, "plugins", id, "containerd", "runtimes") ?? {})),
    ),
  ].sort();
}

function commit(
  node: MemoryNode,
  edits: readonly FileEdit[],
  release: Release,
  stay: readonly string[],
): void {
  for (const edit of edits) {
    expect(edit.path).not.toBe(renderedFile(release));
    node.make([edit]);
    const now = startedWith(node, release);
    expect(stay.filter((name) => !now.includes(name))).toEqual([]);
  }
}

const version: ReadonlyMap<Release, string> = new Map([
  [oldK3s, "1.7.24"],
  [middleK3s, "2.1.9"],
  [newK3s, "2.2.7"],
]);

test("whenever k3s starts, it renders what containerd takes, with all that is installed; in the end its own bytes", () => {
  let moved = 0;
  for (let seed = 1; seed <= 250; seed++) {
    const next = random(seed);
    const path = { ...k3sServer.places(new MemoryNode("2.1.9", {}).host, undefined) };
    let release = [oldK3s, middleK3s, newK3s][next(3)] ?? newK3s;
    const own: Record<string, string> = {};
    const nodeOf = (files: Record<string, string | Uint8Array>) =>
      new MemoryNode(version.get(release), files, path.rootFile, undefined, path.source);
    let node = nodeOf(programs);
    if (next(2) === 0) {
      const template = release.containerd === 1 ? templates[1] : (templates[next(2)] ?? templates[0]);
      own[template] = `# ours\n{{ template "base" . }}\n${next(2) === 0 ? "" : "# the end"}`;
      node.write(template, own[template] ?? "");
    }
    startK3s(node, release);
    const has = new Map<string, string[]>(owners.map((owner) => [owner, []]));
    const all = () => ["crun", "nvidia", "runc", ...[...has.values()].flat()];
    for (let step = 0; step < 12; step++) {
      const owner = owners[next(3)] ?? "default";
      const mine = has.get(owner) ?? [];
      const what = next(8);
      if (what === 0) startK3s(node, release);
      else if (what === 1 && release !== newK3s) {
        // An upgrade: the same files under a newer k3s, which has started.
        release = release === oldK3s ? middleK3s : newK3s;
        node = nodeOf(Object.fromEntries(node.files));
        startK3s(node, release);
        moved++;
      } else {
        const name = names[next(names.length)] ?? "";
        const isTaken = [...has].some(([other, held]) => other !== owner && held.includes(name));
        const wanted = what < 4 ? mine.filter((each) => each !== name) : [...new Set([...mine, name])];
        const stay = all().filter((each) => !mine.includes(each) || wanted.includes(each));
        if (isTaken && wanted.includes(name)) {
          expect(() => node.view().plan(owner, wanted.map(handler))).toThrow(ShimctlError);
          continue;
        }
        commit(node, node.view().plan(owner, wanted.map(handler)), release, stay);
        has.set(owner, wanted);
      }
      expect([seed, step, startedWith(node, release)]).toEqual([seed, step, all().sort()]);
      const view = node.view();
      expect([seed, step, view.check(node.host).filter(({ severity }) => severity === "error")]).toEqual([
        seed,
        step,
        [],
      ]);
      for (const each of owners) {
        const held = view.handlersOf(each).map(({ name }) => name);
        expect([seed, step, each, held.sort()]).toEqual([seed, step, each, (has.get(each) ?? []).toSorted()]);
      }
    }
    for (const owner of owners) node.uninstall(owner);
    startK3s(node, release);
    const fresh = nodeOf({ ...programs, ...own });
    startK3s(fresh, release);
    expect([seed, node.tree()]).toEqual([seed, fresh.tree()]);
  }
  expect(moved).toBeGreaterThan(50);
});
