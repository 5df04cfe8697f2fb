import { parse, TomlError, type TomlTable } from "smol-toml";
import { ShimctlError } from "../error.ts";
import { byteOrderMark } from "./decode.ts";
import { factsAt, factsOf } from "./excerpt.ts";
import { remember } from "./memo.ts";
import { maxDepth, rememberedScan, type ScalarValue, type Scan, ScanError, type Value } from "./scan.ts";

export type { TomlTable, TomlValue } from "smol-toml";

/**
 * What a TOML 1.0 text means. Tables have no prototype, integers are bigint and floats number, so 1 and
 * 1.0 differ.
 * @throws ShimctlError `invalid-config` with line, column and the redacted line. Stricter than the parser:
 * TOML 1.1 syntax, integers beyond 64 bits, dates that do not exist and nesting deeper than 100 are
 * refused, because the engine's own parser would refuse them (go-toml v1.9.5, v2.2.0).
 */
export const parseToml: (text: string, path: string) => TomlTable = remember(parseAll);

function parseAll(text: string, path: string): TomlTable {
  if (text.startsWith("\ufeff")) throw byteOrderMark(text, path);
  let table: TomlTable;
  try {
    table = parse(text, { integersAsBigInt: true, maxDepth });
  } catch (error) {
    // No `cause`: the parser's message quotes the lines, secrets included.
    if (error instanceof TomlError) throw syntaxError(error, text, path);
    throw error;
  }
  const found = scanToml(text, path);
  const beyond = found.newer[0];
  if (beyond !== undefined) {
    throw new ShimctlError("invalid-config", `Cannot read the file as TOML 1.0: ${beyond.what}`, {
      ...factsAt(text, beyond.offset, path),
      hint: "Write it in TOML 1.0: containerd up to 2.3 cannot read TOML 1.1.",
    });
  }
  refuseScalars(found, path);
  return table;
}

/** `scan`, with its error as a ShimctlError `invalid-config`. */
export function scanToml(text: string, path?: string): Scan {
  try {
    return rememberedScan(text);
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    throw new ShimctlError(
      "invalid-config",
      `Cannot read the file as TOML 1.0: ${error.message}`,
      factsAt(text, error.offset, path, "Mend this line."),
    );
  }
}

function syntaxError(error: TomlError, text: string, path: string): ShimctlError {
  const reason = error.message.split("\n", 1)[0]?.replace(/^Invalid TOML document: /, "") ?? "";
  return new ShimctlError(
    "invalid-config",
    `Cannot read the file as TOML 1.0: ${reason}`,
    factsOf(text, error, path, "Mend this line."),
  );
}

function refuseScalars(scanned: Scan, path: string): void {
  for (const item of scanned.items) {
    if (item.kind === "key-value") eachScalar(item.value, check);
  }

  function check(scalar: ScalarValue): void {
    const raw = scanned.text.slice(scalar.span.start, scalar.span.end);
    const problem = scalarProblem(raw);
    if (problem === undefined) return;
    throw new ShimctlError(
      "invalid-config",
      `Cannot read the file as TOML 1.0: ${problem}`,
      factsAt(scanned.text, scalar.span.start, path, "Mend this value."),
    );
  }
}

function eachScalar(value: Value, visit: (scalar: ScalarValue) => void): void {
  if (value.kind === "scalar") visit(value);
  else if (value.kind === "array") for (const element of value.elements) eachScalar(element.value, visit);
  else if (value.kind === "inline-table") for (const entry of value.entries) eachScalar(entry.value, visit);
}

function scalarProblem(raw: string): string | undefined {
  if (raw.length < 5) return undefined;
  if (/^(?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d(?!:\d)/.test(raw)) return "a time without seconds (TOML 1.1)";
  const date = /^(\d{4})-(\d\d)-(\d\d)/.exec(raw);
  // The parser takes 30 February and shifts it into March; the engines refuse it.
  if (date !== null && Number(date[3]) > daysIn(Number(date[1]), Number(date[2])))
    return "a date that does not exist";
  // int64 has 19 decimal digits, so anything shorter fits in any notation but binary.
  if (raw.length > 16 && /^[+-]?(?:[\d_]+|0x[\da-fA-F_]+|0o[0-7_]+|0b[01_]+)$/.test(raw) && !fitsInt64(raw)) {
    return "an integer beyond 64 bits";
  }
  return undefined;
}

function daysIn(year: number, month: number): number {
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  return [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1] ?? 0;
}

function fitsInt64(raw: string): boolean {
  const digits = raw.replaceAll("_", "").replace(/^\+/, "");
  const value = digits.startsWith("-") ? -BigInt(digits.slice(1)) : BigInt(digits);
  return BigInt.asIntN(64, value) === value;
}
