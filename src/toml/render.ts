import { ShimctlError } from "../error.ts";

/** What we write into an engine's file: nothing else is ever needed, and each has one TOML 1.0 spelling. */
export type RenderValue = string | bigint | boolean | readonly string[];

/** One part of a key: bare where TOML allows it, else a basic string. */
export function renderKey(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : renderString(name);
}

/** A dotted key or the inside of a table header. */
export function renderPath(path: readonly string[]): string {
  return path.map(renderKey).join(".");
}

/** A basic string on one line. @throws ShimctlError `internal` for a lone surrogate, which UTF-8 cannot hold. */
export function renderString(value: string): string {
  if (!value.isWellFormed())
    throw new ShimctlError("internal", "Cannot write a string that is not well-formed Unicode");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: TOML requires these escaped
  return `"${value.replace(/["\\\u0000-\u001f\u007f]/g, escapeCharacter)}"`;
}

/** A value in TOML 1.0; arrays on one line without trailing comma. @throws ShimctlError `internal` beyond int64. */
export function renderValue(value: RenderValue): string {
  if (typeof value === "string") return renderString(value);
  if (typeof value === "boolean") return String(value);
  if (typeof value === "bigint") {
    if (BigInt.asIntN(64, value) !== value) {
      throw new ShimctlError("internal", `Cannot write an integer beyond 64 bits: ${value}`);
    }
    return String(value);
  }
  return `[${value.map(renderString).join(", ")}]`;
}

/** A table header and its lines, in the order given, LF line ends, the last included. */
export function renderTable(
  path: readonly string[],
  entries: Iterable<readonly [key: string, value: RenderValue]>,
): string {
  const lines = Array.from(entries, ([key, value]) => `${renderKey(key)} = ${renderValue(value)}\n`);
  return `[${renderPath(path)}]\n${lines.join("")}`;
}

const shortEscapes = new Map([
  ['"', '\\"'],
  ["\\", "\\\\"],
  ["\b", "\\b"],
  ["\t", "\\t"],
  ["\n", "\\n"],
  ["\f", "\\f"],
  ["\r", "\\r"],
]);

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  return shortEscapes.get(character) ?? `\\u${code}`;
}
