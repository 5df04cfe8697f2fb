import type { TomlTable } from "smol-toml";
import { ShimctlError } from "../error.ts";
import { findBlocks, removeBlock, setBlock } from "./block.ts";
import { factsAt } from "./excerpt.ts";
import { isOurComment } from "./marker.ts";
import { parseToml, scanToml } from "./parse.ts";
import { renderPath } from "./render.ts";
import { asScan, type Item, type KeyValue, pathOf, type Scan, type Span } from "./scan.ts";
import { cut, eolBefore, lineStart, nextLineStart } from "./splice.ts";
import { deepEqual, isTable, withoutPath } from "./tree.ts";

/**
 * The text without these tables, whoever wrote them, but for those in the block of `keep`: their headers, keys
 * and sub-tables, the comments among and directly above them, and one blank line where two would meet. Every
 * other byte stays. Another owner's block loses them too, and goes with its last one.
 * @throws ShimctlError `unsupported-config` where one stands in an inline table; `conflict` for a block that
 * was edited by hand; `internal` where the result would mean anything else
 */
export function takeOut(
  text: string,
  tables: readonly (readonly string[])[],
  keep: string,
  path?: string,
): string {
  let rest = text;
  for (const { owner, body } of findBlocks(text, path)) {
    if (owner === keep || owner === "shared") continue;
    const left = tables.reduce((part, table) => without(part, table, [], path), body);
    if (left === body) continue;
    rest = asScan(left).items.some((item) => item.kind !== "key-value")
      ? setBlock(rest, { owner, body: left.replace(/^\n+/, "") }, { path })
      : removeBlock(rest, owner, { path });
  }
  for (const table of tables) {
    const blocks = findBlocks(rest, path).map(({ span }) => span);
    rest = without(rest, table, blocks, path);
  }
  return rest;
}

/** The text without one table; what stands in `kept` stays. */
function without(
  text: string,
  table: readonly string[],
  kept: readonly Span[],
  path: string | undefined,
): string {
  const scanned = scanToml(text, path);
  const runs = runsOf(scanned, table, kept, path);
  if (runs.length === 0) return text;
  const result = cut(
    text,
    runs.map((run) => linesOf(scanned, run)),
  );
  // A block of ours may define the table as well: without it, what is left means what the rest did.
  const blank = (source: string) =>
    findBlocks(source, path).reduce(
      (rest, { owner }) => removeBlock(rest, owner, { path, force: true }),
      source,
    );
  const bare = kept.length === 0 ? (source: string) => source : blank;
  const expected = withoutPath(parseToml(bare(text), path ?? "(text)"), table);
  if (!deepEqual(withoutEmpty(parseToml(bare(result), path ?? "(text)")), withoutEmpty(expected))) {
    throw new ShimctlError("internal", `Cannot take out a table alone: ${renderPath(table)}`, {
      ...(path === undefined ? {} : { path }),
      hint: "remove it from the file, then run the same command again",
    });
  }
  return result;
}

interface Run {
  readonly first: Item;
  readonly last: Item;
}

/** Items of the table that follow one another. */
function runsOf(
  scanned: Scan,
  table: readonly string[],
  kept: readonly Span[],
  path: string | undefined,
): Run[] {
  const runs: Run[] = [];
  let open: Run | undefined;
  for (const item of scanned.items) {
    const at = item.kind === "key-value" ? pathOf(item) : item.path;
    const isKept = kept.some(({ start, end }) => start < item.span.start && item.span.end <= end);
    if (!isKept && startsWith(at, table)) {
      open = { first: open?.first ?? item, last: item };
      continue;
    }
    if (open !== undefined) runs.push(open);
    open = undefined;
    if (!isKept && item.kind === "key-value" && startsWith(table, at))
      refuseInline(scanned, item, table, path);
  }
  return open === undefined ? runs : [...runs, open];
}

function refuseInline(
  scanned: Scan,
  item: KeyValue,
  table: readonly string[],
  path: string | undefined,
): void {
  const defines = ({ value }: KeyValue): boolean =>
    value.kind === "inline-table" &&
    value.entries.some(
      (entry) => startsWith(pathOf(entry), table) || (startsWith(table, pathOf(entry)) && defines(entry)),
    );
  if (!defines(item)) return;
  throw new ShimctlError(
    "unsupported-config",
    `Cannot take ${renderPath(table.slice(-1))} out of this file, as it stands in an inline table`,
    factsAt(scanned.text, item.span.start, path, "remove it there, then run the same command again"),
  );
}

/** From the comments directly above the first item to the end of the line of the last one. */
function linesOf({ text, comments }: Scan, { first, last }: Run): Span {
  const own = lineStart(text, first.span.start);
  let start = own;
  const isComment = (from: number) =>
    comments.some(({ place, span }) => {
      if (place !== "line" || lineStart(text, span.start) !== from) return false;
      return !isOurComment(text.slice(span.start, span.end));
    });
  while (start > 0 && isComment(lineStart(text, start - 1))) start = lineStart(text, start - 1);
  // Comments that begin the file, or end what stands above, are not clearly of this table.
  if (start !== own && !endsBlank(text, start)) start = own;
  let end = nextLineStart(text, last.span.end);
  const endsFile = end >= text.length;
  const next = text.slice(end, nextLineStart(text, end));
  if (!endsFile && next.trim() === "" && (start === 0 || endsBlank(text, start)))
    end = nextLineStart(text, end);
  else if (endsFile && endsBlank(text, start)) start -= eolBefore(text, start).length;
  // A file that ended without a line end does so again.
  if (endsFile && !text.endsWith("\n")) start -= eolBefore(text, start).length;
  return { start, end };
}

/** Whether the line that ends at `offset` is empty. */
function endsBlank(text: string, offset: number): boolean {
  const eol = eolBefore(text, offset);
  return eol !== "" && lineStart(text, offset - eol.length) === offset - eol.length;
}

function startsWith(path: readonly string[], prefix: readonly string[]): boolean {
  return path.length >= prefix.length && prefix.every((part, at) => path[at] === part);
}

/** Tables that only led to what was taken out are no loss. */
function withoutEmpty(table: TomlTable): TomlTable {
  const kept: TomlTable = Object.create(null);
  for (const [key, value] of Object.entries(table)) {
    const inner = isTable(value) ? withoutEmpty(value) : value;
    if (!isTable(inner) || Object.keys(inner).length > 0) kept[key] = inner;
  }
  return kept;
}
