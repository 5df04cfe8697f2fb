import { parse, TomlError } from "smol-toml";
import { type Item, maxDepth, ScanError, scanItemAt } from "../scan.ts";
import { content, type Damage, type Draft, isBlank, isSilent, type Line, named, textOf } from "./lines.ts";

/** A file with more of them is not damaged in places, it is another file. */
const mostCuts = 200;
/** More lines than any array of an engine's configuration has. */
const longestArray = 400;

/**
 * Cuts what no TOML reader gets over, statement by statement: each header and each key with its value stands for
 * itself, so what is behind a damaged one is read as if it were not there. As few lines as possible go, and only
 * where the others keep their meaning; else the draft is stuck there.
 */
export function mendSyntax(draft: Draft): Draft {
  let lines = [...draft.lines];
  const damages: Damage[] = [...draft.damages];
  let text = textOf(lines);
  let starts = startsOf(lines);
  /** Lines that are passed and stay, without those that were cut where they stood. */
  const kept: Line[] = [];
  for (let at = 0, cuts = 0; at < lines.length; ) {
    const line = lines[at];
    if (line === undefined) break;
    if (line.bad === undefined && isSilent(line)) {
      kept.push(line);
      at += 1;
      continue;
    }
    const read = readAt(lines, text, starts, at);
    if (read.kind === "whole") {
      for (; at < read.next; at++) kept.push(lines[at] as Line);
      continue;
    }
    const found = cutFor(lines, text, starts, at, read);
    const damage = { rule: "syntax", message: read.why, line: read.at.number, column: read.column };
    if ("stuck" in found || cuts === mostCuts) {
      const why = "stuck" in found ? found.stuck : "more is damaged than can be told apart";
      return {
        lines,
        damages: [...damages, { ...damage, message: `${read.why}; ${why}`, remedy: undefined }],
        stuck: true,
      };
    }
    cuts += 1;
    const gone = lines.slice(found.from, found.to);
    damages.push({ ...damage, remedy: `cut ${named(gone)}${found.as}` });
    if (found.from === at) {
      at = found.to;
      continue;
    }
    lines = [...lines.slice(0, found.from), ...lines.slice(found.to)];
    text = textOf(lines);
    starts = startsOf(lines);
  }
  return { lines: kept, damages, stuck: draft.stuck };
}

type Reading =
  | { readonly kind: "whole"; readonly next: number; readonly item: Item }
  | {
      readonly kind: "damaged";
      readonly why: string;
      /** The line where the reader stopped, by its place among the lines. */
      readonly index: number;
      readonly at: Line;
      readonly column: number;
      /** A string over several lines that never ends: nobody can tell what was in it. */
      readonly endless: boolean;
    };

function readAt(lines: readonly Line[], text: string, starts: readonly number[], at: number): Reading {
  const start = starts[at] ?? text.length;
  const damaged = (why: string, offset: number, endless = false): Reading => {
    const index = Math.min(indexAt(starts, Math.max(start, offset)), lines.length - 1);
    const line = lines[index] as Line;
    const column = offset - (starts[index] ?? 0) + 1;
    return { kind: "damaged", why, index, at: line, column, endless };
  };
  let end: number;
  let item: Item;
  try {
    ({ item, end } = scanItemAt(text, start));
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    const badBefore = firstBad(lines, at, indexAt(starts, error.offset) + 1);
    if (badBefore !== undefined) return badBefore;
    const triple = /^("""|''')/.test(text.slice(error.offset, error.offset + 3));
    return damaged(error.message, error.offset, triple && error.message.includes("not closed"));
  }
  const next = end >= text.length ? lines.length : indexAt(starts, end);
  const bad = firstBad(lines, at, next);
  if (bad !== undefined) return bad;
  try {
    parse(text.slice(start, end), { integersAsBigInt: true, maxDepth });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split("\n", 1)[0]?.replace(/^Invalid TOML document: /, "") ?? "";
    return damaged(reason, (starts[at + error.line - 1] ?? start) + error.column - 1);
  }
  return { kind: "whole", next, item };
}

function firstBad(lines: readonly Line[], from: number, to: number): Reading | undefined {
  for (let index = from; index < Math.min(to, lines.length); index++) {
    const line = lines[index];
    if (line?.bad === undefined) continue;
    const { why, column } = line.bad;
    return { kind: "damaged", why, index, at: line, column, endless: false };
  }
  return undefined;
}

type Cut = { readonly from: number; readonly to: number; readonly as: string } | { readonly stuck: string };

function cutFor(
  lines: readonly Line[],
  text: string,
  starts: readonly number[],
  at: number,
  damage: Extract<Reading, { kind: "damaged" }>,
): Cut {
  const { index, endless } = damage;
  const line = damage.at;
  if (line.bad?.why === "a carriage return without line feed")
    return { stuck: "whether it ends a line nobody can tell" };
  if (endless) {
    const isLast = lines.slice(index + 1).every(isBlank);
    if (!isLast || !looksLikeStatement(lines[at] as Line))
      return { stuck: "what belongs to the string nobody can tell" };
    return { from: at, to: lines.length, as: ", where the file was cut short" };
  }
  // Its quotes may end a string that began above, and that swallowed what stands between.
  if (index === at && /"""|'''/.test(line.text))
    return { stuck: "what belongs to the string nobody can tell" };
  // What an older and longer version of the file left behind its new end.
  if (index === at && isLeftOver(lines, at) && !isHalfName(lines, at))
    return { from: at, to: lines.length, as: ", which repeat what stands above" };
  if (damage.why.startsWith("a comma") && isWholeWithComma(text, starts, at, damage))
    return {
      stuck:
        index === at
          ? "what is lost with the comma cannot be told"
          : "which of it and the line above is wrong cannot be told",
    };
  if (index === at || (line.bad !== undefined && !isWholeWithout(lines, at, index))) {
    const what = index === at ? line : (lines[at] as Line);
    const isTorn = index >= lines.length - 1 && !line.text.endsWith("\n");
    const as = isTorn ? ", where the file was cut short" : "";
    if (index !== at) return arrayCut(lines, text, starts, at, index);
    if (closesAbove(lines, at)) return { stuck: "what of the value above it is lost cannot be told" };
    if (couldBeHeader(what) && keysFollow(lines, at + 1))
      return { stuck: "the table that the lines below it belong to cannot be told" };
    return { from: at, to: at + 1, as };
  }
  // Inside an array over several lines.
  const startsAnew = readAt(lines, text, starts, index);
  if (startsAnew.kind === "whole" && looksLikeStatement(line))
    return arrayCut(lines, text, starts, at, index);
  const without = isWholeWithout(lines, at, index);
  const withoutPrevious = index - 1 > at && line.bad === undefined && isWholeWithout(lines, at, index - 1);
  if (without && withoutPrevious && !isFragment(line))
    return { stuck: "which of it and the line above is wrong cannot be told" };
  if (without) return { from: index, to: index + 1, as: "" };
  return arrayCut(lines, text, starts, at, index);
}

/** The array that begins at `at` has lost its end: it goes, up to what is whole again. */
function arrayCut(
  lines: readonly Line[],
  text: string,
  starts: readonly number[],
  at: number,
  index: number,
): Cut {
  const head = lines[at] as Line;
  if (couldBeHeader(head) && keysFollow(lines, at + 1))
    return { stuck: "the table that the lines below it belong to cannot be told" };
  const last = Math.min(lines.length, at + longestArray);
  for (let next = at + 1; next < last; next++) {
    const line = lines[next] as Line;
    if (isBlank(line) || line.bad !== undefined) continue;
    const whole = looksLikeStatement(line) && readAt(lines, text, starts, next).kind === "whole";
    if (!whole) continue;
    if (next < index) return { stuck: "where the value ends cannot be told" };
    // Comments above what is whole belong to that.
    let to = next;
    while (to > index && isSilent(lines[to - 1] as Line)) to -= 1;
    if (lines.slice(at, to).some(endsInHeader) && keysFollow(lines, to))
      return { stuck: "the table that the lines below it belong to cannot be told" };
    return { from: at, to, as: ", a value that has lost its end" };
  }
  if (last < lines.length) return { stuck: "where the value ends cannot be told" };
  return { from: at, to: lines.length, as: ", where the file was cut short" };
}

/**
 * Whether the lines from `at` on are the end of what stands above: the end of a line, and then all the lines that
 * follow that one.
 */
function isLeftOver(lines: readonly Line[], at: number): boolean {
  const [piece, ...rest] = lines.slice(at).map(content);
  while (rest.at(-1) === "") rest.pop();
  if (piece === undefined || piece.trim() === "" || rest.length === 0) return false;
  return lines.slice(0, Math.max(0, at - rest.length)).some((line, index) => {
    const isSame = rest.every((text, more) => content(lines[index + 1 + more] as Line) === text);
    return isSame && content(line).endsWith(piece);
  });
}

/** Whether what begins at `at` is whole once the line at `gone` is away. */
function isWholeWithout(lines: readonly Line[], at: number, gone: number): boolean {
  const rest = [...lines.slice(at, gone), ...lines.slice(gone + 1, gone + longestArray)];
  const reading = readAt(rest, textOf(rest), startsOf(rest), 0);
  return reading.kind === "whole" && reading.next > gone - at;
}

/** Whether the value that begins at `at` is whole once a comma stands where it was missed. */
function isWholeWithComma(
  text: string,
  starts: readonly number[],
  at: number,
  { index, column }: Extract<Reading, { kind: "damaged" }>,
): boolean {
  const start = starts[at] ?? 0;
  const offset = (starts[index] ?? 0) + column - 1;
  try {
    const { end } = scanItemAt(`${text.slice(start, offset)},${text.slice(offset)}`, 0);
    return end > offset - start;
  } catch {
    return false;
  }
}

/** A piece of a line rather than an element: its quotes do not match. */
function isFragment(line: Line): boolean {
  return (content(line).match(/"/g) ?? []).length % 2 === 1;
}

/** A key with its sign, or a header: not the element of an array, as far as the line's start tells. */
function looksLikeStatement(line: Line): boolean {
  return (
    /^\s*(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*\s*=/.test(line.text) ||
    isHeader(line)
  );
}

function isHeader(line: Line): boolean {
  return /^\s*\[{1,2}\s*(?:[\w-]+\s*[.\]]|(?:"[^"]*"|'[^']*')\s*\.)/.test(line.text);
}

/**
 * The end of a header that too little is left of to name its table: what stands below it may belong to another one
 * than that above which ends alike.
 */
function isHalfName(lines: readonly Line[], at: number): boolean {
  const line = lines[at] as Line;
  if (!couldBeHeader(line) || !keysFollow(lines, at + 1)) return false;
  const [, ...segments] = content(line).split(".");
  return segments.length < 2;
}

/** A line that may have held the header of a table, or a piece of one. */
function couldBeHeader(line: Line): boolean {
  if (/^\s*#/.test(line.text)) return false;
  // The first line of most files, which comes back by itself: no table has that name.
  if (/^v(?:e(?:r(?:s(?:i(?:o(?:n)?)?)?)?)?)?\s*$/.test(line.text)) return false;
  if (/^\s*\[/.test(line.text) || endsInHeader(line)) return true;
  // A run of NUL bytes may stand where a line end and a header stood.
  if (line.bad !== undefined) return /[[\]]|\0[^\n\0]/.test(line.text);
  const text = content(line)
    .replace(/#[^"']*$/, "")
    .trimEnd();
  if (/^[\s([{<]*[A-Za-z_][\w.-]*(?:\s*[\])}>:])*$/.test(text)) return true;
  if (/^\s*[A-Za-z_.][\w."'-]*\]\s*#/.test(line.text)) return true;
  return text.endsWith("]") && !text.includes("=") && !/^\s*\]+$/.test(text);
}

/** Half a line, and then a header: the lines between them are gone. */
function endsInHeader(line: Line): boolean {
  return headerAtEnd.test(content(line));
}

const headerAtEnd =
  /\[[ \t]*(?:[A-Za-z_][\w-]*|"[^"]*"|'[^']*')[ \t]*(?:\.[ \t]*(?:[\w-]+|"[^"]*"|'[^']*')[ \t]*)*\]{1,2}[ \t]*(?:#.*)?$/;

/** Whether a key comes before the next header; lines that are neither go as well. */
function keysFollow(lines: readonly Line[], from: number): boolean {
  const next = lines.slice(from).find((line) => line.bad === undefined && looksLikeStatement(line));
  return next !== undefined && !isHeader(next);
}

/** The end of an array behind a value that may have been its beginning. */
function closesAbove(lines: readonly Line[], at: number): boolean {
  const above = lines.slice(0, at).findLast((line) => !isSilent(line));
  return (
    above !== undefined &&
    /^\s*[\]}]*\][\]},\s]*(?:#.*)?$/.test(content(lines[at] as Line)) &&
    !isHeader(above)
  );
}

function startsOf(lines: readonly Line[]): number[] {
  let at = 0;
  return lines.map(({ text }) => {
    const start = at;
    at += text.length;
    return start;
  });
}

/** Which line holds an offset. */
function indexAt(starts: readonly number[], offset: number): number {
  let low = 0;
  let high = starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((starts[middle] ?? 0) <= offset) low = middle;
    else high = middle;
  }
  return low;
}
