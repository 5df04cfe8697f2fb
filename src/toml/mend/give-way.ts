import { type Block, blockLines, renderBlock } from "../block.ts";
import { type Header, lineAt, type Scan } from "../scan.ts";
import { emptyMarker } from "./blocks.ts";

/** Lines of a block of ours that go, by their place in the file. */
export interface GivenWay {
  readonly gone: ReadonlySet<number>;
  readonly as: string;
  readonly ours: {
    readonly owner: string;
    /** The BEGIN marker of what is left of the block. */
    readonly marker: { readonly at: number; readonly text: string } | undefined;
    /** Somebody edited in it as well: it is empty now, and has to be written anew. */
    readonly anew?: true;
  };
}

/** Takes a handler out of a block of ours; the whole block where nothing else is in it. */
export function giveWay(scanned: Scan, block: Block, { path }: Header): GivenWay {
  const { text } = scanned;
  if (!block.intact) return emptied(scanned, block);
  const unit = unitOf(path);
  const [first, last] = [block.span.start, block.span.end].map((at) => lineIndex(scanned, at)) as [
    number,
    number,
  ];
  const gone = new Set<number>();
  let isGone = false;
  const starts = new Map(
    scanned.items.flatMap((item) =>
      item.kind === "key-value" ? [] : [[lineIndex(scanned, item.span.start), item.path] as const],
    ),
  );
  for (let index = first + 1; index < last; index++) {
    const header = starts.get(index);
    if (header !== undefined) isGone = unit.every((part, at) => header[at] === part);
    if (isGone) gone.add(index);
  }
  const lines = text.split("\n");
  const isLeft = (index: number) => !gone.has(index) && lines[index]?.trim() !== "";
  let end = last;
  while (end > first + 1 && !isLeft(end - 1)) gone.add(--end);
  const as = `, as owner '${block.owner}' gives way to what others define`;
  if (end === first + 1) {
    const { start, end: stop } = blockLines(text, block);
    for (let index = lineIndex(scanned, start); index <= last; index++) gone.add(index);
    // A blank line that the block did not bring stays.
    if (stop === block.span.end && text[start] === "\n") gone.delete(lineIndex(scanned, start));
    return { gone, as, ours: { owner: block.owner, marker: undefined } };
  }
  const body = lines.filter((_, index) => index > first && index < last && !gone.has(index));
  const written = renderBlock({ owner: block.owner, body: `${body.join("\n").replaceAll("\r", "")}\n` });
  const eol = lines[first]?.endsWith("\r") === true ? "\r\n" : "\n";
  const marker = { at: first, text: `${written.slice(0, written.indexOf("\n"))}${eol}` };
  return { gone, as, ours: { owner: block.owner, marker } };
}

function lineIndex(scanned: Scan, offset: number): number {
  return lineAt(scanned, offset) - 1;
}

/** The table of the handler that a table belongs to. */
export function unitOf(path: readonly string[]): readonly string[] {
  const depth = path.indexOf("runtimes") + 2;
  return depth > 1 ? path.slice(0, depth) : path;
}

function emptied(scanned: Scan, block: Block): GivenWay {
  const { owner, span } = block;
  const [first, last] = [lineIndex(scanned, span.start), lineIndex(scanned, span.end)];
  const gone = new Set(Array.from({ length: last - first - 1 }, (_, index) => first + 1 + index));
  const eol = scanned.text.slice(span.start, span.end).includes("\r\n") ? "\r\n" : "\n";
  const marker = { at: first, text: `${emptyMarker(owner)}${eol}` };
  const as = `, and write the block of owner '${owner}' anew, from the record`;
  return { gone, as, ours: { owner, marker, anew: true } };
}
