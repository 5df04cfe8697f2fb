import { ShimctlError } from "../error.ts";
import { blockLines, findBlocks, removeBlock } from "./block.ts";
import { factsAt } from "./excerpt.ts";
import { markerHash, readShared, sharedComment } from "./marker.ts";
import { parseToml, scanToml } from "./parse.ts";
import { renderKey } from "./render.ts";
import { decodeString, type Header, type KeyValue, pathOf, type Scan } from "./scan.ts";
import {
  eolBefore,
  lastEol,
  lineStart,
  nextLineStart,
  splice,
  trailingComment,
  wholeLines,
} from "./splice.ts";

/**
 * Adds a missing root key as one line `key = value # shimctl shared: mark sha256=…`: after the last root
 * key, else before the first table and the comments that stand on it, else at the end. The hash is of the
 * value, so that a line which someone changed is told from ours.
 * @throws ShimctlError `unsupported-config` when the key is defined, in whatever way; `internal` for a value
 * or mark that does not fit on one line.
 */
export function setRootLine(
  text: string,
  key: string,
  valueText: string,
  mark: string,
  path?: string,
): string {
  const assignment = `${renderKey(key)} = ${valueText}`;
  parseToml(assignment, "(line)");
  const [value] = rootKeyValues(scanToml(assignment));
  const hash = value === undefined ? "" : valueHash(assignment, value);
  const line = `${assignment} ${sharedComment({ mark, hash })}`;
  if (line.includes("\n") || rootMark(line, key) !== mark) {
    throw new ShimctlError("internal", `Cannot write this as one marked line: ${renderKey(key)}`);
  }
  const scanned = scanToml(text, path);
  const defined = scanned.items.find(
    (item) => (item.kind === "key-value" ? pathOf(item) : item.path)[0] === key,
  );
  if (defined !== undefined) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot add a root key that is defined already: ${key}`,
      factsAt(text, defined.span.start, path),
    );
  }
  const at = placeOf(scanned, path);
  if (at < text.length) {
    const eol = eolBefore(text, at) || eolBefore(text, nextLineStart(text, at)) || lastEol(text);
    return splice(text, { start: at, end: at }, line + eol);
  }
  const eol = lastEol(text);
  return text === "" || text.endsWith("\n") ? text + line + eol : text + eol + line;
}

/**
 * Removes the root line of a key that `setRootLine` wrote. If its value was changed since, it is someone
 * else's by now: the line stays and loses only our mark, unless it is an array that is empty. Take our own
 * elements out first (`removeArrayElement`). A text without a marked line is returned as it is.
 */
export function removeRootLine(text: string, key: string, path?: string): string {
  const scanned = scanToml(text, path);
  const lines = sharedLines(scanned).filter((line) => line.key[0] === key);
  return lines.reduceRight((rest, line) => removeLine(rest, scanned, line), text);
}

/** Takes only the mark off a root line of ours: from then on it is the administrator's. */
export function disownRootLine(text: string, key: string, path?: string): string {
  const line = sharedLines(scanToml(text, path)).find((each) => each.key[0] === key);
  return line === undefined ? text : splice(text, markOf(text, line), "");
}

/** The mark of a root line that `setRootLine` wrote, or undefined. */
export function rootMark(text: string, key: string, path?: string): string | undefined {
  const scanned = scanToml(text, path);
  const line = sharedLines(scanned).find((each) => each.key[0] === key);
  return line === undefined ? undefined : readShared(trailingComment(scanned, line) ?? "")?.mark;
}

/**
 * The text without any shared piece: marked root lines, as `removeRootLine` treats them, and the block of
 * owner `shared`. Reads a text in which a key is defined twice, so it serves when an administrator has
 * defined what we had added.
 * @throws ShimctlError `conflict` for a hand-edited block or damaged markers.
 */
export function withoutShared(text: string, path?: string): string {
  const scanned = scanToml(text, path);
  const lines = sharedLines(scanned).reduceRight((rest, line) => removeLine(rest, scanned, line), text);
  return removeBlock(lines, "shared", { path });
}

/** Root lines that carry our mark, in file order. */
export function sharedLines(scanned: Scan): KeyValue[] {
  return rootKeyValues(scanned).filter(
    (item) => item.key.length === 1 && readShared(trailingComment(scanned, item) ?? "") !== undefined,
  );
}

/** What stands behind the value of a marked line, up to its EOL. */
function markOf(text: string, line: KeyValue): { start: number; end: number } {
  const lineEnd = nextLineStart(text, line.span.end);
  return { start: line.span.end, end: lineEnd - eolBefore(text, lineEnd).length };
}

/** `text` may differ from the scanned one behind `line`, not before it. */
function removeLine(text: string, scanned: Scan, line: KeyValue): string {
  const tail = markOf(text, line);
  const isOurs = readShared(text.slice(tail.start, tail.end).trim())?.hash === valueHash(text, line);
  const isEmpty = line.value.kind === "array" && line.value.elements.length === 0;
  const hasComment = scanned.comments.some(
    ({ span }) => span.start > line.span.start && span.end < line.span.end,
  );
  return splice(text, (isOurs || isEmpty) && !hasComment ? wholeLines(text, line.span) : tail, "");
}

/** Over the meaning of an array, so that a tool which only lays it out anew does not make it its own. */
function valueHash(text: string, { value }: KeyValue): string {
  const raw = text.slice(value.span.start, value.span.end);
  if (value.kind !== "array") return markerHash(raw);
  const elements = value.elements.map(({ value: { kind, span } }) => {
    const element = text.slice(span.start, span.end);
    return kind === "string" ? JSON.stringify(decodeString(element)) : element;
  });
  return markerHash(elements.join(","));
}

function placeOf(scanned: Scan, path?: string): number {
  const { text } = scanned;
  const last = rootKeyValues(scanned).at(-1);
  if (last !== undefined) return nextLineStart(text, last.span.end);
  const header = scanned.items[0];
  if (header === undefined) return text.length;
  const block = findBlocks(scanned, path).find(
    ({ span }) => span.start < header.span.start && header.span.end < span.end,
  );
  // A block of ours, blank line included, counts as not there: it may go before this line goes.
  if (block !== undefined) return blockStart(text, blockLines(text, block).start);
  return startWithComments(scanned, header);
}

/** Where a line goes in front of a block at the end of a file without final EOL: behind the EOL of the block. */
function blockStart(text: string, start: number): number {
  return start === lineStart(text, start) ? start : nextLineStart(text, start);
}

function startWithComments(scanned: Scan, header: { readonly span: Header["span"] }): number {
  let start = lineStart(scanned.text, header.span.start);
  while (start > 0) {
    const previous = lineStart(scanned.text, start - 1);
    if (!scanned.text.slice(previous, start).trimStart().startsWith("#")) break;
    start = previous;
  }
  return start;
}

function rootKeyValues(scanned: Scan): KeyValue[] {
  const found: KeyValue[] = [];
  for (const item of scanned.items) {
    if (item.kind !== "key-value") break;
    found.push(item);
  }
  return found;
}
