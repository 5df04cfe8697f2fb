import { expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { deepEqual, withoutPath, withPath } from "../../src/toml/prove.ts";

const path = "/etc/containerd/config.toml";

test("integers are bigint and floats number, so 1 and 1.0 differ", () => {
  expect(deepEqual(parseToml("a = 1", path), parseToml("a = 1.0", path))).toBe(false);
});

test("not-a-number equals itself and differs from infinity", () => {
  expect(deepEqual(parseToml("a = nan", path), parseToml("a = nan", path))).toBe(true);
  expect(deepEqual(parseToml("a = nan", path), parseToml("a = inf", path))).toBe(false);
});

test("a local date-time differs from the same instant with offset", () => {
  const [local, utc] = [
    parseToml("a = 1979-05-27T07:32:00", path),
    parseToml("a = 1979-05-27T07:32:00Z", path),
  ];
  expect(deepEqual(local, utc)).toBe(false);
});

test("a key __proto__ is a key like any other and pollutes nothing", () => {
  const table = parseToml("[__proto__]\npolluted = true\n[a.__proto__]\nb = 1", path);
  expect(Object.keys(table)).toEqual(["__proto__", "a"]);
  expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
});

test("withPath sets a key __proto__ as data", () => {
  const table = withPath(parseToml("", path), ["__proto__", "x"], 1n);
  expect(deepEqual(table, parseToml("[__proto__]\nx = 1", path))).toBe(true);
});

test("withPath leaves the given table as it was", () => {
  const table = parseToml("[a.b]\nc = 1", path);
  withPath(table, ["a", "b", "d"], 2n);
  expect(deepEqual(table, parseToml("[a.b]\nc = 1", path))).toBe(true);
});

test("withoutPath takes emptied tables along unless they stay in their own right", () => {
  const table = parseToml("[a.b]\nc = 1", path);
  expect(deepEqual(withoutPath(table, ["a", "b", "c"]), parseToml("[a.b]", path))).toBe(true);
  const stays = (parent: readonly string[]) => parent.length === 1;
  expect(deepEqual(withoutPath(table, ["a", "b", "c"], stays), parseToml("[a]", path))).toBe(true);
});

const refused: [what: string, text: string, line: number, column: number][] = [
  ["a key defined twice", "version = 2\nroot = 'x'\nversion = 3\n", 3, 1],
  ["a table defined twice", "[a]\n[b]\n[a]\n", 3, 2],
  ["a stray line", 'version = 2\n[a]\nb = 1\n3s"\n', 4, 3],
  ["a line break in an inline table (TOML 1.1)", "a = {\n  b = 1 }\n", 1, 6],
  ["a trailing comma in an inline table (TOML 1.1)", "x = 1\na = { b = 1, }\n", 2, 12],
  ["the escape \\x (TOML 1.1)", 'a = "é\\x41"\n', 1, 7],
  ["the escape \\e (TOML 1.1)", 'a = "\\e"\n', 1, 6],
  ["the escape \\e in a key (TOML 1.1)", '"\\e" = 1\n', 1, 2],
  ["a time without seconds (TOML 1.1)", "a = 07:32\n", 1, 5],
  ["an integer beyond 64 bits", "a = [1,\n 9223372036854775808]\n", 2, 2],
  ["a hexadecimal integer beyond 64 bits", "a = 0x8000000000000000\n", 1, 5],
  ["30 February", "a = { b = 2025-02-30 }\n", 1, 11],
  ["29 February of a common year", "a = 2023-02-29T00:00:00Z\n", 1, 5],
];
for (const [what, text, line, column] of refused) {
  test(`is refused with line and column: ${what}`, () => {
    expect(refusal(text)).toMatchObject({ code: "invalid-config", facts: { path, line, column } });
  });
}

const accepted: [what: string, text: string][] = [
  [
    "the outermost 64-bit integers",
    "a = -9223372036854775808\nb = +9_223_372_036_854_775_807\nc = 0x7fff_ffff_ffff_ffff",
  ],
  ["29 February of a leap year", "a = 2024-02-29"],
  ["an escaped backslash before x and e", 'a = "\\\\x41 \\\\e"'],
  ["\\x in a literal string", "a = 'C:\\x41'"],
  ["line breaks in an array inside an inline table", "a = { b = [\n 1,\n] }"],
  ["a trailing comma in an array", "a = [1,]"],
  ["microk8s variables inside strings", `a = "\${SNAPSHOTTER}"`],
];
for (const [what, text] of accepted) {
  test(`is accepted: ${what}`, () => {
    expect(() => parseToml(text, path)).not.toThrow();
  });
}

test("the stray line of kata-containers#10924 is shown as it stands, with a caret", () => {
  expect(refusal('version = 2\n3s"\n').facts.excerpt).toBe('3s"\n  ^');
});

test("an error keeps no trace of the parser's own message, which quotes secrets", () => {
  const error = refusal('[a.auth]\npassword = "hunter2" x\n');
  expect(Bun.inspect(error)).not.toContain("hunter2");
});

test("a caret stands under the right place of a redacted line", () => {
  expect(refusal('password = "hunter2-hunter2" x\n').facts.excerpt).toBe(
    'password = "<redacted>"\n            ^',
  );
});

test("an excerpt of a very long line is cut around the place", () => {
  const excerpt = refusal(`root = [${"1, ".repeat(5000)}x]`).facts.excerpt ?? "";
  expect(excerpt.split("\n")[0]?.length).toBeLessThan(170);
});

for (const [what, text] of [
  ["arrays", `a = ${"[".repeat(5000)}${"]".repeat(5000)}`],
  ["headers", `[${"a.".repeat(100_000)}a]`],
  ["dotted keys", `${"a.".repeat(100_000)}a = 1`],
  ["inline tables", `a = ${"{ a = ".repeat(5000)}1${" }".repeat(5000)}`],
] as const) {
  test(`nesting without end is refused, not followed: ${what}`, () => {
    expect(refusal(text).code).toBe("invalid-config");
  });
}

function refusal(text: string): ShimctlError {
  try {
    parseToml(text, path);
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  throw new Error("not refused");
}
