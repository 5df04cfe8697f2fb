import { parse } from "smol-toml";
import { remember } from "./memo.ts";

/** Half-open range of UTF-16 offsets. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface StringValue {
  readonly kind: "string";
  readonly span: Span;
  readonly multiline: boolean;
}

/** A number, boolean or date: anything that is neither quoted nor bracketed. */
export interface ScalarValue {
  readonly kind: "scalar";
  readonly span: Span;
}

export interface ArrayElement {
  readonly value: Value;
  /** Offset of the comma after the element, if there is one. */
  readonly comma: number | undefined;
}

export interface ArrayValue {
  readonly kind: "array";
  readonly span: Span;
  readonly elements: readonly ArrayElement[];
}

export interface InlineTableValue {
  readonly kind: "inline-table";
  readonly span: Span;
  readonly entries: readonly KeyValue[];
}

export type Value = StringValue | ScalarValue | ArrayValue | InlineTableValue;

export interface KeyValue {
  readonly kind: "key-value";
  /** Path of the table the line stands in; `key` is relative to it. `pathOf` joins the two. */
  readonly table: readonly string[];
  readonly key: readonly string[];
  readonly keySpan: Span;
  readonly value: Value;
  /** From the first character of the key to the last one of the value. */
  readonly span: Span;
}

export interface Header {
  readonly kind: "table" | "array-of-tables";
  readonly path: readonly string[];
  readonly keySpan: Span;
  readonly span: Span;
}

export type Item = Header | KeyValue;

export interface Comment {
  /** From `#` to the end of the line, without the EOL. */
  readonly span: Span;
  /** `line`: alone on its line between items; `trailing`: after an item; `value`: inside an array or inline table. */
  readonly place: "line" | "trailing" | "value";
}

/** Syntax that TOML 1.1 introduced and the Go parsers of containerd 1.x to 2.3 refuse. */
export interface NewerSyntax {
  readonly offset: number;
  readonly what: string;
}

export interface Scan {
  readonly text: string;
  readonly items: readonly Item[];
  readonly comments: readonly Comment[];
  readonly newer: readonly NewerSyntax[];
  /** Offset of the first character of each line; the first entry is 0. */
  readonly lineStarts: readonly number[];
}

/** Deepest nesting and longest key path that is followed: keeps every recursive walker off the end of the stack. */
export const maxDepth = 100;

/** The text is not TOML, or nested too deeply; `offset` is where the scanner stopped. */
export class ScanError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.name = "ScanError";
    this.offset = offset;
  }
}

/**
 * Locates every header, key, value, comma and comment of a TOML text, in one pass. It does not validate
 * (duplicate keys, number syntax): smol-toml does that, so it also serves where a key is defined twice.
 * @throws ScanError where the text cannot be TOML.
 */
export function scan(text: string): Scan {
  const cursor: Cursor = { text, at: 0, comments: [], newer: [] };
  const items: Item[] = [];
  let table: readonly string[] = [];
  for (;;) {
    skipSpaces(cursor);
    if (cursor.at >= text.length) break;
    const character = text[cursor.at];
    if (skipEol(cursor)) continue;
    if (character === "#") {
      skipComment(cursor, "line");
      continue;
    }
    const item = scanLine(cursor, table);
    if (item.kind !== "key-value") table = item.path;
    items.push(item);
  }
  return { text, items, comments: cursor.comments, newer: cursor.newer, lineStarts: findLineStarts(text) };
}

/**
 * The one header or key/value that begins at `offset`, and where the line after it begins. What stands before
 * it is not looked at, so it serves where that is no TOML.
 * @throws ScanError
 */
export function scanItemAt(text: string, offset: number): { readonly item: Item; readonly end: number } {
  const cursor: Cursor = { text, at: offset, comments: [], newer: [] };
  skipSpaces(cursor);
  const item = scanLine(cursor, []);
  return { item, end: cursor.at };
}

function scanLine(cursor: Cursor, table: readonly string[]): Item {
  const { text } = cursor;
  const item = text[cursor.at] === "[" ? scanHeader(cursor) : scanKeyValue(cursor, table, 0);
  skipSpaces(cursor);
  if (text[cursor.at] === "#") skipComment(cursor, "trailing");
  if (cursor.at < text.length && !skipEol(cursor)) {
    throw new ScanError("something follows the value on its line", cursor.at);
  }
  return item;
}

const scanOnce = remember(scan);

/** The scan of `source`, which may be one already. */
export function asScan(source: string | Scan): Scan {
  return typeof source === "string" ? scanOnce(source) : source;
}

/** The full dotted path of a key/value, from the root of the document. */
export function pathOf(keyValue: KeyValue): readonly string[] {
  return keyValue.table.length === 0 ? keyValue.key : [...keyValue.table, ...keyValue.key];
}

/** 1-based number of the line that holds `offset`. */
export function lineAt(scanned: Scan, offset: number): number {
  let low = 0;
  let high = scanned.lineStarts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((scanned.lineStarts[middle] ?? 0) <= offset) low = middle;
    else high = middle;
  }
  return low + 1;
}

/** What a quoted TOML string or key means. `raw` includes its quotes. */
export function decodeString(raw: string): string {
  const plain = !raw.includes("\\") && !raw.startsWith('"""') && !raw.startsWith("'''");
  if (plain) return raw.slice(1, -1);
  // One implementation of escapes in the program, the parser's own, is one fewer to get wrong.
  const value = parse(`k = ${raw}`)["k"];
  if (typeof value !== "string") throw new ScanError("not a string", 0);
  return value;
}

interface Cursor {
  readonly text: string;
  at: number;
  readonly comments: Comment[];
  readonly newer: NewerSyntax[];
}

function findLineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

function skipSpaces(cursor: Cursor): void {
  for (;;) {
    const code = cursor.text.charCodeAt(cursor.at);
    if (code !== 0x20 && code !== 0x09) return;
    cursor.at++;
  }
}

/** Skips what a pattern matches right here; the engine's own loop is many times quicker than one of ours. */
function skipMatch(pattern: RegExp, cursor: Cursor): void {
  pattern.lastIndex = cursor.at;
  if (pattern.test(cursor.text)) cursor.at = pattern.lastIndex;
}

const bareKey = /[A-Za-z0-9_-]+/y;
/** Up to what ends a string, or has to be looked at. */
const insideBasic = /[^"\\\n]+/y;
const insideBasicLines = /[^"\\]+/y;
const insideLiteral = /[^'\n]+/y;
const insideLiteralLines = /[^']+/y;
const insideScalar = /[^,\]}#\n\r\t ]+/y;

function skipEol(cursor: Cursor): boolean {
  const code = cursor.text.charCodeAt(cursor.at);
  const length = code === 0x0a ? 1 : code === 0x0d && cursor.text.charCodeAt(cursor.at + 1) === 0x0a ? 2 : 0;
  cursor.at += length;
  return length > 0;
}

function skipComment(cursor: Cursor, place: Comment["place"]): void {
  const start = cursor.at;
  const newline = cursor.text.indexOf("\n", start);
  let end = newline < 0 ? cursor.text.length : newline;
  if (newline >= 0 && cursor.text[end - 1] === "\r") end--;
  cursor.comments.push({ span: { start, end }, place });
  cursor.at = end;
}

/** Skips spaces, line ends and comments inside a value; tells whether it met a line end. */
function skipVoid(cursor: Cursor): boolean {
  let crossed = false;
  for (;;) {
    skipSpaces(cursor);
    if (skipEol(cursor)) crossed = true;
    else if (cursor.text[cursor.at] === "#") skipComment(cursor, "value");
    else return crossed;
  }
}

function scanHeader(cursor: Cursor): Header {
  const start = cursor.at;
  const brackets = cursor.text.startsWith("[[", start) ? 2 : 1;
  cursor.at += brackets;
  const { key, keySpan } = scanKey(cursor);
  if (!cursor.text.startsWith("]".repeat(brackets), cursor.at)) {
    throw new ScanError("the table header is not closed", cursor.at);
  }
  cursor.at += brackets;
  return {
    kind: brackets === 2 ? "array-of-tables" : "table",
    path: key,
    keySpan,
    span: { start, end: cursor.at },
  };
}

function scanKey(cursor: Cursor): { key: string[]; keySpan: Span } {
  skipSpaces(cursor);
  const key: string[] = [];
  const start = cursor.at;
  for (;;) {
    skipSpaces(cursor);
    const partStart = cursor.at;
    const first = cursor.text[partStart];
    if (first === '"' || first === "'") {
      scanString(cursor);
      key.push(decodeKey(cursor.text.slice(partStart, cursor.at), partStart));
    } else {
      skipMatch(bareKey, cursor);
      if (cursor.at === partStart) throw new ScanError("a key is missing", partStart);
      key.push(cursor.text.slice(partStart, cursor.at));
    }
    if (key.length > maxDepth) throw new ScanError(`a key has more than ${maxDepth} parts`, partStart);
    const end = cursor.at;
    skipSpaces(cursor);
    if (cursor.text[cursor.at] !== ".") return { key, keySpan: { start, end } };
    cursor.at++;
  }
}

function decodeKey(raw: string, offset: number): string {
  try {
    return decodeString(raw);
  } catch {
    throw new ScanError("a quoted key cannot be decoded", offset);
  }
}

function scanKeyValue(cursor: Cursor, table: readonly string[], depth: number): KeyValue {
  const { key, keySpan } = scanKey(cursor);
  if (cursor.text[cursor.at] !== "=") throw new ScanError("`=` is missing after a key", cursor.at);
  if (table.length + key.length > maxDepth) {
    throw new ScanError(`a key path has more than ${maxDepth} parts`, keySpan.start);
  }
  cursor.at++;
  skipSpaces(cursor);
  const inside = cursor.text[cursor.at] === "{" ? [...table, ...key] : [];
  const value = scanValue(cursor, inside, depth);
  return {
    kind: "key-value",
    table,
    key,
    keySpan,
    value,
    span: { start: keySpan.start, end: value.span.end },
  };
}

function scanValue(cursor: Cursor, path: readonly string[], depth: number): Value {
  if (depth > maxDepth) throw new ScanError(`values are nested more than ${maxDepth} deep`, cursor.at);
  const first = cursor.text[cursor.at];
  if (first === '"' || first === "'") return scanString(cursor);
  if (first === "[") return scanArray(cursor, depth);
  if (first === "{") return scanInlineTable(cursor, path, depth);
  return scanScalar(cursor);
}

function scanScalar(cursor: Cursor): ScalarValue {
  const start = cursor.at;
  for (;;) {
    skipMatch(insideScalar, cursor);
    const character = cursor.text[cursor.at];
    if (character === undefined || ",]}#\n\r\t".includes(character)) break;
    if (character === " ") {
      // TOML allows one space between date and time.
      const isDate =
        cursor.at - start === 10 && /^\d{4}-\d\d-\d\d$/.test(cursor.text.slice(start, cursor.at));
      if (!isDate || !/^\d$/.test(cursor.text[cursor.at + 1] ?? "")) break;
    }
    cursor.at++;
  }
  if (cursor.at === start) throw new ScanError("a value is missing", start);
  return { kind: "scalar", span: { start, end: cursor.at } };
}

function scanString(cursor: Cursor): StringValue {
  const { text, at: start } = cursor;
  const quote = text[start] ?? "";
  const basic = quote === '"';
  const multiline = text.startsWith(quote.repeat(3), start);
  cursor.at += multiline ? 3 : 1;
  const [inLine, inLines] = basic ? [insideBasic, insideBasicLines] : [insideLiteral, insideLiteralLines];
  const inside = multiline ? inLines : inLine;
  for (;;) {
    skipMatch(inside, cursor);
    const character = text[cursor.at];
    if (character === undefined || (!multiline && character === "\n")) {
      throw new ScanError("a string is not closed", start);
    }
    if (basic && character === "\\") {
      const escaped = text[cursor.at + 1];
      if (escaped === "x" || escaped === "e") {
        cursor.newer.push({ offset: cursor.at, what: `the escape \\${escaped} in a string` });
      }
      cursor.at += 2;
    } else if (character !== quote) {
      cursor.at++;
    } else if (!multiline) {
      cursor.at++;
      break;
    } else if (text.startsWith(quote.repeat(3), cursor.at)) {
      cursor.at += 3;
      // Up to two more quotes belong to the content, so the closing delimiter is the last three of the run.
      for (let extra = 0; extra < 2 && text[cursor.at] === quote; extra++) cursor.at++;
      break;
    } else {
      cursor.at++;
    }
  }
  return { kind: "string", span: { start, end: cursor.at }, multiline };
}

function scanArray(cursor: Cursor, depth: number): ArrayValue {
  const start = cursor.at++;
  const elements: ArrayElement[] = [];
  for (;;) {
    skipVoid(cursor);
    if (cursor.text[cursor.at] === "]") break;
    // A table in an array has no path of its own: the element's position would be part of it.
    const value = scanValue(cursor, [], depth + 1);
    skipVoid(cursor);
    const next = cursor.text[cursor.at];
    if (next === ",") {
      elements.push({ value, comma: cursor.at++ });
    } else {
      elements.push({ value, comma: undefined });
      if (next !== "]") throw new ScanError("a comma or `]` is missing in an array", cursor.at);
    }
  }
  cursor.at++;
  return { kind: "array", span: { start, end: cursor.at }, elements };
}

function scanInlineTable(cursor: Cursor, path: readonly string[], depth: number): InlineTableValue {
  const start = cursor.at++;
  const entries: KeyValue[] = [];
  let lastComma: number | undefined;
  const skip = () => {
    const from = cursor.at;
    if (skipVoid(cursor)) cursor.newer.push({ offset: from, what: "a line break inside an inline table" });
  };
  for (;;) {
    skip();
    if (cursor.text[cursor.at] === "}") {
      if (lastComma !== undefined) {
        cursor.newer.push({ offset: lastComma, what: "a comma after the last entry of an inline table" });
      }
      break;
    }
    entries.push(scanKeyValue(cursor, path, depth + 1));
    skip();
    const next = cursor.text[cursor.at];
    if (next === "}") break;
    if (next !== ",") throw new ScanError("a comma or `}` is missing in an inline table", cursor.at);
    lastComma = cursor.at++;
  }
  cursor.at++;
  return { kind: "inline-table", span: { start, end: cursor.at }, entries };
}
