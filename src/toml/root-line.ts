import { ShimctlError } from "../error.ts";
import { blockLines, findBlocks, removeBlock } from "./block.ts";
import { factsAt } from "./excerpt.ts";
import { isSharedComment, sharedComment } from "./marker.ts";
import { parseToml, scanToml } from "./parse.ts";
import { renderKey } from "./render.ts";
import { type Header, type KeyValue, pathOf, type Scan } from "./scan.ts";
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
 * Adds a missing root key as one line `key = value # shimctl shared: mark`: after the last root key, else
 * before the first table and the comments that stand on it, else at the end.
 * @throws ShimctlError `unsupported-config` when the key is defined, in whatever way; `internal` for a value
 * that is not TOML on one line.
 */
export function setRootLine(
  text: string,
  key: string,
  valueText: string,
  mark: string,
  path?: string,
): string {
  const line = `${renderKey(key)} = ${valueText} ${sharedComment(mark)}`;
  const written = scanToml(line);
  parseToml(line, "(line)");
  if (line.includes("\n") || sharedLines(written).length !== 1) {
    throw new ShimctlError("internal", `cannot write this as one line: ${renderKey(key)}`);
  }
  const scanned = scanToml(text, path);
  const defined = scanned.items.find(
    (item) => (item.kind === "key-value" ? pathOf(item) : item.path)[0] === key,
  );
  if (defined !== undefined) {
    throw new ShimctlError(
      "unsupported-config",
      `cannot add a root key that is defined already: ${key}`,
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
 * Removes the root line of a key, if `setRootLine` wrote it; any other text is returned as it is.
 * `valueText`, when given, is what we wrote.
 * @throws ShimctlError `conflict` when the value is another by now, or, without `valueText`, when it is an
 * array of several elements: another tool may have added to it.
 */
export function removeRootLine(text: string, key: string, valueText?: string, path?: string): string {
  const scanned = scanToml(text, path);
  const shared = sharedLines(scanned).filter((line) => line.key.length === 1 && line.key[0] === key);
  return shared.reduceRight((rest, line) => removeLine(rest, scanned, line, valueText, path), text);
}

/** Takes only the mark off a root line of ours: from then on it belongs to whoever added to it. */
export function disownRootLine(text: string, key: string, path?: string): string {
  const scanned = scanToml(text, path);
  const line = sharedLines(scanned).find((each) => each.key.length === 1 && each.key[0] === key);
  if (line === undefined) return text;
  const lineEnd = nextLineStart(text, line.span.end);
  return splice(text, { start: line.span.end, end: lineEnd - eolBefore(text, lineEnd).length }, "");
}

/**
 * The text without any shared piece: marked root lines and the block of owner `shared`. Reads a text in
 * which a key is defined twice, so it serves when an administrator has defined what we had added.
 * @throws ShimctlError as `removeRootLine`, and `conflict` for a hand-edited block.
 */
export function withoutShared(text: string, path?: string): string {
  const scanned = scanToml(text, path);
  const lines = sharedLines(scanned).reduceRight(
    (rest, line) => removeLine(rest, scanned, line, undefined, path),
    text,
  );
  return removeBlock(lines, "shared", { path });
}

/** Root lines that carry our mark, in file order. */
export function sharedLines(scanned: Scan): KeyValue[] {
  return rootKeyValues(scanned).filter((item) => isSharedComment(trailingComment(scanned, item) ?? ""));
}

function removeLine(text: string, scanned: Scan, line: KeyValue, valueText?: string, path?: string): string {
  const value = scanned.text.slice(line.value.span.start, line.value.span.end);
  const several = line.value.kind === "array" && line.value.elements.length > 1;
  if (valueText === undefined ? several : value !== valueText) {
    throw new ShimctlError(
      "conflict",
      `cannot remove a shared line that was changed since: ${line.key[0]}`,
      factsAt(
        scanned.text,
        line.span.start,
        path,
        "Remove the shimctl comment from the line to keep it as yours.",
      ),
    );
  }
  return splice(text, wholeLines(text, line.span), "");
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
