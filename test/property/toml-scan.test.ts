import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { type AST, parseTOML } from "toml-eslint-parser";
import { findPath } from "../../src/toml/find.ts";
import { renderPath } from "../../src/toml/render.ts";
import { type Item, type KeyValue, pathOf, scan, type Value } from "../../src/toml/scan.ts";
import { generate } from "../fixtures/toml/documents.ts";

const counts = { compared: 0, spans: 0, excluded: 0 };
afterAll(() => console.log("scanner against eslint parser:", JSON.stringify(counts)));

for (const profile of ["realistic", "hostile"] as const) {
  test(`the scanner finds the spans that an independent parser finds in ${profile} documents`, () => {
    fc.assert(
      fc.property(fc.nat(0x7fffffff), (seed) => {
        const text = generate(seed, profile);
        if (hasBareValueAtEnd(text)) {
          counts.excluded++;
          return;
        }
        const ours = spansOfScan(text);
        expect(ours).toEqual(spansOfTree(text));
        counts.compared++;
        counts.spans += ours.length;
      }),
      { numRuns: 1500, endOnFailure: true },
    );
  }, 60_000);
}

test("a path is found where reading the whole text from its beginning finds it", () => {
  const name = fc.constantFrom("a", "b", "1", "", "a.b");
  const value = fc.constantFrom("1", "{}", "{ b = 1 }", '{ a.b = 1, "" = { b = 2 } }', "[{ a = 1 }]");
  const key = fc.array(name, { minLength: 1, maxLength: 3 });
  const line = fc.oneof(
    key.map((path) => `[${renderPath(path)}]`),
    key.map((path) => `[[${renderPath(path)}]]`),
    fc.tuple(key, value).map(([path, inner]) => `${renderPath(path)} = ${inner}`),
  );
  const document = fc.array(line, { maxLength: 8 }).map((lines) => lines.join("\n"));
  fc.assert(
    fc.property(document, fc.array(name, { maxLength: 4 }), (text, path) => {
      const { items } = scan(text);
      expect(findPath(items, path)).toBe(searched(items, path));
    }),
    { numRuns: 5000 },
  );
});

/** What a path is found to be by looking at every item. */
function searched(items: readonly Item[], keyPath: readonly string[]): Item | undefined {
  let below: Item | undefined;
  let around: Item | undefined;
  for (const item of items) {
    const path = item.kind === "key-value" ? pathOf(item) : item.path;
    const shorter = Math.min(path.length, keyPath.length);
    if (path.slice(0, shorter).some((part, at) => part !== keyPath[at])) continue;
    if (path.length === keyPath.length) return item;
    if (path.length > keyPath.length) below ??= item;
    else if (item.kind === "key-value") {
      const entries = item.value.kind === "inline-table" ? item.value.entries : [];
      around ??= searched(entries, keyPath) ?? item;
    }
  }
  return below ?? around;
}

/** toml-eslint-parser 1.0.3 ends a number, boolean or date one character early at the end of a file. */
function hasBareValueAtEnd(text: string): boolean {
  const last = scan(text).items.at(-1);
  return last?.kind === "key-value" && last.value.kind === "scalar" && last.span.end === text.length;
}

function spansOfScan(text: string): string[] {
  const { items, comments } = scan(text);
  const found: string[] = comments.map(({ span }) => `comment ${span.start}-${span.end}`);
  for (const item of items) visitItem(item, found);
  return found.sort();
}

function visitItem(item: Item, found: string[]): void {
  if (item.kind === "key-value") visitKeyValue(item, found);
  else found.push(`${item.kind} ${item.keySpan.start}-${item.keySpan.end} ${JSON.stringify(item.path)}`);
}

function visitKeyValue(item: KeyValue, found: string[]): void {
  found.push(`key ${item.keySpan.start}-${item.keySpan.end} ${JSON.stringify(item.key)}`);
  visitValue(item.value, found);
}

function visitValue(value: Value, found: string[]): void {
  found.push(`${value.kind} ${value.span.start}-${value.span.end}`);
  if (value.kind === "array") for (const element of value.elements) visitValue(element.value, found);
  if (value.kind === "inline-table") for (const entry of value.entries) visitKeyValue(entry, found);
}

function spansOfTree(text: string): string[] {
  const tree = parseTOML(text, { tomlVersion: "1.0" });
  const found = tree.comments.map(({ range }) => `comment ${range[0]}-${range[1]}`);
  for (const node of tree.body[0].body) {
    if (node.type === "TOMLKeyValue") {
      visitNode(node, found);
      continue;
    }
    const kind = node.kind === "array" ? "array-of-tables" : "table";
    found.push(`${kind} ${node.key.range[0]}-${node.key.range[1]} ${JSON.stringify(namesOf(node.key))}`);
    for (const inner of node.body) visitNode(inner, found);
  }
  return found.sort();
}

function visitNode(node: AST.TOMLKeyValue, found: string[]): void {
  found.push(`key ${node.key.range[0]}-${node.key.range[1]} ${JSON.stringify(namesOf(node.key))}`);
  visitContent(node.value, found);
}

function visitContent(node: AST.TOMLContentNode, found: string[]): void {
  const kind =
    node.type === "TOMLArray"
      ? "array"
      : node.type === "TOMLInlineTable"
        ? "inline-table"
        : node.kind === "string"
          ? "string"
          : "scalar";
  found.push(`${kind} ${node.range[0]}-${node.range[1]}`);
  if (node.type === "TOMLArray") for (const element of node.elements) visitContent(element, found);
  if (node.type === "TOMLInlineTable") for (const entry of node.body) visitNode(entry, found);
}

function namesOf(key: AST.TOMLKey): string[] {
  return key.keys.map((part) => (part.type === "TOMLBare" ? part.name : part.value));
}
