import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { lost, mergeForeign } from "../../src/transaction/merge.ts";

const merged = (base: string, ours: string, theirs: string) => {
  const merge = mergeForeign(base, ours, theirs);
  return "merged" in merge ? merge.merged : `conflict in ${merge.conflict}`;
};

describe("a merge", () => {
  test("makes edits of different lines both", () =>
    expect(merged("a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n")).toBe("A\nb\nc\nd\nE\n"));

  test("keeps both insertions at one place, ours first", () =>
    expect(merged("a\nz\n", "a\nours\nz\n", "a\ntheirs\nz\n")).toBe("a\nours\ntheirs\nz\n"));

  test("takes the longer insertion when it contains the other", () =>
    expect(merged("a\n", "a\nx\ny\nz\n", "a\nx\nz\n")).toBe("a\nx\ny\nz\n"));

  test("keeps lines that both inserted once", () =>
    expect(merged("a\n", "a\n1\n2\n3\n", "a\n3\n4\n")).toBe("a\n1\n2\n3\n4\n"));

  test("never lets two tables share a key", () =>
    expect(merged("a\n", "a\n\n[x]\nv = 1\n", "a\n\n[y]\nv = 1\n")).toBe("a\n\n[x]\nv = 1\n[y]\nv = 1\n"));

  test("does not take a bracket that closes two arrays for one", () =>
    expect(merged("a\n", 'a\none = [\n"x",\n]\n', 'a\ntwo = [\n"y",\n]\n')).toBe(
      'a\none = [\n"x",\n]\ntwo = [\n"y",\n]\n',
    ));

  test("names the line that both changed", () =>
    expect(mergeForeign("a\nb\nc\n", "a\nB\nc\n", "a\nbb\nc\n")).toEqual({ conflict: "b\n" }));

  test("keeps the bytes that end each line", () =>
    expect(merged("a\r\nb\nc\r\nd\n", "A\r\nb\nc\r\nd\n", "a\r\nb\nc\r\nD\n")).toBe("A\r\nb\nc\r\nD\n"));

  test("ends a last line that had no end when another follows", () =>
    expect(merged("a\nb", "a\nb\nours", "a\nb\ntheirs")).toBe("a\nb\nours\ntheirs"));

  test("ends it as the lines above it end", () =>
    expect(merged("a\r\nb", "a\r\nb\r\nours\r\n", "x\r\na\r\nb")).toBe("x\r\na\r\nb\r\nours\r\n"));

  test("leaves a last line without an end when nothing follows", () =>
    expect(merged("a\nb\nc", "A\nb\nc", "a\nb\nc")).toBe("A\nb\nc"));

  test("takes a removal where the other side changed nothing near", () =>
    expect(merged("a\nb\nc\nd\n", "a\nc\nd\n", "a\nb\nc\nd\ne\n")).toBe("a\nc\nd\ne\n"));
});

const line = fc.constantFrom("a", "b", "", "]", "[t]", "k = 1", "x", "y");
const content = fc
  .tuple(fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n"))), fc.constantFrom("", "tail"))
  .map(([lines, tail]) => lines.map(([text, end]) => text + end).join("") + tail);
/** Lines of its own, put in at any places. */
const inserted = (base: string, name: string, places: readonly number[]) => {
  const lines = base.match(/[^\n]*\n/g) ?? [];
  for (const [index, place] of places.entries()) {
    lines.splice(place % (lines.length + 1), 0, `${name} ${index}\n`);
  }
  return lines.join("");
};
const places = fc.array(fc.nat(20), { maxLength: 6 });
const ended = content.map((text) => (text.endsWith("tail") ? `${text}\n` : text));

describe("for every text", () => {
  test("what one side alone changed is the result, byte for byte", () =>
    fc.assert(
      fc.property(content, content, (base, changed) => {
        expect(merged(base, changed, base)).toBe(changed);
        expect(merged(base, base, changed)).toBe(changed);
        expect(merged(base, changed, changed)).toBe(changed);
      }),
    ));

  test("lines that either side inserted are all there, and nothing else was lost", () =>
    fc.assert(
      fc.property(ended, places, places, (base, ourPlaces, theirPlaces) => {
        const ours = inserted(base, "ours", ourPlaces);
        const theirs = inserted(base, "theirs", theirPlaces);
        const result = merged(base, ours, theirs);
        const sorted = (text: string) => text.split("\n").sort();
        const own = (text: string) => text.split("\n").filter((text) => /^(ours|theirs) /.test(text));
        expect(sorted(result)).toEqual([...sorted(base), ...own(ours), ...own(theirs)].sort());
      }),
    ));

  test("a merge is no other for being made again", () =>
    fc.assert(
      fc.property(ended, places, places, (base, ourPlaces, theirPlaces) => {
        const ours = inserted(base, "ours", ourPlaces);
        const result = merged(base, ours, inserted(base, "theirs", theirPlaces));
        expect(merged(base, ours, result)).toBe(result);
      }),
    ));

  test("every byte survives as latin1", () =>
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
        const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
        const result = merged(text(a), text(b), text(a));
        expect(new Uint8Array(Buffer.from(result, "latin1"))).toEqual(b);
      }),
    ));

  test("lines that are lost are exactly those that are missing", () =>
    fc.assert(
      fc.property(ended, places, (base, ourPlaces) => {
        const ours = inserted(base, "ours", ourPlaces);
        expect(lost(base, ours, ours)).toEqual([]);
        expect(lost(base, ours, base).length).toBe(ourPlaces.length);
      }),
    ));
});

describe("lost lines", () => {
  test("are those that were added and are missing", () =>
    expect(lost("a\n", "a\nb\nc\n", "a\nc\n")).toEqual(["b"]));
  test("are counted, not only seen", () => expect(lost("a\n", "a\na\n", "a\n")).toEqual(["a"]));
  test("are not lines of the base that somebody removed", () =>
    expect(lost("a\nb\n", "a\nb\nc\n", "a\nc\n")).toEqual([]));
  test("are compared without what ends them", () => expect(lost("a", "a\nb", "a\nb\nc\n")).toEqual([]));
});
