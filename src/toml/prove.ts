import type { TomlTable } from "smol-toml";
import { ShimctlError } from "../error.ts";
import { removeArrayElement } from "./array-element.ts";
import { findBlocks, removeBlock } from "./block.ts";
import { isOurComment } from "./marker.ts";
import { parseToml, scanToml } from "./parse.ts";
import { removeRootLine, sharedLines } from "./root-line.ts";
import { deepEqual } from "./tree.ts";

export { deepEqual, valueAt, withoutPath, withPath } from "./tree.ts";

/** A string of ours in an array of someone else's, such as an import. */
export interface OurElement {
  readonly keyPath: readonly string[];
  readonly value: string;
}

export interface Edit {
  readonly before: string;
  readonly after: string;
  /** What `after` must mean. */
  readonly expected: TomlTable;
  readonly path: string;
  /** Undoes the edit; given for every edit that adds. */
  readonly inverse?: (after: string) => string;
  /** Strings of ours in foreign arrays that this edit adds or removes. */
  readonly elements?: readonly OurElement[];
}

/**
 * Proves an edit before it is written: `after` means exactly `expected`; every foreign comment survives;
 * the inverse gives `before` byte for byte; and without our pieces both texts are the same bytes.
 * @throws ShimctlError `internal`: whatever fails here is our own mistake, and nothing was written.
 */
export function proveEdit(edit: Edit): void {
  const { before, after, expected, path } = edit;
  const fail = (why: string, cause?: unknown) =>
    new ShimctlError("internal", `Cannot prove an edit safe: ${why}`, {
      path,
      state: "nothing was written",
      hint: "Report this together with the file, secrets removed.",
      ...(cause === undefined ? {} : { cause }),
    });
  const attempt = <T>(why: string, work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw fail(why, error);
    }
  };
  const meaning = attempt("the result is not valid TOML", () => parseToml(after, path));
  if (!deepEqual(meaning, expected)) throw fail("the result does not mean what it should");
  attempt("the comments cannot be compared", () => missingComments(before, after)).forEach(() => {
    throw fail("a comment would be lost");
  });
  if (edit.inverse !== undefined) {
    const { inverse } = edit;
    if (attempt("it cannot be undone", () => inverse(after)) !== before)
      throw fail("undoing it does not give the old bytes");
  }
  const elements = edit.elements ?? [];
  const foreign = attempt("our own lines cannot be told from others", () => [
    withoutOurs(before, elements),
    withoutOurs(after, elements),
  ]);
  if (foreign[0] !== foreign[1]) throw fail("lines of others would change");
}

/** The text without anything of ours: all blocks, marked root lines, and the given array elements. */
export function withoutOurs(text: string, elements: readonly OurElement[] = []): string {
  let rest = text;
  for (const { keyPath, value } of elements) rest = removeArrayElement(rest, keyPath, value);
  for (const { owner } of findBlocks(rest)) rest = removeBlock(rest, owner, { force: true });
  for (const { key } of sharedLines(scanToml(rest))) rest = removeRootLine(rest, key[0] ?? "");
  return rest;
}

/** Comments of others in `before` that `after` has fewer of. */
function missingComments(before: string, after: string): string[] {
  const left = new Map<string, number>();
  for (const comment of foreignComments(after)) left.set(comment, (left.get(comment) ?? 0) + 1);
  return foreignComments(before).filter((comment) => {
    const count = left.get(comment) ?? 0;
    left.set(comment, count - 1);
    return count <= 0;
  });
}

function foreignComments(text: string): string[] {
  const scanned = scanToml(text);
  const blocks = findBlocks(scanned);
  let block = 0;
  const found: string[] = [];
  for (const { span } of scanned.comments) {
    while ((blocks[block]?.span.end ?? Number.POSITIVE_INFINITY) < span.start) block++;
    const inside = span.start >= (blocks[block]?.span.start ?? Number.POSITIVE_INFINITY);
    const comment = text.slice(span.start, span.end);
    if (!inside && !isOurComment(comment)) found.push(comment);
  }
  return found;
}
