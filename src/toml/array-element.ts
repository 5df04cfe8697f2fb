import { ShimctlError } from "../error.ts";
import { factsAt } from "./excerpt.ts";
import { scanToml } from "./parse.ts";
import { renderPath, renderString } from "./render.ts";
import {
  type ArrayValue,
  decodeString,
  type Item,
  type KeyValue,
  pathOf,
  type Scan,
  type Span,
} from "./scan.ts";
import { cut, eolBefore, lineStart, nextLineStart, splice, wholeLines } from "./splice.ts";

/**
 * Adds a string at the end of an array of strings, in the array's own style: on the line of the last
 * element, or on a line of its own with that element's indentation; with a trailing comma if it had one.
 * A text whose array holds the string already is returned as it is.
 * @throws ShimctlError `unsupported-config` when the path is not an array of strings with a line of its own.
 */
export function addArrayElement(
  text: string,
  keyPath: readonly string[],
  value: string,
  path?: string,
): string {
  const { array } = findArray(text, keyPath, path);
  if (indexOf(text, array, value) >= 0) return text;
  const added = renderString(value);
  const last = array.elements.at(-1);
  if (last === undefined) return insert(text, array.span.start + 1, added);
  const valueEnd = last.value.span.end;
  const anchor = last.comma === undefined ? valueEnd : last.comma + 1;
  const nextLine = nextLineStart(text, anchor);
  if (nextLine >= array.span.end) {
    return insert(text, anchor, last.comma === undefined ? `, ${added}` : ` ${added},`);
  }
  const ownLine = `${indentOf(text, array, last.value.span)}${added}${last.comma === undefined ? "" : ","}`;
  const withLine = insert(text, nextLine, ownLine + eolBefore(text, nextLine));
  // Right after the value, so before a comment that follows it.
  return last.comma === undefined ? insert(withLine, valueEnd, ",") : withLine;
}

/**
 * Removes a string from an array of strings, the first if it is there twice, with one comma and the
 * line if it stood alone on it. Comments and the other elements stay. Undoes `addArrayElement` byte for
 * byte. A text without the array or the string is returned as it is.
 * @throws ShimctlError as `addArrayElement`
 */
export function removeArrayElement(
  text: string,
  keyPath: readonly string[],
  value: string,
  path?: string,
): string {
  const scanned = scanToml(text, path);
  if (!scanned.items.some((item) => isAt(item, keyPath))) return text;
  const { array } = findArray(scanned, keyPath, path);
  const index = indexOf(text, array, value);
  return index < 0 ? text : cut(text, spansOf(text, array, index));
}

/** The strings of an array, or undefined where there is no such key. @throws ShimctlError as `addArrayElement` */
export function readArrayElements(
  text: string,
  keyPath: readonly string[],
  path?: string,
): string[] | undefined {
  const scanned = scanToml(text, path);
  if (!scanned.items.some((item) => isAt(item, keyPath))) return undefined;
  return findArray(scanned, keyPath, path).array.elements.map(({ value }) =>
    decodeString(text.slice(value.span.start, value.span.end)),
  );
}

function spansOf(text: string, array: ArrayValue, index: number): Span[] {
  const element = array.elements[index];
  if (element === undefined) return [];
  const { span } = element.value;
  const previousComma = array.elements[index - 1]?.comma;
  const joined = previousComma !== undefined && isGap(text, previousComma + 1, span.start);
  const { comma } = element;
  if (comma === undefined) {
    if (joined) return [{ start: previousComma, end: span.end }];
    const own = aloneOnLine(text, array, span) ?? span;
    return previousComma === undefined ? [own] : [{ start: previousComma, end: previousComma + 1 }, own];
  }
  if (!isGap(text, span.end, comma)) {
    return [
      aloneOnLine(text, array, span) ?? span,
      aloneOnLine(text, array, { start: comma, end: comma + 1 }) ?? { start: comma, end: comma + 1 },
    ];
  }
  const both = { start: span.start, end: comma + 1 };
  const line = aloneOnLine(text, array, both);
  if (line !== undefined) return [line];
  if (joined) return [{ start: previousComma + 1, end: comma + 1 }];
  const next = array.elements[index + 1]?.value.span.start;
  return [next !== undefined && isGap(text, comma + 1, next) ? { start: span.start, end: next } : both];
}

/** The whole lines of a span that shares them with nothing, brackets of its array included. */
function aloneOnLine(text: string, array: ArrayValue, span: Span): Span | undefined {
  const lines = wholeLines(text, span);
  if (lines.start <= array.span.start || lines.end >= array.span.end) return undefined;
  const alone =
    text.slice(lines.start, span.start).trim() === "" && text.slice(span.end, lines.end).trim() === "";
  return alone ? lines : undefined;
}

/** Whether only spaces stand between two places of one line. */
function isGap(text: string, from: number, to: number): boolean {
  return /^[ \t]*$/.test(text.slice(from, to));
}

function indentOf(text: string, array: ArrayValue, last: Span): string {
  const start = lineStart(text, last.start);
  const indent = /^[ \t]*/.exec(text.slice(start))?.[0] ?? "";
  return start > array.span.start ? indent : `${indent}  `;
}

function indexOf(text: string, array: ArrayValue, value: string): number {
  return array.elements.findIndex(
    (element) => decodeString(text.slice(element.value.span.start, element.value.span.end)) === value,
  );
}

function findArray(
  source: string | Scan,
  keyPath: readonly string[],
  path?: string,
): { array: ArrayValue; keyValue: KeyValue } {
  const scanned = typeof source === "string" ? scanToml(source, path) : source;
  const name = renderPath(keyPath);
  let inArrayOfTables = false;
  const found: KeyValue[] = [];
  for (const item of scanned.items) {
    if (item.kind === "array-of-tables") {
      inArrayOfTables ||=
        item.path.length <= keyPath.length && item.path.every((part, at) => part === keyPath[at]);
    } else if (item.kind === "key-value" && isAt(item, keyPath)) {
      found.push(item);
    }
  }
  const [keyValue, second] = found;
  if (keyValue === undefined || second !== undefined || inArrayOfTables) {
    const why = keyValue === undefined ? "that has no line of its own" : "that stands in several tables";
    throw new ShimctlError("unsupported-config", `Cannot add to an array ${why}: ${name}`, {
      ...(keyValue === undefined
        ? { ...(path === undefined ? {} : { path }) }
        : factsAt(scanned.text, keyValue.span.start, path)),
      hint: `Write it as one line of its table: ${name} = [ … ].`,
    });
  }
  const { value } = keyValue;
  if (value.kind !== "array" || value.elements.some((element) => element.value.kind !== "string")) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot add to a value that is not an array of strings: ${name}`,
      factsAt(scanned.text, value.span.start, path, `Make \`${name}\` an array of strings.`),
    );
  }
  return { array: value, keyValue };
}

function isAt(item: Item, keyPath: readonly string[]): boolean {
  // Nearly every key of a file has another depth, and needs no path made for it.
  if (item.kind !== "key-value" || item.table.length + item.key.length !== keyPath.length) return false;
  return pathOf(item).every((part, at) => part === keyPath[at]);
}

function insert(text: string, at: number, added: string): string {
  return splice(text, { start: at, end: at }, added);
}
