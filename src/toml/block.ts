import { ShimctlError } from "../error.ts";
import { factsAt } from "./excerpt.ts";
import { markerFormat, markerHash, ownerPattern, readMarker } from "./marker.ts";
import { parseToml, scanToml } from "./parse.ts";
import { lineAt, type Scan, type Span } from "./scan.ts";
import { eolBefore, lastEol, lineStart, nextLineStart, splice } from "./splice.ts";

/** A marked block found in a file. */
export interface Block {
  readonly owner: string;
  /** Its lines, with LF ends, the last included. */
  readonly body: string;
  /** From the `#` of BEGIN to the end of the END line, without its EOL. */
  readonly span: Span;
  /** Whether the body is as it was written, line ends aside. */
  readonly intact: boolean;
  /** 1-based line of the BEGIN marker. */
  readonly line: number;
  readonly format: number;
}

export interface EditOptions {
  /** Change a block that was edited by hand; the edits in it are lost. */
  readonly force?: boolean;
  /** The file's name, for errors. */
  readonly path?: string | undefined;
}

/** What is wrong with the markers of a file. */
export interface MarkerProblem {
  readonly message: string;
  readonly offset: number;
  readonly line: number;
  /** A newer release of this program wrote it. */
  readonly newer: boolean;
}

/** The lines of a block with LF ends, the last included. @throws ShimctlError `internal` for a bad owner or body. */
export function renderBlock(block: { readonly owner: string; readonly body: string }): string {
  const body = checkedBody(block.body);
  if (!ownerPattern.test(block.owner)) {
    throw new ShimctlError("internal", `Cannot mark a block for this owner: ${JSON.stringify(block.owner)}`);
  }
  return `# BEGIN shimctl ${block.owner} format=${markerFormat} sha256=${markerHash(body)}\n${body}# END shimctl ${block.owner}\n`;
}

/**
 * Adds the owner's block at the end of the file, after one blank line, or replaces it where it stands. At
 * the end it can capture no line of another table. The file keeps its line ends and its final one or none.
 * @throws ShimctlError `conflict` when the block there was edited by hand (unless `force`), when foreign
 * lines follow in its last table, or when markers are damaged; `unsupported-config` for a newer format.
 */
export function setBlock(
  text: string,
  block: { readonly owner: string; readonly body: string },
  options: EditOptions = {},
): string {
  const lines = renderBlock(block).slice(0, -1);
  const scanned = scanToml(text, options.path);
  const existing = findBlocks(scanned, options.path).find(({ owner }) => owner === block.owner);
  if (existing !== undefined) {
    refuseDrift(scanned, existing, options.force === true, options.path);
    return splice(text, existing.span, withEol(lines, eolOf(text, existing)));
  }
  const eol = lastEol(text);
  if (text === "") return `${lines}\n`;
  const hasFinalEol = text.endsWith("\n");
  return text + (hasFinalEol ? "" : eol) + eol + withEol(lines, eol) + (hasFinalEol ? eol : "");
}

/**
 * Removes the owner's block and the blank line that came with it: the bytes before and after come back
 * as they were. A text without such a block is returned as it is.
 * @throws as `setBlock`
 */
export function removeBlock(text: string, owner: string, options: EditOptions = {}): string {
  const scanned = scanToml(text, options.path);
  const block = findBlocks(scanned, options.path).find((each) => each.owner === owner);
  if (block === undefined) return text;
  refuseDrift(scanned, block, options.force === true, options.path);
  return splice(text, blockLines(text, block), "");
}

/** All blocks, in file order. @throws ShimctlError for the first problem that `inspectBlocks` reports. */
export function findBlocks(source: string | Scan, path?: string): Block[] {
  const scanned = typeof source === "string" ? scanToml(source, path) : source;
  const { blocks, problems } = inspectBlocks(scanned);
  const [problem] = problems;
  if (problem === undefined) return blocks;
  throw problem.newer
    ? new ShimctlError(
        "unsupported-config",
        problem.message,
        factsAt(scanned.text, problem.offset, path, "Use the newer shimctl that wrote this block."),
      )
    : new ShimctlError(
        "conflict",
        problem.message,
        factsAt(
          scanned.text,
          problem.offset,
          path,
          "Restore the marker lines, or remove them with what they enclose.",
        ),
      );
}

/**
 * The text to read where a newer release has written blocks into it: their marker lines count as comments of
 * somebody's, at the same offsets. Nothing may be written on the ground of it: `newer` tells the first such block.
 */
export function setAsideNewer(text: string, path?: string): AsideText {
  const scanned = scanToml(text, path);
  const { blocks, problems } = inspectBlocks(scanned);
  const newer = problems.filter((problem) => problem.newer);
  if (newer.length === 0) return { text, newer: undefined, newerBlocks: [] };
  const newerBlocks = blocks.filter((block) => block.format > markerFormat);
  const ends = newerBlocks.map(({ span }) => lineStart(text, span.end));
  const plain = [...newer.map(({ offset }) => offset), ...ends].reduce((rest, offset) => {
    const at = rest.indexOf("shimctl", offset);
    return splice(rest, { start: at, end: at + "shimctl".length }, "SHIMCTL");
  }, text);
  return { text: plain, newer: newer[0], newerBlocks };
}

interface AsideText {
  readonly text: string;
  readonly newer: MarkerProblem | undefined;
  readonly newerBlocks: readonly Block[];
}

/** Blocks and problems alike, without refusing: for reports on a file that someone has edited. */
export function inspectBlocks(source: string | Scan): Inspection {
  const scanned = typeof source === "string" ? scanToml(source) : source;
  const known = inspected.get(scanned);
  if (known !== undefined) return known;
  const inspection = inspect(scanned);
  inspected.set(scanned, inspection);
  return inspection;
}

interface Inspection {
  readonly blocks: Block[];
  readonly problems: MarkerProblem[];
}

/** A file's blocks are looked for a dozen times in one plan. */
const inspected = new WeakMap<Scan, Inspection>();

function inspect(scanned: Scan): Inspection {
  const { text } = scanned;
  const blocks: Block[] = [];
  const problems: MarkerProblem[] = [];
  const owners = new Set<string>();
  let open: { owner: string; hash: string; format: number; span: Span } | undefined;
  const report = (span: Span, message: string, newer = false) => {
    problems.push({ message, offset: span.start, line: lineAt(scanned, span.start), newer });
  };
  for (const { place, span } of scanned.comments) {
    const marker = readMarker(text.slice(span.start, span.end));
    // Inside an array or after a value nothing of ours is ever written.
    if (marker === undefined || place !== "line") continue;
    if (marker === "damaged" || lineStart(text, span.start) !== span.start) {
      report(span, "Cannot trust the shimctl blocks of the file: a marker line is damaged");
      continue;
    }
    const { owner } = marker;
    if (marker.kind === "begin") {
      if (open !== undefined)
        report(span, `Cannot trust the shimctl blocks of the file, one begins inside another: ${owner}`);
      if (marker.hash === undefined) {
        report(span, `Cannot change a block of a newer format, ${marker.format}: ${owner}`, true);
      }
      open = { owner, hash: marker.hash ?? "", format: Number(marker.format ?? 0n), span };
      continue;
    }
    if (open === undefined || open.owner !== owner) {
      report(span, `Cannot trust the shimctl blocks of the file, an END marker has no BEGIN: ${owner}`);
      open = undefined;
      continue;
    }
    if (owners.has(owner)) {
      report(open.span, `Cannot trust the shimctl blocks of the file, an owner has two: ${owner}`);
    }
    owners.add(owner);
    const body = text.slice(nextLineStart(text, open.span.end), span.start).replaceAll("\r\n", "\n");
    blocks.push({
      owner,
      body,
      span: { start: open.span.start, end: span.end },
      intact: markerHash(body) === open.hash,
      line: lineAt(scanned, open.span.start),
      format: open.format,
    });
    open = undefined;
  }
  if (open !== undefined) {
    report(
      open.span,
      `Cannot trust the shimctl blocks of the file, a BEGIN marker has no END: ${open.owner}`,
    );
  }
  return { blocks, problems };
}

/** What goes when a block goes: its lines, the exactly empty line before, and one EOL. */
export function blockLines(text: string, block: Block): Span {
  const blank = eolBefore(text, block.span.start);
  const beforeBlank = block.span.start - blank.length;
  const isBlank = blank !== "" && lineStart(text, beforeBlank) === beforeBlank;
  const start = isBlank ? beforeBlank : block.span.start;
  const end = nextLineStart(text, block.span.end);
  // At the end of a file without final EOL, the EOL before the block is the one that came with it.
  const stray = end === block.span.end ? eolBefore(text, start).length : 0;
  return { start: start - stray, end };
}

function refuseDrift(scanned: Scan, block: Block, force: boolean, path?: string): void {
  if (!block.intact && !force) {
    throw new ShimctlError(
      "conflict",
      `Cannot change a shimctl block that was edited by hand: ${block.owner}`,
      factsAt(
        scanned.text,
        block.span.start,
        path,
        "Move your own lines out of the block and restore it, or delete the whole block with its two marker lines; then run the same command again.",
      ),
    );
  }
  // Lines after END and before the next header belong, to TOML, to the last table of the block.
  const next = scanned.items.find((item) => item.span.start > block.span.end);
  if (next?.kind !== "key-value" || !hasHeader(scanned, block)) return;
  throw new ShimctlError(
    "conflict",
    `Cannot change a shimctl block whose last table goes on behind it: ${block.owner}`,
    factsAt(
      scanned.text,
      next.span.start,
      path,
      "Move these lines to the table they are meant for, above the block.",
    ),
  );
}

function hasHeader(scanned: Scan, block: Block): boolean {
  return scanned.items.some(
    (item) =>
      item.kind !== "key-value" && item.span.start > block.span.start && item.span.end < block.span.end,
  );
}

function checkedBody(given: string): string {
  const body = given.endsWith("\n") || given === "" ? given : `${given}\n`;
  const refuse = (why: string) => new ShimctlError("internal", `Cannot write a block ${why}`);
  if (body.includes("\r")) throw refuse("with carriage returns: line ends follow the file");
  parseToml(body, "(block)");
  const scanned = scanToml(body);
  // A key before the first header would land in whatever table ends the file.
  const [first] = scanned.items;
  if (first === undefined || first.kind === "key-value")
    throw refuse("that does not start with a table header");
  if (scanned.comments.some(({ span }) => readMarker(body.slice(span.start, span.end)) !== undefined)) {
    throw refuse("that contains a marker");
  }
  return body;
}

function eolOf(text: string, block: Block): string {
  return eolBefore(text, nextLineStart(text, block.span.start)) || "\n";
}

function withEol(lines: string, eol: string): string {
  return eol === "\n" ? lines : lines.replaceAll("\n", eol);
}
