import type { ErrorFacts } from "../error.ts";
import { remember } from "./memo.ts";
import { redactLines } from "./redact-line.ts";

/** One file may have a hundred damages. */
const redacted = remember(redactLines, 2);

/** Where an offset is, for a person: both 1-based, the column in characters. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The facts of an error at `offset` of `text`: path, line, column and the redacted line with a caret. */
export function factsAt(text: string, offset: number, path?: string, hint?: string): ErrorFacts {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf("\n") + 1;
  let line = 1;
  for (let at = before.indexOf("\n"); at >= 0; at = before.indexOf("\n", at + 1)) line++;
  return factsOf(text, { line, column: offset - lineStart + 1 }, path, hint);
}

/** As `factsAt`, for a line and a column in UTF-16 units, as parsers report them. */
export function factsOf(text: string, at: Position, path?: string, hint?: string): ErrorFacts {
  const original = lineOf(text, at.line);
  return {
    ...(path === undefined ? {} : { path }),
    line: at.line,
    column: Array.from(original.slice(0, at.column - 1)).length + 1,
    excerpt: excerpt(original, lineOf(redacted(text), at.line), at.column),
    ...(hint === undefined ? {} : { hint }),
  };
}

function lineOf(text: string, line: number): string {
  let start = 0;
  for (let skipped = 1; skipped < line; skipped++) {
    const newline = text.indexOf("\n", start);
    if (newline < 0) return "";
    start = newline + 1;
  }
  const end = text.indexOf("\n", start);
  return text.slice(start, end < 0 ? text.length : end).replace(/\r$/, "");
}

/** Longest stretch of a line that is shown. */
const widest = 160;

function excerpt(original: string, redacted: string, column: number): string {
  const caret = caretIn(original, redacted, column - 1);
  const from = caret < widest - 20 ? 0 : caret - widest / 2;
  const lead = from > 0 ? "…" : "";
  const shown = Array.from(redacted.slice(from, from + widest));
  const tail = redacted.length > from + widest ? "…" : "";
  // Tabs are copied so that the caret stands right whatever the terminal makes of them.
  const indent = Array.from(lead + redacted.slice(from, caret)).map((each) => (each === "\t" ? "\t" : " "));
  return `${lead}${printable(shown.join(""))}${tail}\n${indent.join("")}^`;
}

/** Where the caret belongs in the redacted line; the start of the mask when the place itself is masked. */
function caretIn(original: string, redacted: string, caret: number): number {
  let same = 0;
  while (same < original.length && original[same] === redacted[same]) same++;
  if (caret <= same) return caret;
  let tail = 0;
  const most = Math.min(original.length, redacted.length) - same;
  while (tail < most && original.at(-1 - tail) === redacted.at(-1 - tail)) tail++;
  const fromEnd = original.length - caret;
  return fromEnd <= tail ? redacted.length - fromEnd : same;
}

/** Control and bidirectional characters could repaint the reader's terminal: one visible character each. */
function printable(text: string): string {
  return Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20 && character !== "\t") return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    const repaints =
      (code >= 0x80 && code < 0xa0) ||
      (code >= 0x202a && code <= 0x202e) ||
      (code >= 0x2066 && code <= 0x2069);
    return repaints ? "\ufffd" : character;
  }).join("");
}
