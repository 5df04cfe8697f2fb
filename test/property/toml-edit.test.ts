import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { ShimctlError } from "../../src/error.ts";
import {
  addArrayElement,
  canExtend,
  isExplicitTable,
  readArrayElements,
  removeArrayElement,
  removeBlock,
  removeRootLine,
  setBlock,
  setRootLine,
} from "../../src/toml/edit.ts";
import { parseToml, type TomlTable } from "../../src/toml/parse.ts";
import { deepEqual, proveEdit, valueAt, withoutOurs, withoutPath, withPath } from "../../src/toml/prove.ts";
import { renderTable, renderValue } from "../../src/toml/render.ts";
import { scan } from "../../src/toml/scan.ts";
import { generate, type Profile, runtimesPath, shuffled } from "../fixtures/toml/documents.ts";
import { randomOf } from "../support/random.ts";

const path = "/etc/containerd/config.toml";
const owners = ["default", "gpu-team", "a.b_c"] as const;
const element = '/etc/containerd/conf.d/*-shimctl-*.toml "#]';
const documents = 3000;

const counts = new Map<string, number>();
const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
afterAll(() => {
  for (const [what, times] of [...counts].sort()) console.log(`${String(times).padStart(7)}  ${what}`);
});

for (const profile of ["realistic", "hostile"] as const) {
  test(`a block added to any ${profile} document is proved and inverted, or refused for cause`, () => {
    everyDocument(profile, (before) => {
      const table = parseToml(before, path);
      const body = bodyOf("ours");
      const obstacle =
        canExtend(before, tableOf("ours")) ?? canExtend(before, [...tableOf("ours"), "options"]);
      if (obstacle !== null) {
        count(`${profile} block refused: ${obstacle.reason.replace(/`.*?`+/, "…")}`);
        const isGuess = obstacle.reason.includes("array of tables");
        if (!isGuess)
          expect(() => parseToml(setBlock(before, { owner: "default", body }), path)).toThrow(ShimctlError);
        return;
      }
      const after = setBlock(before, { owner: "default", body });
      proveEdit({
        before,
        after,
        path,
        expected: withOurs(table, "ours"),
        inverse: (text) => removeBlock(text, "default"),
      });
      const removed = withoutPath(withOurs(table, "ours"), tableOf("ours"), (parent) =>
        isExplicitTable(after, parent),
      );
      if (isFree(table)) proveEdit({ before: after, after: before, path, expected: removed });
      count(`${profile} block accepted`);
    });
  }, 60_000);

  test(`a root line added to any ${profile} document is proved and inverted, or refused for cause`, () => {
    everyDocument(profile, (before) => {
      const table = parseToml(before, path);
      for (const [key, value] of [
        ["version", 2n],
        ["imports", [element]],
      ] as const) {
        if (Object.hasOwn(table, key)) {
          expect(() => setRootLine(before, key, renderValue(value), key)).toThrow(ShimctlError);
          count(`${profile} root line refused: defined already`);
          continue;
        }
        const after = setRootLine(before, key, renderValue(value), key);
        const expected = withPath(table, [key], typeof value === "bigint" ? value : [...value]);
        proveEdit({ before, after, path, expected, inverse: (text) => removeRootLine(text, key) });
        proveEdit({ before: after, after: removeRootLine(after, key), path, expected: table });
        count(`${profile} root line accepted`);
      }
    });
  }, 60_000);

  test(`an array element added to any ${profile} document is proved and inverted, or refused for cause`, () => {
    everyDocument(profile, (before) => {
      const table = parseToml(before, path);
      for (const key of ["imports", "disabled_plugins"]) {
        const old = table[key];
        if (old === undefined) continue;
        if (!Array.isArray(old) || old.some((each) => typeof each !== "string")) {
          expect(() => addArrayElement(before, [key], element)).toThrow(ShimctlError);
          count(`${profile} element refused: not an array of strings`);
          continue;
        }
        const after = addArrayElement(before, [key], element);
        const elements = [{ keyPath: [key], value: element }];
        const inverse = (text: string) => removeArrayElement(text, [key], element);
        proveEdit({
          before,
          after,
          path,
          expected: withPath(table, [key], [...old, element]),
          inverse,
          elements,
        });
        proveEdit({ before: after, after: inverse(after), path, expected: table, elements });
        count(`${profile} element accepted`);
      }
    });
  }, 60_000);

  test(`three owners, two shared lines and two elements leave any ${profile} document in any order as they found it`, () => {
    everyDocument(profile, (before, seed) => {
      const next = randomOf(seed ^ 0x5eed);
      const pieces = piecesFor(before);
      let text = before;
      let expected = parseToml(before, path);
      for (const piece of shuffled(pieces, next)) {
        text = piece.add(text);
        expected = piece.model(expected);
        if (next() < 0.2) text = piece.add(piece.remove(text));
      }
      expect(deepEqual(parseToml(text, path), expected)).toBe(true);
      expect(
        withoutOurs(
          text,
          pieces.flatMap((piece) => piece.element ?? []),
        ),
      ).toBe(before);
      for (const piece of shuffled(pieces, next)) {
        text = piece.remove(text);
        parseToml(text, path);
      }
      expect(text).toBe(before);
      count(`${profile} orders of ${pieces.length} pieces inverted`);
    });
  }, 60_000);

  test(`an element leaves any ${profile} array after others changed it, and takes nothing of theirs`, () => {
    everyDocument(profile, (before, seed) => {
      const next = randomOf(seed ^ 0xa11);
      const old = stringsAt(before, "imports");
      if (old === undefined) return;
      let text = addArrayElement(before, ["imports"], element);
      let expected = [...old];
      if (next() < 0.7) {
        text = addArrayElement(text, ["imports"], "/theirs/behind");
        expected.push("/theirs/behind");
      }
      const gone = expected[0];
      if (gone !== undefined && next() < 0.5) {
        text = removeArrayElement(text, ["imports"], gone);
        expected = expected.slice(1);
      }
      const after = removeArrayElement(text, ["imports"], element);
      expect(readArrayElements(after, ["imports"])).toEqual(expected);
      expect(commentsOf(after)).toEqual(commentsOf(text));
      parseToml(after, path);
      count(`${profile} shared array untangled`);
    });
  }, 60_000);
}

function everyDocument(profile: Profile, check: (text: string, seed: number) => void): void {
  fc.assert(
    fc.property(fc.nat(0x7fffffff), (seed) => {
      count(`${profile} documents`);
      check(generate(seed, profile), seed);
    }),
    { numRuns: documents, endOnFailure: true },
  );
}

interface Piece {
  readonly add: (text: string) => string;
  readonly remove: (text: string) => string;
  readonly model: (table: TomlTable) => TomlTable;
  readonly element?: { readonly keyPath: readonly string[]; readonly value: string };
}

function piecesFor(before: string): Piece[] {
  const table = parseToml(before, path);
  const pieces: Piece[] = [];
  for (const owner of owners) {
    if (canExtend(before, tableOf(owner)) !== null) continue;
    pieces.push({
      add: (text) => setBlock(text, { owner, body: bodyOf(owner) }),
      remove: (text) => removeBlock(text, owner),
      model: (old) => withOurs(old, owner),
    });
  }
  for (const key of ["version", "shimctl_shared"]) {
    if (Object.hasOwn(table, key)) continue;
    pieces.push({
      add: (text) => setRootLine(text, key, "2", `${key} line`),
      remove: (text) => removeRootLine(text, key),
      model: (old) => withPath(old, [key], 2n),
    });
  }
  for (const key of ["imports", "disabled_plugins"]) {
    const old = stringsAt(before, key);
    if (old === undefined) continue;
    pieces.push({
      add: (text) => addArrayElement(text, [key], element),
      remove: (text) => removeArrayElement(text, [key], element),
      model: (table) => withPath(table, [key], [...old, element]),
      element: { keyPath: [key], value: element },
    });
  }
  return pieces;
}

function stringsAt(text: string, key: string): string[] | undefined {
  const value = parseToml(text, path)[key];
  if (!Array.isArray(value)) return undefined;
  const strings = value.filter((each) => typeof each === "string");
  return strings.length === value.length ? strings : undefined;
}

function commentsOf(text: string): string[] {
  return scan(text).comments.map(({ span }) => text.slice(span.start, span.end));
}

/** Whether nothing of others stands below our table, so that removing ours removes all of it. */
function isFree(table: TomlTable): boolean {
  return valueAt(table, tableOf("ours")) === undefined;
}

function tableOf(owner: string): string[] {
  // "kata" is one that documents define themselves, in every way there is.
  return [...runtimesPath, owner === "ours" ? "kata" : `shim ${owner}`];
}

function bodyOf(owner: string): string {
  return (
    renderTable(tableOf(owner), [
      ["runtime_type", "io.containerd.kata.v2"],
      ["annotations", ["io.x.*", "# ]"]],
    ]) +
    renderTable(
      [...tableOf(owner), "options"],
      [
        ["SystemdCgroup", true],
        ["n", 7n],
      ],
    )
  );
}

function withOurs(table: TomlTable, owner: string): TomlTable {
  const ours = tableOf(owner);
  let made = withPath(table, [...ours, "runtime_type"], "io.containerd.kata.v2");
  made = withPath(made, [...ours, "annotations"], ["io.x.*", "# ]"]);
  made = withPath(made, [...ours, "options", "SystemdCgroup"], true);
  return withPath(made, [...ours, "options", "n"], 7n);
}
