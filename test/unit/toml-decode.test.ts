import { expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { decodeToml, encodeToml, maxBytes } from "../../src/toml/decode.ts";

const path = "/etc/containerd/config.toml";
const bytes = (...parts: (string | number[])[]) =>
  new Uint8Array(
    parts.flatMap((part) => (typeof part === "string" ? [...new TextEncoder().encode(part)] : part)),
  );

test("decoding and encoding give the same bytes, line ends and non-ASCII characters included", () => {
  const file = bytes("a = 'Größe 漢字 🚀'\r\nb = 1\n\r\nc = 2");
  expect(encodeToml(decodeToml(file, path))).toEqual(file);
});

test("a byte order mark is refused: containerd 2 does not start on it", () => {
  expect(refusal(bytes([0xef, 0xbb, 0xbf], "version = 2\n"))).toMatchObject({ line: 1, column: 1, path });
});

test("a byte order mark inside the text is an ordinary character", () => {
  expect(decodeToml(bytes("# \ufeff"), path)).toBe("# \ufeff");
});

const illFormed: [what: string, sequence: number[]][] = [
  ["a stray continuation byte", [0x80]],
  ["Latin-1", [0xfc, 0x20]],
  ["a cut-off sequence", [0xe2, 0x82]],
  ["an overlong slash", [0xc0, 0xaf]],
  ["an overlong three-byte form", [0xe0, 0x80, 0xaf]],
  ["a surrogate", [0xed, 0xa0, 0x80]],
  ["a character beyond Unicode", [0xf4, 0x90, 0x80, 0x80]],
];
for (const [what, sequence] of illFormed) {
  test(`invalid UTF-8 is refused with its line and column: ${what}`, () => {
    expect(refusal(bytes("a = 1\nb = '漢é", sequence, "'\n"))).toMatchObject({ line: 2, column: 8 });
  });
}

for (const [what, character] of [
  ["NUL", "\0"],
  ["DEL", "\x7f"],
  ["escape", "\x1b"],
  ["form feed", "\f"],
] as const) {
  test(`a control character is refused with its line and column: ${what}`, () => {
    expect(refusal(bytes(`a = 1\r\nb = '🚀${character}'\n`))).toMatchObject({ line: 2, column: 7 });
  });
}

test("a carriage return without line feed is refused", () => {
  expect(refusal(bytes("a = 1\rb = 2\n"))).toMatchObject({ line: 1, column: 6 });
});

test("a control character cannot reach the terminal by the excerpt", () => {
  expect(refusal(bytes("root = '\x1b[2J'")).excerpt).toBe("root = '␛[2J'\n        ^");
});

test("tabs and CR LF are allowed", () => {
  expect(decodeToml(bytes("\ta\t=\t1\r\n"), path)).toBe("\ta\t=\t1\r\n");
});

test("a file above the size limit is refused", () => {
  expect(refusal(new Uint8Array(maxBytes + 1).fill(0x0a))).toMatchObject({ path });
});

test("a secret in a file of CR line ends does not reach the excerpt", () => {
  expect(refusal(bytes("version = 2\r[x.auth]\rfoo = 'hunter2'\r")).excerpt).not.toContain("hunter2");
});

function refusal(file: Uint8Array): ShimctlError["facts"] {
  try {
    decodeToml(file, path);
  } catch (error) {
    if (error instanceof ShimctlError && error.code === "invalid-config") return error.facts;
    throw error;
  }
  throw new Error("not refused");
}
