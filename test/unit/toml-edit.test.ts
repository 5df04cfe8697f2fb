import { expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import {
  addArrayElement,
  canExtend,
  findBlocks,
  inspectBlocks,
  removeArrayElement,
  removeBlock,
  removeRootLine,
  renderBlock,
  rootMark,
  setBlock,
  setRootLine,
  withoutShared,
} from "../../src/toml/edit.ts";
import { lineOf } from "../../src/toml/find.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { proveEdit, withoutOurs } from "../../src/toml/prove.ts";
import { renderKey, renderString, renderTable, renderValue } from "../../src/toml/render.ts";
import { scan } from "../../src/toml/scan.ts";

const body = '[runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n';
const ours = { owner: "default", body };
const begin = (of = body) => renderBlock({ owner: "default", body: of }).split("\n", 1)[0] ?? "";
const block = renderBlock(ours);

// Blocks

test("a block goes to the end after one blank line", () => {
  expect(setBlock("version = 2\n", ours)).toBe(`version = 2\n\n${block}`);
});

test("a block in an empty file has no blank line before it", () => {
  expect(setBlock("", ours)).toBe(block);
});

test("a block in a CR LF file has CR LF ends", () => {
  expect(setBlock("a = 1\r\n", ours)).toBe(`a = 1\r\n\r\n${block.replaceAll("\n", "\r\n")}`);
});

test("a file without final line end keeps having none", () => {
  expect(setBlock("a = 1", ours)).toBe(`a = 1\n\n${block.slice(0, -1)}`);
});

test("a block takes the line end of the last line of a mixed file", () => {
  expect(setBlock("a = 1\nb = 2\r\n", ours)).toContain("# END shimctl default\r\n");
});

for (const text of [
  "",
  "\n",
  "\n\n",
  " ",
  "a = 1",
  "a = 1\n\n",
  "a = 1\r\n",
  "# c",
  "# c\r\n\r\n",
  "[a]\r\nb = 1",
  " \n",
]) {
  test(`adding and removing a block gives the same bytes: ${JSON.stringify(text)}`, () => {
    expect(removeBlock(setBlock(text, ours), "default")).toBe(text);
  });
}

test("a block is replaced where it stands", () => {
  const text = `${setBlock("a = 1\n", ours)}[foreign]\nb = 2\n`;
  expect(setBlock(text, { owner: "default", body: "[other]\nc = 3\n" })).toBe(
    text.replace(block, renderBlock({ owner: "default", body: "[other]\nc = 3\n" })),
  );
});

test("removing a block that is not there changes nothing", () => {
  expect(removeBlock("a = 1\n", "default")).toBe("a = 1\n");
});

test("a line that another tool added after our block stays when the block goes", () => {
  expect(removeBlock(`${setBlock("a = 1\n", ours)}\n[foreign]\nb = 2\n`, "default")).toBe(
    "a = 1\n\n[foreign]\nb = 2\n",
  );
});

test("a hand-edited block is not removed", () => {
  const text = setBlock("a = 1\n", ours).replace("kata.v2", "kata.v3");
  expect(refusal(() => removeBlock(text, "default", { path: "/x" }))).toMatchObject({
    code: "conflict",
    facts: { path: "/x", line: 3 },
  });
});

test("a hand-edited block is removed by force", () => {
  expect(
    removeBlock(setBlock("a = 1\n", ours).replace("kata.v2", "kata.v3"), "default", { force: true }),
  ).toBe("a = 1\n");
});

test("a foreign table inside our block keeps it from being removed", () => {
  const text = setBlock("", ours).replace("# END", "[foreign]\nb = 1\n# END");
  expect(refusal(() => removeBlock(text, "default")).code).toBe("conflict");
});

test("a key behind our block keeps it from being removed: the key would move to another table", () => {
  expect(
    refusal(() => removeBlock(`${setBlock("a = 1\n", ours)}stray = 1\n`, "default", { force: true })),
  ).toMatchObject({ code: "conflict", facts: { line: 7 } });
});

test("converted line ends leave a block intact", () => {
  expect(findBlocks(setBlock("a = 1\n", ours).replaceAll("\n", "\r\n"))).toMatchObject([
    { intact: true, body, line: 3, format: 1 },
  ]);
});

test("markers inside a multi-line string are text", () => {
  expect(findBlocks(`a = """\n${block}"""\n`)).toEqual([]);
});

test("markers inside an array are comments of its owner", () => {
  expect(findBlocks(`a = [\n${begin()}\n]\n`)).toEqual([]);
});

const damaged: [what: string, text: string, line: number][] = [
  ["BEGIN without END", `${begin()}\n${body}`, 1],
  ["END without BEGIN", `a = 1\n# END shimctl default\n`, 2],
  ["two blocks of one owner", `${block}\n${block}`, 6],
  ["one block inside another", `${begin()}\n${block}# END shimctl default\n`, 2],
  ["another owner's END", `${begin()}\n${body}# END shimctl other\n`, 4],
  ["a cut-off hash", block.replace(/([0-9a-f]{4})\n/, "\n"), 1],
  ["an indented marker", block.replace("# END", "  # END"), 4],
  ["text behind a marker", block.replace("# END shimctl default", "# END shimctl default, mine"), 4],
];
for (const [what, text, line] of damaged) {
  test(`damaged markers are refused with their line: ${what}`, () => {
    expect(refusal(() => findBlocks(text))).toMatchObject({ code: "conflict", facts: { line } });
  });
}

test("a block of a newer format is refused", () => {
  const text = "# BEGIN shimctl default format=2 anything\n[a]\n# END shimctl default\n";
  expect(refusal(() => setBlock(text, ours))).toMatchObject({
    code: "unsupported-config",
    facts: { line: 1 },
  });
});

test("a newer block is still reported by inspectBlocks", () => {
  const found = inspectBlocks("# BEGIN shimctl default format=2 anything\n[a]\n# END shimctl default\n");
  expect(found).toMatchObject({
    blocks: [{ format: 2, intact: false }],
    problems: [{ newer: true, line: 1 }],
  });
});

for (const [what, bad] of [
  ["a key before the first header", "a = 1\n[b]\n"],
  ["nothing", ""],
  ["a marker", "[a]\n# END shimctl x\n"],
  ["no TOML", "[a\n"],
] as const) {
  test(`a block is not written with ${what} in it`, () => {
    expect(() => renderBlock({ owner: "default", body: bad })).toThrow(ShimctlError);
  });
}

// Root lines

const mark = (value: string, key = "version") => {
  const line = setRootLine("", key, value, "new").slice(0, -1);
  expect(line).toMatch(/^\S+ = .* # shimctl shared: new sha256=[0-9a-f]{16}$/);
  return line;
};
const line = mark("2");

const placed: [where: string, before: string, after: string][] = [
  ["an empty file", "", `${line}\n`],
  ["after the last root key", "a = 1 # c\n\n[t]\n", `a = 1 # c\n${line}\n\n[t]\n`],
  ["after a root key that ends the file without line end", "a = 1", `a = 1\n${line}`],
  ["before the first header", "[t]\n", `${line}\n[t]\n`],
  [
    "before the comments that stand on the first header",
    "# licence\n\n# about t\n  # more\n[t]\n",
    `# licence\n\n${line}\n# about t\n  # more\n[t]\n`,
  ],
  ["at the end of a file of comments", "# c\n", `# c\n${line}\n`],
  ["at the end of a file of comments without line end", "# c", `# c\n${line}`],
  [
    "with the line end of its place in a mixed file",
    "a = 1\r\nb = 2\n[t]\r\n",
    `a = 1\r\nb = 2\n${line}\n[t]\r\n`,
  ],
  ["after a multi-line value", "a = [\n1,\n]\n[t]", `a = [\n1,\n]\n${line}\n[t]`],
];
for (const [where, before, after] of placed) {
  test(`a root line is placed: ${where}`, () => {
    expect(setRootLine(before, "version", "2", "new")).toBe(after);
  });
  test(`a root line is removed again: ${where}`, () => {
    expect(removeRootLine(after, "version")).toBe(before);
  });
}

test("a root line goes before our own block, which may leave first", () => {
  const text = setRootLine(setBlock("# c", ours), "version", "2", "new");
  expect(removeRootLine(removeBlock(text, "default"), "version")).toBe("# c");
});

for (const text of ["version = 3\n", "[version]\n", "version.x = 1\n", "[version.x]\n", '"version" = 1\n']) {
  test(`a root key that is defined is not added: ${JSON.stringify(text)}`, () => {
    expect(refusal(() => setRootLine(text, "version", "2", "new"))).toMatchObject({
      code: "unsupported-config",
      facts: { line: 1 },
    });
  });
}

test("a root line without our mark is not removed", () => {
  expect(removeRootLine("version = 2\n", "version")).toBe("version = 2\n");
});

test("a root line whose value someone changed stays, without our mark", () => {
  expect(removeRootLine(`${line.replace("= 2", "= 3")}\n`, "version")).toBe("version = 3\n");
});

test("a root line whose comment someone wrote into is theirs", () => {
  expect(removeRootLine(`${line}, keep!\n`, "version")).toBe(`${line}, keep!\n`);
});

test("an import that another tool added to our line survives it", () => {
  const text = addArrayElement(setRootLine("", "imports", '["/ours"]', "new"), ["imports"], "/theirs");
  expect(removeRootLine(removeArrayElement(text, ["imports"], "/ours"), "imports")).toBe(
    'imports = ["/theirs"]\n',
  );
});

test("our import line goes once our element was taken out of it", () => {
  const text = setRootLine("[t]\n", "imports", '["/ours"]', "new");
  expect(removeRootLine(removeArrayElement(text, ["imports"], "/ours"), "imports")).toBe("[t]\n");
});

test("a comment inside our import line keeps the line", () => {
  const text = mark('["/ours"]', "imports").replace('["/ours"]', '[ # theirs\n"/ours"]');
  expect(removeRootLine(`${text}\n`, "imports")).toBe('imports = [ # theirs\n"/ours"]\n');
});

test("the mark of a root line can be read", () => {
  expect([rootMark(line, "version"), rootMark("version = 2 # c", "version")]).toEqual(["new", undefined]);
});

for (const value of ["2\nb = 3", "2 # c", "", "[\n1]", "2, 3"]) {
  test(`a value that is not one line of TOML is not written: ${JSON.stringify(value)}`, () => {
    expect(() => setRootLine("", "version", value, "new")).toThrow(ShimctlError);
  });
}

test("shared pieces give way when an administrator defines the same key", () => {
  const text = setBlock(`${line}\n[t]\n`, { owner: "shared", body: "[s]\na = 1\n" });
  const clash = `version = 3\n${text}`;
  expect(() => parseToml(clash, "/x")).toThrow(ShimctlError);
  expect(withoutShared(clash)).toBe("version = 3\n[t]\n");
});

// Arrays

const arrays: [what: string, before: string, after: string][] = [
  ["empty", "imports = []", 'imports = ["x"]'],
  ["empty with space", "imports = [ ]", 'imports = ["x" ]'],
  ["empty with a comment", "imports = [ # c\n]", 'imports = ["x" # c\n]'],
  ["on one line", 'imports = ["a"]', 'imports = ["a", "x"]'],
  ["on one line, padded", "imports = [ 'a' ] # c", `imports = [ 'a', "x" ] # c`],
  ["on one line with trailing comma", 'imports = ["a",]', 'imports = ["a", "x",]'],
  ["on one line with a spaced trailing comma", 'imports = ["a" , ]', 'imports = ["a" , "x", ]'],
  ["on lines with trailing comma", 'imports = [\n  "a",\n]', 'imports = [\n  "a",\n  "x",\n]'],
  [
    "on lines without trailing comma",
    'imports = [\n\t"a", # one\n\t"b" # two\n]',
    'imports = [\n\t"a", # one\n\t"b", # two\n\t"x"\n]',
  ],
  ["on CR LF lines", 'imports = [\r\n  "a"\r\n]', 'imports = [\r\n  "a",\r\n  "x"\r\n]'],
  ["closed on the line of the last element", 'imports = ["a",\n  "b"]', 'imports = ["a",\n  "b", "x"]'],
  [
    "with comments before the bracket",
    'imports = [\n  "a",\n  # end\n]',
    'imports = [\n  "a",\n  "x",\n  # end\n]',
  ],
  [
    "with the first element on the line of the bracket",
    'imports = ["a" # c\n]',
    'imports = ["a", # c\n  "x"\n]',
  ],
  [
    "with a comma on a line of its own",
    'imports = [\n "a" # c\n ,\n]',
    'imports = [\n "a" # c\n ,\n "x",\n]',
  ],
  ["of strings with brackets and hashes", `imports = ["]", '#,']`, `imports = ["]", '#,', "x"]`],
  ["with a multi-line string", 'imports = ["""a\n"""]', 'imports = ["""a\n""", "x"]'],
];
for (const [what, before, after] of arrays) {
  test(`an element is added in the style of an array ${what}`, () => {
    expect(addArrayElement(before, ["imports"], "x")).toBe(after);
  });
  test(`an element leaves no trace in an array ${what}`, () => {
    expect(removeArrayElement(after, ["imports"], "x")).toBe(before);
  });
}

const entangled: [what: string, before: string, after: string][] = [
  ["first", 'imports = ["x", "b"]', 'imports = ["b"]'],
  ["in the middle", 'imports = ["a", "x", "b"]', 'imports = ["a", "b"]'],
  ["first of lines", 'imports = [\n  "x",\n  "b"\n]', 'imports = [\n  "b"\n]'],
  ["beside a comment", 'imports = [\n  "a",\n  "x", # theirs\n]', 'imports = [\n  "a",\n   # theirs\n]'],
  ["before a comment and its comma", 'imports = ["x" # c\n, "b"]', 'imports = [ # c\n "b"]'],
  ["spelled otherwise", "imports = ['x']", "imports = []"],
  ["spelled with escapes", 'imports = ["\\u0078", "b"]', 'imports = ["b"]'],
  ["twice", 'imports = ["x", "b", "x"]', 'imports = ["b", "x"]'],
];
for (const [what, before, after] of entangled) {
  test(`an element is taken from among others: ${what}`, () => {
    expect(removeArrayElement(before, ["imports"], "x")).toBe(after);
  });
}

test("an element that is there already is used, not doubled", () => {
  expect(addArrayElement("imports = ['x']", ["imports"], "x")).toBe("imports = ['x']");
});

for (const text of [
  "imports = 'x'\n",
  "imports = [1]\n",
  "imports = { a = 1 }\n",
  "a = 1\n",
  "[[imports]]\n",
]) {
  test(`an element is not added to what is no array of strings: ${JSON.stringify(text)}`, () => {
    expect(refusal(() => addArrayElement(text, ["imports"], "x")).code).toBe("unsupported-config");
  });
}

test("an array below an array of tables is not edited: which one is meant is not clear", () => {
  expect(refusal(() => addArrayElement("[[a]]\nb = []\n", ["a", "b"], "x")).code).toBe("unsupported-config");
});

// What stands in the way of a table

const obstacles: [what: string, text: string, line: number, reason: RegExp][] = [
  [
    "an inline table",
    "[a]\nb = { c = 1 }\n",
    2,
    /^`b` is an inline table, which TOML does not allow to extend/,
  ],
  ["an inline table above", "\na = { b = { c = 1 } }\n", 2, /^`a` is an inline table/],
  ["a value", "a.b = 1\n", 1, /^`b` is a value/],
  ["dotted keys", "[a]\nb.kata.x = 1\n", 2, /^`kata` is defined by dotted keys/],
  ["an array of tables", "[[a.b]]\nc = 1\n", 1, /^`a\.b` is an array of tables/],
  ["an array of tables at the end", "[[a.b.kata]]\n", 1, /is an array of tables/],
  ["the table itself", "[a.b.kata]\n", 1, /is defined already/],
];
for (const [what, text, at, reason] of obstacles) {
  test(`a table cannot be added past ${what}`, () => {
    expect(canExtend(text, ["a", "b", "kata"])).toMatchObject({
      line: at,
      reason: expect.stringMatching(reason),
    });
  });
}

for (const text of [
  "",
  "[a]\nx = 1\n[a.b]\n",
  "[a.b.kata.options]\n",
  "[a]\nb.other = 1\n",
  "[[a.c]]\n[[x]]\n",
  "[z]\na = { b = 1 }\n",
  "[a.b.x]\n[a]\n",
]) {
  test(`a table can be added to ${JSON.stringify(text)}, and the result is valid`, () => {
    expect(canExtend(text, ["a", "b", "kata"])).toBeNull();
    parseToml(setBlock(text, { owner: "default", body: "[a.b.kata]\nx = 1\n" }), "/x");
  });
}

// Regressions of other editors (see the comparison that led to this one)

test("an unrelated edit keeps the comment after an empty array", () => {
  const text = "disabled_plugins = [] # kept\n[grpc]\nuid = 0\n";
  expect(addArrayElement(text, ["disabled_plugins"], "x")).toBe(text.replace("[]", '["x"]'));
});

test("a table never comes out as an inline table with a trailing comma", () => {
  expect(setBlock('imports = [\n "a",\n]\n', ours)).not.toMatch(/[{}]/);
});

test("tabs before comments and as indentation stay", () => {
  const text = "[a]\n\tb = 1\t# c\n";
  expect(setBlock(text, ours).startsWith(text)).toBe(true);
});

test("a number that ends the file without line end is located whole", () => {
  const [item] = scan("a = 0").items;
  expect(item).toMatchObject({ value: { span: { start: 4, end: 5 } } });
});

test("variables of a template pass through", () => {
  const text = `root = "\${SNAP_DATA}/x"\n[a]\nb = "\${SNAPSHOTTER}"\n`;
  expect(removeBlock(setBlock(text, ours), "default")).toBe(text);
});

test("a file of 40,000 lines is scanned whole", () => {
  const text = Array.from({ length: 40_000 }, (_, at) => `key${at} = "v" # c\n`).join("");
  expect([scan(text).items.length, scan(text).comments.length]).toEqual([40_000, 40_000]);
});

// Proof

const table = () => parseToml("a = 1", "/x");

test("an edit that means something else is refused", () => {
  expect(proof({ before: "a = 1 # c\n", after: "a = 2 # c\n" })).toContain("does not mean");
});

test("an edit that loses a comment is refused", () => {
  expect(proof({ before: "a = 1 # c\n", after: "a = 1\n" })).toContain("comment");
});

test("an edit that loses one of two equal comments is refused", () => {
  expect(proof({ before: "#\na = 1 #\n", after: "a = 1 #\n" })).toContain("comment");
});

test("an edit that cannot be undone byte for byte is refused", () => {
  expect(proof({ before: "a = 1\n", after: "a  = 1\n", inverse: (text) => text })).toContain("undoing");
});

test("an edit that changes white space of others is refused", () => {
  expect(proof({ before: "a = 1\n", after: "a  = 1\n" })).toContain("lines of others");
});

test("an edit that breaks the file is refused", () => {
  expect(proof({ before: "a = 1\n", after: "a = 1\na = 1\n" })).toContain("not valid");
});

test("removing a shared line with another's import in it is refused", () => {
  const before = addArrayElement(
    setRootLine("a = 1\n", "imports", '["/ours"]', "new"),
    ["imports"],
    "/theirs",
  );
  expect(proof({ before, after: "a = 1\n", elements: [{ keyPath: ["imports"], value: "/ours" }] })).toContain(
    "lines of others",
  );
});

test("a text without our pieces is the text before we came", () => {
  const text = setBlock(setRootLine("a = 1", "version", "2", "new"), ours);
  expect(withoutOurs(text)).toBe("a = 1");
});

function proof(edit: Omit<Parameters<typeof proveEdit>[0], "path" | "expected">): string {
  const error = refusal(() => proveEdit({ ...edit, path: "/x", expected: table() }));
  expect(error).toMatchObject({ code: "internal", facts: { state: "nothing was written" } });
  return error.message;
}

// Rendering and locating

test("keys are bare where TOML 1.0 allows it, else quoted", () => {
  expect(["kata-qemu", "a.b", "", "é"].map(renderKey)).toEqual(["kata-qemu", '"a.b"', '""', '"é"']);
});

test("strings are escaped in TOML 1.0", () => {
  expect(renderString('"\\\b\t\n\f\r\x1b\x7f é')).toBe('"\\"\\\\\\b\\t\\n\\f\\r\\u001B\\u007F é"');
});

test("a lone surrogate is not written", () => {
  expect(() => renderString("\ud800")).toThrow(ShimctlError);
});

test("an integer beyond 64 bits is not written", () => {
  expect(() => renderValue(2n ** 63n)).toThrow(ShimctlError);
});

test("a table is written with its lines in the order given", () => {
  expect(
    renderTable(
      ["a", "b.c"],
      [
        ["z", true],
        ["a", ["x", "y"]],
        ["n", -1n],
      ],
    ),
  ).toBe('[a."b.c"]\nz = true\na = ["x", "y"]\nn = -1\n');
});

test("the line of a key path is found in headers, dotted keys and inline tables", () => {
  const text = 'a = 1\n[p."x.y"]\nb.c = { d = { e = 1 } }\n';
  const lines = [["a"], ["p"], ["p", "x.y"], ["p", "x.y", "b", "c", "d", "e"], ["q"]].map((each) =>
    lineOf(text, each),
  );
  expect(lines).toEqual([1, 2, 2, 3, undefined]);
});

function refusal(work: () => unknown): ShimctlError {
  try {
    work();
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  throw new Error("not refused");
}
