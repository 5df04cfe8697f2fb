import { diff3MergeRegions, diffComm, diffIndices } from "node-diff3";

export type Merge = { readonly merged: string } | { readonly conflict: string };

/**
 * Merges two edits of one text, line by line. Each line keeps the bytes that end it. Edits of different
 * lines are both made. Lines that both sides insert at one place are all kept: ours, then theirs, what they
 * share once. Everything else is a conflict, answered with the lines of the base that both changed.
 *
 * Where bytes matter, pass them as latin1, which every byte survives. The result need not be valid: two
 * tools may define the same key. Whoever writes it proves it first.
 */
export function mergeForeign(base: string, ours: string, theirs: string): Merge {
  if (ours === theirs || theirs === base) return { merged: ours };
  if (ours === base) return { merged: theirs };
  // A last line without an end is the same line as one with it: it merely was not followed by another yet.
  const [o, a, b] = [split(base), split(ours), split(theirs)];
  const { head, tail } = alike(o.lines, a.lines, b.lines);
  const between = ({ lines }: Lines) => lines.slice(head, lines.length - tail);
  const merged = o.lines.slice(0, head);
  for (const region of diff3MergeRegions(between(a), between(o), between(b))) {
    if (region.stable) {
      merged.push(...region.bufferContent);
    } else if (equal(region.aContent, region.bContent) || equal(region.bContent, region.oContent)) {
      merged.push(...region.aContent);
    } else if (equal(region.aContent, region.oContent)) {
      merged.push(...region.bContent);
    } else if (region.oLength === 0) {
      const ourPart = inContext(a.lines, head + region.aStart, region.aLength);
      const theirPart = inContext(b.lines, head + region.bStart, region.bLength);
      merged.push(...insertBoth(ourPart, theirPart));
    } else {
      return { conflict: region.oContent.join("") };
    }
  }
  merged.push(...o.lines.slice(o.lines.length - tail));
  return { merged: endLike(merged, o, a, b) };
}

/**
 * The lines that `reference` added to `base` and that are missing in `current`, each as often as it is
 * missing, without their end. Empty: whoever wrote `current` knew them all.
 */
export function lost(base: string, reference: string, current: string): string[] {
  const missing = new Map<string, number>();
  const count = (lines: readonly string[], by: number) => {
    for (const line of lines.map(withoutEnd)) missing.set(line, (missing.get(line) ?? 0) + by);
  };
  const referenceLines = split(reference).lines;
  count(referenceLines, 1);
  count(split(current).lines, -1);
  const baseLines = split(base).lines;
  const { head, tail } = alike(baseLines, referenceLines);
  const between = (lines: string[]) => lines.slice(head, lines.length - tail);
  const added = diffIndices(between(baseLines), between(referenceLines)).flatMap(
    (hunk) => hunk.buffer2Content,
  );
  return added.map(withoutEnd).filter((line) => {
    const left = missing.get(line) ?? 0;
    if (left <= 0) return false;
    missing.set(line, left - 1);
    return true;
  });
}

interface Lines {
  /** Each with its end; the last one is given an end where it has none. */
  readonly lines: string[];
  /** Whether the last line has its end in the text itself. */
  readonly ended: boolean;
}

function split(text: string): Lines {
  const lines = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const last = lines.at(-1);
  if (last === undefined || last.endsWith("\n")) return { lines: [...lines], ended: true };
  const end = lines.at(-2)?.endsWith("\r\n") === true ? "\r\n" : "\n";
  return { lines: [...lines.slice(0, -1), `${last}${end}`], ended: false };
}

/**
 * How many lines at the head, and at the tail, are the same in all. They need no diff, which takes long
 * where lines repeat; and other programs may write every few milliseconds.
 */
function alike(
  first: readonly string[],
  ...others: readonly (readonly string[])[]
): { head: number; tail: number } {
  const shortest = Math.min(first.length, ...others.map((lines) => lines.length));
  let head = 0;
  while (head < shortest && others.every((lines) => lines[head] === first[head])) head += 1;
  let tail = 0;
  while (tail < shortest - head && others.every((lines) => lines.at(-1 - tail) === first.at(-1 - tail)))
    tail += 1;
  return { head, tail };
}

/** Takes the end of the last line away again where the side that it comes from has none. */
function endLike(merged: readonly string[], o: Lines, a: Lines, b: Lines): string {
  const text = merged.join("");
  const side = a.ended === o.ended ? b : a;
  const last = merged.at(-1);
  if (side.ended || last === undefined || side.lines.at(-1) !== last) return text;
  return text.slice(0, -1 * (last.length - withoutEnd(last).length));
}

function withoutEnd(line: string): string {
  return line.replace(/\r?\n$/, "");
}

function equal(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((line, index) => line === b[index]);
}

/** A line with the table header above it: the same key in two tables is two lines, not one. */
interface Placed {
  readonly line: string;
  readonly key: string;
}

function inContext(lines: readonly string[], start: number, length: number): Placed[] {
  let header = "";
  return lines
    .map((line) => {
      if (/^\s*\[/.test(line)) header = line;
      return { line, key: `${header}\0${line}` };
    })
    .slice(start, start + length);
}

function insertBoth(a: readonly Placed[], b: readonly Placed[]): string[] {
  const lines = (placed: readonly Placed[]) => placed.map(({ line }) => line);
  if (isWithin(a, b)) return lines(b);
  if (isWithin(b, a)) return lines(a);
  let shared = 0;
  while (a[shared]?.key === b[shared]?.key && shared < a.length) shared += 1;
  const kept = lines(a.slice(0, shared));
  const texts = new Map([...a, ...b].map(({ key, line }) => [key, line]));
  const anchors = (placed: readonly Placed[], side: string) =>
    placed.slice(shared).map(({ key, line }, index) => {
      if (/[A-Za-z0-9]/.test(line)) return key;
      // A bracket or an empty line stands in many places: it says nothing about what belongs together.
      const unlike = `${key}\0${side}${index}`;
      texts.set(unlike, line);
      return unlike;
    });
  for (const part of diffComm(anchors(a, "a"), anchors(b, "b"))) {
    const keys = part.common ?? [...part.buffer1, ...part.buffer2];
    kept.push(...keys.map((key) => texts.get(key) ?? ""));
  }
  return kept;
}

/** Whether all of `part` stands in `whole`, in this order. */
function isWithin(part: readonly Placed[], whole: readonly Placed[]): boolean {
  let found = 0;
  for (const { key } of whole) if (part[found]?.key === key) found += 1;
  return found === part.length;
}
