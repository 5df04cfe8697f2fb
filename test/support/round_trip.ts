import { expect } from "bun:test";
import type { EngineName } from "../../src/engine/backend.ts";
import type { Handler } from "../../src/handler/model.ts";
import { byName, leftOf, type Many, ownFiles, placeRuntimes } from "./many_handlers.ts";
import { Node, type Ran } from "./node.ts";
import { handlerFileOf } from "./written.ts";

/**
 * From a handler file through the engine's files, `apply --json`, the record and `status --json` to a handler file
 * again, which changes nothing, and back to the first bytes.
 *
 * @param judge called while the handlers are on the node, with what its files hold of each
 */
export async function roundTrip(
  many: Many,
  engine: EngineName,
  version: string,
  judge: (node: Node, handlers: Record<string, Handler>) => Promise<void> = async () => {},
): Promise<{ readonly applyMs: number; readonly statusMs: number }> {
  using node = new Node(version);
  placeRuntimes(node);
  for (const [path, content] of Object.entries(ownFiles(engine, version))) node.place(path, content);
  const run = (...args: string[]) => node.run([...args, "--json"], { SHIMCTL_ENGINE: engine });
  const apply = (text: string) => {
    node.place("/handlers.toml", text);
    return run("apply", "-f", `${node.root}/handlers.toml`);
  };
  node.place("/handlers.toml", many.text);
  const before = node.tree();
  const wanted = leftOf(many, engine);

  const started = performance.now();
  const applied = await apply(many.text);
  const applyMs = performance.now() - started;
  expect(result(applied)).toEqual([0, "changed", null]);
  expect(byName(applied.json()["handlers"] as Handler[])).toEqual(wanted);
  expect(recorded(node, many.owner)).toEqual(wanted);
  await judge(node, wanted);

  const asked = performance.now();
  const status = await run("status");
  const statusMs = performance.now() - asked;
  expect(result(status)).toEqual([0, "in sync", null]);
  const definitions = definitionsIn(status, many.owner);
  expect(byName(definitions)).toEqual(wanted);

  const again = await apply(handlerFileOf(definitions, { owner: many.owner, allow_missing: true }));
  expect([...result(again), again.json()["changes"]]).toEqual([0, "unchanged", null, []]);
  node.place("/handlers.toml", many.text);
  expect(result(await run("uninstall", "--all", "--owner", many.owner))).toEqual([0, "changed", null]);
  expect(node.tree()).toEqual(before);
  return { applyMs, statusMs };
}

function result({ code, json }: Ran): unknown[] {
  const { result, error } = json();
  return [code, result, error];
}

function recorded(node: Node, owner: string): unknown {
  const { roots } = JSON.parse(node.text("/var/lib/shimctl/record.json"));
  const [root] = Object.values(roots as Record<string, { owners: Record<string, { handlers: unknown }> }>);
  return root?.owners[owner]?.handlers;
}

function definitionsIn(status: Ran, owner: string): Handler[] {
  const owners = status.json()["owners"] as { owner: string; definitions: Handler[] }[];
  return owners.filter((holding) => holding.owner === owner).flatMap(({ definitions }) => definitions);
}
