import { parse } from "smol-toml";
import { markerFormat, markerHash, readMarker } from "../marker.ts";
import { maxDepth } from "../scan.ts";
import {
  content,
  type Damage,
  type Draft,
  isBlank,
  isSilent,
  type Line,
  named,
  newLine,
  textOf,
} from "./lines.ts";

/** Whose blocks can be written anew, with the names of the handlers that theirs define. */
export type Owners = ReadonlyMap<string, readonly string[]>;

/** More lines than any block has. */
const longestBlock = 20_000;

export interface MendedBlocks extends Draft {
  /** Owners whose blocks have to be written anew: in place of each stands one that is empty. */
  readonly anew: readonly string[];
}

/**
 * Mends blocks of ours. Where the marker's hash tells how the block was, only the lost marker line comes back;
 * else the whole block is taken out, an empty one put in its place, and its owner named.
 */
export function mendBlocks(draft: Draft, owners: Owners): MendedBlocks {
  let lines = [...draft.lines];
  const damages: Damage[] = [...draft.damages];
  const anew = new Set<string>();
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] as Line;
    const marker = markerOf(line);
    if (marker === undefined) continue;
    const found = marker === "end" ? byEnd(lines, at, owners) : byBegin(lines, at, owners);
    const isStray = found?.kind === "damaged" && found.owner !== undefined && isWhole(lines, found.owner);
    if (found === undefined) continue;
    if (found.kind === "whole") {
      at = found.last;
      continue;
    }
    if (isStray) {
      const remedy = `cut ${named([line])}: the block of its owner is whole`;
      damages.push({
        rule: "block",
        message: "a marker line stands alone",
        line: line.number,
        column: 1,
        remedy,
      });
      lines = [...lines.slice(0, at), ...lines.slice(at + 1)];
      at -= 1;
      continue;
    }
    const { message, from, to, put, remedy } = found;
    damages.push({ rule: "block", message, line: line.number, column: 1, remedy });
    if (found.owner !== undefined) anew.add(found.owner);
    lines = [...lines.slice(0, from), ...put, ...lines.slice(to)];
    // A BEGIN marker that is whole again is looked at once more, with its block.
    at = found.again === true ? from - 1 : from + put.length - 1;
  }
  return { lines, damages, stuck: draft.stuck, anew: [...anew] };
}

/** Whether a block of this owner is somewhere as it was written. */
function isWhole(lines: readonly Line[], owner: string): boolean {
  return lines.some((line, at) => {
    const marker = markerOf(line) === "begin" ? readMarker(content(line)) : undefined;
    if (typeof marker !== "object" || marker.owner !== owner || marker.hash === undefined) return false;
    return rejoin(lines, at, owner, marker.hash) !== undefined;
  });
}

type Found =
  | { readonly kind: "whole"; readonly last: number }
  | {
      readonly kind: "damaged";
      readonly message: string;
      readonly from: number;
      readonly to: number;
      readonly put: readonly Line[];
      readonly remedy: string;
      readonly owner: string | undefined;
      readonly again?: boolean;
    };

function markerOf(line: Line): "begin" | "end" | undefined {
  const [, word] = /^#[ \t]*(BEGIN|END)[ \t]+shimctl(?:[ \t]|\r?$)/.exec(content(line)) ?? [];
  return word === undefined ? undefined : word === "BEGIN" ? "begin" : "end";
}

function byBegin(lines: readonly Line[], at: number, owners: Owners): Found | undefined {
  const line = lines[at] as Line;
  const marker = readMarker(content(line));
  const owner = ownerOf(line, owners);
  const end = endOf(lines, at);
  // A newer release's block is not ours to judge.
  if (typeof marker === "object" && marker.hash === undefined)
    return end === undefined ? undefined : { kind: "whole", last: end };
  const hash = typeof marker === "object" ? marker.hash : undefined;
  const joined =
    typeof marker === "object" && hash !== undefined ? rejoin(lines, at, marker.owner, hash) : undefined;
  if (joined !== undefined) return joined;
  if (end !== undefined) {
    const endMarker = readMarker(content(lines[end] as Line));
    const body = lines.slice(at + 1, end);
    const isPair =
      typeof marker === "object" && typeof endMarker === "object" && marker.owner === endMarker.owner;
    const isAsWritten = markerHash(asBody(body)) === hash;
    const isEdited = body.some((each) => isHeaderLine(each) && !defines(each, owners.get(owner ?? "") ?? []));
    if (isPair && (isAsWritten || isReadable(body) || isEdited)) return { kind: "whole", last: end };
    const closer = typeof endMarker === "object" ? endMarker.owner : undefined;
    if (typeof marker === "object" && isAsWritten && !owners.has(marker.owner) && owners.has(closer ?? ""))
      return beginBack(closer ?? "", hash ?? "", lines, at);
    // What somebody edited in it stays; only the marker comes back.
    if (
      typeof marker === "object" &&
      (isAsWritten || (isEdited && owners.has(marker.owner) && !owners.has(closer ?? "")))
    )
      return markerBack("the END marker of this block is damaged", marker.owner, lines, end, end + 1);
    // A whole marker says whose block it is, whether or not the record knows that owner.
    const known = owner ?? (typeof marker === "object" ? undefined : ownerOf(lines[end] as Line, owners));
    if (known === undefined) return undefined;
    return anew(
      isPair ? "this block of ours is damaged" : "a marker of this block is damaged",
      known,
      lines,
      at,
      end + 1,
    );
  }
  if (typeof marker === "object" && hash !== undefined) {
    const last = endByHash(lines, at, hash);
    if (last !== undefined)
      return markerBack(
        "this block has lost its END marker",
        marker.owner,
        lines,
        last,
        behind(lines, last, marker.owner),
      );
  }
  if (owner === undefined) return undefined;
  const names = owners.get(owner) ?? [];
  return anew(
    "this block has lost its end",
    owner,
    lines,
    at,
    behind(lines, extent(lines, at + 1, names), owner),
  );
}

/** A block that is as it was written but for marker lines that stand in it. */
function rejoin(lines: readonly Line[], at: number, owner: string, hash: string): Found | undefined {
  const inner: Line[] = [];
  let markers = 0;
  for (let index = at + 1; index < Math.min(lines.length, at + longestBlock) && markers < 6; index++) {
    const line = lines[index] as Line;
    if (markerOf(line) === undefined) {
      inner.push(line);
      continue;
    }
    const isEnd = content(line) === `# END shimctl ${owner}`;
    if (isEnd && markerHash(asBody(inner)) === hash) {
      if (markers === 0) return { kind: "whole", last: index };
      const put = [lines[at] as Line, ...inner, line];
      const remedy = "cut the marker lines that stand inside it";
      const message = "marker lines stand inside this block";
      return { kind: "damaged", message, from: at, to: index + 1, put, remedy, owner: undefined };
    }
    markers += 1;
  }
  return undefined;
}

function byEnd(lines: readonly Line[], at: number, owners: Owners): Found | undefined {
  const owner = ownerOf(lines[at] as Line, owners);
  if (owner === undefined) return undefined;
  const names = owners.get(owner) ?? [];
  let from = at;
  // Upwards to the first of the headers that define its handlers.
  for (let index = at - 1; index >= 0; index--) {
    const line = lines[index] as Line;
    if (markerOf(line) !== undefined) break;
    if (!isHeaderLine(line)) continue;
    if (!defines(line, names)) break;
    from = index;
  }
  // Keys whose header is lost as well stand in somebody else's table by now, and are not told from theirs.
  const above = lines[from - 1];
  const isFirst = from === at || defines(lines[from] as Line, names, true);
  const isAll = names.every((name) => lines.slice(from, at).some((line) => defines(line, [name], true)));
  if (!isFirst || (above !== undefined && !isSilent(above) && !isAll)) return undefined;
  return anew("this block has lost its beginning", owner, lines, from, at + 1);
}

/** Where the block that begins at `at` ends; a marker that begins another one ends the search. */
function endOf(lines: readonly Line[], at: number): number | undefined {
  for (let index = at + 1; index < lines.length; index++) {
    const marker = markerOf(lines[index] as Line);
    if (marker === "end") return index;
    if (marker === "begin") return undefined;
  }
  return undefined;
}

/** Behind which line the marker has to stand for the block to be as it was written. */
function endByHash(lines: readonly Line[], at: number, hash: string): number | undefined {
  let body = "";
  for (let index = at + 1; index < Math.min(lines.length, at + 500); index++) {
    const line = lines[index] as Line;
    if (!line.text.endsWith("\n")) return undefined;
    body += asBody([line]);
    if (markerHash(body) === hash) return index + 1;
  }
  return undefined;
}

/** Where the lines end, with the first letters of an END marker that was cut off. */
function behind(lines: readonly Line[], end: number, owner: string): number {
  const line = lines[end];
  const isPiece = line !== undefined && !isBlank(line) && `# END shimctl ${owner}`.startsWith(content(line));
  return isPiece ? end + 1 : end;
}

/** Where the lines end that define these handlers, from `from` on: what is cut off in the middle goes with them. */
function extent(lines: readonly Line[], from: number, names: readonly string[]): number {
  let end = from;
  let isOurs = true;
  for (let index = from; index < Math.min(lines.length, from + longestBlock); index++) {
    const line = lines[index] as Line;
    if (markerOf(line) !== undefined) break;
    if (isHeaderLine(line)) isOurs = defines(line, names) || index === lines.length - 1;
    else if (/^[ \t]*#/.test(line.text)) break;
    if (!isOurs) break;
    if (!isSilent(line)) end = index + 1;
  }
  return end;
}

function isHeaderLine(line: Line): boolean {
  return /^[ \t]*\[/.test(line.text);
}

/** Whether a header is of a table of one of these handlers, or, `itself`, of the handler itself. */
function defines(line: Line, names: readonly string[], itself = false): boolean {
  const path = /^[ \t]*\[+([^\]]*)/.exec(line.text)?.[1]?.trimEnd() ?? "";
  return names.some((name) =>
    ["runtimes", "runtime_platforms"]
      .flatMap((table) => [`${table}.${name}`, `${table}."${name}"`])
      .some((part) => {
        const at = path.indexOf(part);
        const next = path[at + part.length];
        return at >= 0 && (next === undefined || (next === "." && !itself));
      }),
  );
}

function ownerOf(line: Line, owners: Owners): string | undefined {
  const word = /^#[ \t]*(?:BEGIN|END)[ \t]+shimctl[ \t]+(\S+)/.exec(content(line))?.[1];
  if (word !== undefined && owners.has(word)) return word;
  // Where there is only one it can be nobody else's.
  const [only, ...more] = [...owners.keys()];
  const isName = readMarker(content(line));
  return more.length === 0 && typeof isName !== "object" ? only : undefined;
}

function isReadable(body: readonly Line[]): boolean {
  if (body.some(({ bad }) => bad !== undefined)) return false;
  try {
    parse(textOf(body), { maxDepth, integersAsBigInt: true });
    return true;
  } catch {
    return false;
  }
}

function asBody(body: readonly Line[]): string {
  return textOf(body).replaceAll("\r\n", "\n");
}

function markerBack(message: string, owner: string, lines: readonly Line[], from: number, to: number): Found {
  const before = lines[from - 1];
  const put = [newLine(`# END shimctl ${owner}${eolOf(lines)}`, before?.number ?? 1)];
  return { kind: "damaged", message, from, to, put, remedy: "write the marker line anew", owner: undefined };
}

/** Two markers that name different owners: of them, the one that the record knows is right. */
function beginBack(owner: string, hash: string, lines: readonly Line[], at: number): Found {
  const text = `# BEGIN shimctl ${owner} format=${markerFormat} sha256=${hash}${eolOf(lines)}`;
  return {
    kind: "damaged",
    message: "the BEGIN marker of this block is damaged",
    from: at,
    to: at + 1,
    put: [newLine(text, (lines[at] as Line).number)],
    remedy: "write the marker line anew",
    owner: undefined,
    again: true,
  };
}

function anew(message: string, owner: string, lines: readonly Line[], from: number, to: number): Found {
  const gone = lines.slice(from, to);
  const eol = eolOf(lines);
  const number = gone[0]?.number ?? 1;
  const put = [`${emptyMarker(owner)}${eol}`, `# END shimctl ${owner}${eol}`].map((text) =>
    newLine(text, number),
  );
  const remedy = `write the block of owner '${owner}' anew, from the record, in place of ${named(gone)}`;
  return { kind: "damaged", message, from, to, put, remedy, owner };
}

/** The BEGIN marker of a block with nothing in it. */
export function emptyMarker(owner: string): string {
  return `# BEGIN shimctl ${owner} format=${markerFormat} sha256=${markerHash("")}`;
}

function eolOf(lines: readonly Line[]): string {
  return lines[0]?.text.endsWith("\r\n") === true ? "\r\n" : "\n";
}
