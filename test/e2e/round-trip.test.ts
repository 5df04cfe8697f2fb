import { describe, expect, test } from "bun:test";
import { parse, type TomlTable } from "smol-toml";
import { Entry, HandlerFile } from "../../src/handler/file.ts";
import { ContainerdPart, CrioPart } from "../../src/handler/model.ts";
import { manyHandlers } from "../support/many_handlers.ts";
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
