import { parse, TomlError, type TomlTable } from "smol-toml";
import { type Block, inspectBlocks } from "../block.ts";
import {
  type Header,
  type Item,
  type KeyValue,
  lineAt,
  maxDepth,
  pathOf,
  type Scan,
  ScanError,
  scan,
} from "../scan.ts";
import { deepEqual } from "../tree.ts";
import type { Owners } from "./blocks.ts";
import { type GivenWay, giveWay, unitOf } from "./give-way.ts";
import { type Damage, type Draft, type Line, named, newLine, textOf } from "./lines.ts";

/** A file is read anew after each cut. */
const mostCuts = 60;

export interface MendedDoubles extends Draft {
  /** Owners of whose blocks something went, as others define it by now. */
  readonly gaveWay: readonly string[];
  /** Owners whose blocks are empty now, and have to be written anew. */
  readonly anew: readonly string[];
}

/**
 * Cuts tables and keys that are defined twice, where the one says what the other says already. Where they
 * differ nobody can say which is meant, and the draft is stuck there; but a table in a block of ours gives way to
 * somebody else's, whatever it says.
 */
export function mendDoubles(draft: Draft, owners: Owners): MendedDoubles {
  let lines = draft.lines;
  const damages: Damage[] = [...draft.damages];
  const gaveWay = new Set<string>();
  const anew = new Set<string>();
  for (let cuts = 0; ; cuts++) {
    const text = textOf(lines);
    const error = errorOf(text);
    if (error === undefined)
      return { lines, damages, stuck: draft.stuck, gaveWay: [...gaveWay], anew: [...anew] };
    const line = lines[error.line - 1];
    const damage = {
      rule: "double",
      message: error.why,
      line: line?.number ?? error.line,
      column: error.column,
    };
    const scanned = scanOf(text);
    const cut =
      scanned === undefined || cuts === mostCuts
        ? { stuck: "more is damaged than can be told apart" }
        : known(cutFor(scanned, lines, error.line), owners);
    if ("stuck" in cut) {
      const message = `${error.why}; ${cut.stuck}`;
      const left = { ...damage, message, remedy: undefined };
      return { lines, damages: [...damages, left], stuck: true, gaveWay: [], anew: [] };
    }
    const gone = lines.filter((_, index) => cut.gone.has(index));
    damages.push({ ...damage, remedy: `cut ${named(gone)}${cut.as}` });
    if (cut.ours !== undefined) (cut.ours.anew === true ? anew : gaveWay).add(cut.ours.owner);
    const marker = cut.ours?.marker;
    lines = lines
      .map((line, index) => (index === marker?.at ? newLine(marker.text, line.number) : line))
      .filter((_, index) => !cut.gone.has(index));
  }
}

/** What was edited and is not in the record cannot be written anew. */
function known(cut: Cut, owners: Owners): Cut {
  if ("stuck" in cut || cut.ours?.anew !== true || owners.has(cut.ours.owner)) return cut;
  return { stuck: differ };
}

function errorOf(text: string): { why: string; line: number; column: number } | undefined {
  try {
    parse(text, { integersAsBigInt: true, maxDepth });
    return undefined;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split("\n", 1)[0]?.replace(/^Invalid TOML document: /, "") ?? "";
    return { why, line: error.line, column: error.column };
  }
}

function scanOf(text: string): Scan | undefined {
  try {
    return scan(text);
  } catch (error) {
    if (error instanceof ScanError) return undefined;
    throw error;
  }
}

type Cut =
  | {
      readonly gone: ReadonlySet<number>;
      readonly as: string;
      readonly ours?: GivenWay["ours"];
    }
  | { readonly stuck: string };

function cutFor(scanned: Scan, lines: readonly Line[], errorLine: number): Cut {
  const repeated = repetitionFrom(lines, errorLine - 1);
  if (repeated !== undefined) {
    const gone = new Set(lines.map((_, index) => index).filter((index) => index >= repeated));
    return { gone, as: ", which repeat what stands above" };
  }
  const at = scanned.items.findLastIndex((item) => lineIndex(scanned, item.span.start) <= errorLine - 1);
  const item = scanned.items[at];
  if (item === undefined) return { stuck: differ };
  return item.kind === "key-value" ? doubledKey(scanned, item) : doubledTable(scanned, item, at);
}

const differ = "which of the two is meant cannot be told";

function doubledKey(scanned: Scan, item: KeyValue): Cut {
  const path = pathOf(item);
  const other = scanned.items.find(
    (each) => each.kind === "key-value" && each !== item && isSamePath(pathOf(each), path),
  );
  if (other === undefined || other.kind !== "key-value") return { stuck: differ };
  const [mine, theirs] = [item, other].map(({ value }) =>
    scanned.text.slice(value.span.start, value.span.end),
  );
  if (!isSameValue(mine ?? "", theirs ?? "")) return { stuck: differ };
  const line = lineIndex(scanned, other.span.start) + 1;
  return { gone: linesOfItem(scanned, item), as: `, which says what line ${line} says` };
}

function blockOf(scanned: Scan, { span }: Item): Block | undefined {
  return inspectBlocks(scanned).blocks.find(
    (block) => block.span.start < span.start && span.end < block.span.end,
  );
}

/** A table with everything in it, up to the next header. */
interface Section {
  readonly header: Header;
  readonly keys: readonly KeyValue[];
  readonly table: TomlTable;
}

function doubledTable(scanned: Scan, header: Header, at: number): Cut {
  const before = scanned.items.findIndex(
    (item) => item.kind !== "key-value" && item !== header && isSamePath(item.path, header.path),
  );
  const [one, other] = [header, scanned.items[before]].map((item) => item && blockOf(scanned, item));
  if (before >= 0 && one !== other) {
    const isOne = one !== undefined && (other === undefined || one.owner === "shared");
    const block = isOne ? one : other?.owner === "shared" || one === undefined ? other : undefined;
    if (block !== undefined && !(block.intact && saysNoMore(scanned, block, unitOf(header.path))))
      return giveWay(scanned, block, header);
    if (block !== undefined) return cutSection(scanned, isOne ? before : at, isOne ? at : before);
  }
  const first = before < 0 || before > at ? undefined : sectionAt(scanned, before);
  const second = sectionAt(scanned, at);
  if (first === undefined || second === undefined) return { stuck: differ };
  const [gone, kept] = isPartOf(second.table, first.table)
    ? [second, first]
    : isPartOf(first.table, second.table)
      ? [first, second]
      : [undefined, undefined];
  if (gone === undefined) return { stuck: differ };
  return cutOf(scanned, gone, kept);
}

function cutSection(scanned: Scan, gone: number, kept: number): Cut {
  const [first, second] = [sectionAt(scanned, gone), sectionAt(scanned, kept)];
  return first === undefined || second === undefined ? { stuck: differ } : cutOf(scanned, first, second);
}

function cutOf(scanned: Scan, gone: Section, kept: Section): Cut {
  const indices = [gone.header, ...gone.keys].flatMap((item) => [...linesOfItem(scanned, item)]);
  const line = lineIndex(scanned, kept.header.span.start) + 1;
  return { gone: new Set(indices), as: `, which say what stands from line ${line} on` };
}

/** Whether others say of a handler only what our block says too. */
function saysNoMore(scanned: Scan, block: Block, unit: readonly string[]): boolean {
  const sections = scanned.items.flatMap((item, at) => {
    if (item.kind === "key-value" || !unit.every((part, depth) => item.path[depth] === part)) return [];
    return [{ path: item.path, isOurs: blockOf(scanned, item) === block, section: sectionAt(scanned, at) }];
  });
  return sections.every(({ path, isOurs, section }) => {
    if (isOurs) return true;
    const ours = sections.find((each) => each.isOurs && isSamePath(each.path, path))?.section;
    return ours !== undefined && section !== undefined && isPartOf(section.table, ours.table);
  });
}

function sectionAt(scanned: Scan, at: number): Section | undefined {
  const header = scanned.items[at];
  if (header === undefined || header.kind !== "table") return undefined;
  const keys: KeyValue[] = [];
  for (const item of scanned.items.slice(at + 1)) {
    if (item.kind !== "key-value") break;
    keys.push(item);
  }
  const text = keys.map(({ span }) => scanned.text.slice(span.start, span.end)).join("\n");
  try {
    return { header, keys, table: parse(text, { integersAsBigInt: true, maxDepth }) };
  } catch {
    return undefined;
  }
}

function isPartOf(part: TomlTable, whole: TomlTable): boolean {
  return Object.entries(part).every(([key, value]) => {
    const other = Object.hasOwn(whole, key) ? whole[key] : undefined;
    return other !== undefined && deepEqual(value, other);
  });
}

function isSameValue(a: string, b: string): boolean {
  if (a === b) return true;
  const read = (value: string) => parse(`k = ${value}`, { integersAsBigInt: true, maxDepth });
  return deepEqual(read(a), read(b));
}

function isSamePath(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((part, index) => part === b[index]);
}

/**
 * Where the end of the file begins to repeat what stands above it: at the line `from`, or before it where the
 * whole file was written once more. `undefined` where it does not.
 */
function repetitionFrom(lines: readonly Line[], from: number): number | undefined {
  const text = lines.map(({ text: line }) => line.replace(/\r?\n$/, ""));
  let end = text.length;
  while (text[end - 1] === "") end -= 1;
  for (let copy = from - 1; copy >= 0; copy--) {
    if (text[copy] !== text[end - 1]) continue;
    let length = 0;
    while (copy >= length && end - 1 - length > copy && text[copy - length] === text[end - 1 - length])
      length += 1;
    const isWhole = length > copy;
    // Keys repeat what is above only together with their header.
    const isSection = /^[ \t]*\[/.test(text[from] ?? "");
    if (end - length <= from && end - from >= 2 && (isWhole || isSection))
      return isWhole ? end - length : from;
  }
  return undefined;
}

function lineIndex(scanned: Scan, offset: number): number {
  return lineAt(scanned, offset) - 1;
}

function linesOfItem(scanned: Scan, { span }: Item): Set<number> {
  const gone = new Set<number>();
  for (let index = lineIndex(scanned, span.start); index <= lineIndex(scanned, span.end - 1); index++)
    gone.add(index);
  return gone;
}
