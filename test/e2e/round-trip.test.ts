import { describe, expect, test } from "bun:test";
import { parse, type TomlTable } from "smol-toml";
import { Entry, HandlerFile } from "../../src/handler/file.ts";
import { ContainerdPart, CrioPart } from "../../src/handler/model.ts";
import { manyHandlers } from "../support/many_handlers.ts";
import { Node } from "../support/node.ts";
import { roundTrip } from "../support/round_trip.ts";

const many = manyHandlers(1000);

/** Every key of these tables. */
function keysOf(tables: readonly unknown[]): string[] {
  return [...new Set(tables.flatMap((table) => Object.keys(table ?? {})))].sort();
}

describe("a handler file of 1,000 handlers", () => {
  const file = parse(many.text);
  const entries = Object.values(file["handlers"] as Record<string, TomlTable>);

  test("holds 1,000 handlers, some of whose names have to be quoted", () => {
    expect(entries).toHaveLength(1000);
    expect(many.text).toMatch(/^\[handlers\."[a-z0-9-]+(\.[a-z0-9-]+)+"\]$/m);
  });

  test("uses every key of the model", () => {
    expect(keysOf([file])).toEqual(keysOf([HandlerFile.def.getter().def.shape]));
    expect(keysOf(entries)).toEqual(keysOf([Entry.def.getter().def.shape]));
    expect(keysOf(entries.map((entry) => entry["containerd"]))).toEqual(
      keysOf([ContainerdPart.def.getter().def.shape]),
    );
    expect(keysOf(entries.map((entry) => entry["crio"]))).toEqual(keysOf([CrioPart.def.getter().def.shape]));
  });

  for (const [engine, version] of [
    ["containerd", "1.7.24"],
    ["containerd", "2.3.4"],
    ["crio", "1.36.3"],
  ] as const) {
    test(`comes back from ${engine} ${version} as it went in, and goes again without a trace`, async () => {
      const { applyMs, statusMs } = await roundTrip(many, engine, version);
      console.log(
        `   ${engine} ${version}: apply ${applyMs.toFixed(0)} ms, status ${statusMs.toFixed(0)} ms`,
      );
    });
  }
});

test("a handler that CRI-O has built in as its default is installed over it, and taken away again", async () => {
  using node = new Node("1.36.3");
  node.place("/etc/crio/crio.conf", "[crio]\n");
  const before = node.tree();
  expect((await node.run(["install", "crun"])).code).toBe(0);
  expect((await node.run(["uninstall", "--all"])).out).toStartWith("removed crun\n");
  for (const [path, content] of Object.entries(before)) expect(node.tree()[path]).toBe(content);
  expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
  node.place("/etc/crio/crio.conf", '[crio.runtime]\ndefault_runtime = "kata-qemu"\n');
  const refused = await node.run(["uninstall", "--all"]);
  expect([refused.code, refused.err]).toEqual([
    5,
    expect.stringContaining("Cannot remove handler 'kata-qemu', as default_runtime names it\n"),
  ]);
});
