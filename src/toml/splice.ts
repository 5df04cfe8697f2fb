import type { Scan, Span } from "./scan.ts";

/** `text` with the characters of `span` replaced. */
export function splice(text: string, span: Span, replacement: string): string {
  return text.slice(0, span.start) + replacement + text.slice(span.end);
}

/** `text` without the characters of the spans, which must not overlap. */
export function cut(text: string, spans: readonly Span[]): string {
  return spans.toSorted((a, b) => b.start - a.start).reduce((rest, span) => splice(rest, span, ""), text);
}

/** The last line end used in the text, LF when there is none. */
export function lastEol(text: string): string {
  return eolBefore(text, text.lastIndexOf("\n") + 1) || "\n";
}

/** The line end that stands right before `offset`, or nothing. */
export function eolBefore(text: string, offset: number): string {
  if (text[offset - 1] !== "\n") return "";
  return text[offset - 2] === "\r" ? "\r\n" : "\n";
}

/** Start of the line that holds `offset`. */
export function lineStart(text: string, offset: number): number {
  return offset === 0 ? 0 : text.lastIndexOf("\n", offset - 1) + 1;
}

/** Start of the line after the one that holds `offset`; the length of the text when it is the last. */
export function nextLineStart(text: string, offset: number): number {
  const newline = text.indexOf("\n", offset);
  return newline < 0 ? text.length : newline + 1;
}

/**
 * The whole lines `span` covers, so that cutting them leaves no empty line and no changed final line end:
 * the EOL after them or, where the file ends without one, the EOL before them.
 */
export function wholeLines(text: string, span: Span): Span {
  const start = lineStart(text, span.start);
  const end = nextLineStart(text, span.end);
  const hasEol = text[end - 1] === "\n" && end > span.end;
  return hasEol ? { start, end } : { start: start - eolBefore(text, start).length, end };
}

/** The trailing comment on the line where an item ends, if there is one. */
export function trailingComment(scanned: Scan, item: { readonly span: Span }): string | undefined {
  const end = item.span.end;
  const next = scanned.comments[firstCommentFrom(scanned, end)];
  if (next === undefined || next.place !== "trailing") return undefined;
  if (scanned.text.slice(end, next.span.start).trim() !== "") return undefined;
  return scanned.text.slice(next.span.start, next.span.end);
}

function firstCommentFrom(scanned: Scan, offset: number): number {
  let low = 0;
  let high = scanned.comments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((scanned.comments[middle]?.span.start ?? 0) < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
