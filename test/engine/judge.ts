import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import type { TomlTable } from "smol-toml";
import { isTable, tableAt } from "../../src/engine/tables.ts";
import type { Node } from "../support/node.ts";
import type { Output } from "./harness.ts";

/** A real engine, as far as the corpus asks it. */
export interface RealEngine {
  /** The program that parses a configuration. */
  readonly binary: string;
  /** What it says it would run with, on the node with this root. */
  dump(root: string): Output;
  /** Two dumps mean the same when these are equal. */
  normalise(stdout: string): TomlTable;
  /** Where the handlers are in that. */
  readonly runtimes: readonly string[];
  /** What the release has built in: an install may bring it back, or take its place, and then says so. */
  readonly builtin: readonly string[];
}

/** `installed`; or refused, by exit code and a word of the reason; or a conflict about that one handler only. */
export type Expected =
  | "installed"
  | readonly [code: 3, reason: RegExp]
  | { readonly conflict: string; readonly others: Expected };

/**
 * Installs handlers, asks the real engine, uninstalls them and asks again: ours are there, everything else means
 * what it did, and the tree is the same at the end. Or the one expected refusal, with nothing written.
 * @param path of the file that a refusal names
 */
export async function judge(
  node: Node,
  engine: RealEngine,
  expected: Expected,
  names: readonly string[],
  path: string,
): Promise<void> {
  const before = node.tree();
  const ran = await node.run(["install", ...names, "--json", "--prove-with", engine.binary]);
  if (expected !== "installed") {
    const error = ran.json()["error"] as { message: string; path: string };
    expect(node.tree()).toEqual(before);
    if ("conflict" in expected) {
      const { conflict, others } = expected;
      expect([ran.code, error.message]).toEqual([
        5,
        `Cannot define handler '${conflict}', as this file defines it already`,
      ]);
      const rest = names.filter((name) => name !== conflict);
      return rest.length === 0 ? undefined : judge(node, engine, others, rest, path);
    }
    expect([ran.code, error.path]).toEqual([expected[0], path]);
    expect(error.message).toMatch(expected[1]);
    return;
  }
  expect(ran.err + JSON.stringify(ran.json()["error"])).toBe("null");
  expect(ran.json()["proof"]).toEqual({ rules: "passed", "engine-parser": "passed", served: "not run" });
  const installed = meaning(engine, node);
  expect(names.filter((name) => !isTable(runtimes(engine, installed)[name]))).toEqual([]);

  expect((await node.run(["uninstall", "--all", "--json"])).code).toBe(0);
  expect(node.tree()).toEqual(before);
  expect(readdirSync(`${node.root}/var/lib/shimctl`).sort()).toEqual(["journal", "record.json", "store"]);

  // Only our handlers differ, and the built-in one: where 1.x had lost it, or where it was asked for.
  const base = meaning(engine, node);
  const had = Object.keys(runtimes(engine, base));
  expect(names.filter((name) => had.includes(name) && !engine.builtin.includes(name))).toEqual([]);
  for (const name of engine.builtin) {
    if (!had.includes(name)) delete runtimes(engine, installed)[name];
    else if (names.includes(name)) delete runtimes(engine, base)[name];
  }
  for (const name of names) delete runtimes(engine, installed)[name];
  expect(installed).toEqual(base);
}

function meaning(engine: RealEngine, node: Node): TomlTable {
  const { rc, stdout, stderr } = engine.dump(node.root);
  expect([rc, stderr.slice(0, 500)]).toEqual([0, expect.any(String)]);
  return engine.normalise(stdout);
}

function runtimes(engine: RealEngine, dumped: TomlTable): Record<string, unknown> {
  return tableAt(dumped, ...engine.runtimes) ?? {};
}
