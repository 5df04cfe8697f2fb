import { ShimctlError } from "../../error.ts";
import { decodeToml, encodeToml } from "../../toml/decode.ts";
import {
  addArrayElement,
  type Block,
  canExtend,
  disownRootLine,
  findBlocks,
  removeArrayElement,
  removeBlock,
  removeRootLine,
  rootMark,
  setBlock,
  setRootLine,
} from "../../toml/edit.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import { proveEdit, withPath } from "../../toml/prove.ts";
import { renderString } from "../../toml/render.ts";
import { bareOf, type Taken, withoutTaken } from "../adopt.ts";
import type { FileEdit } from "../backend.ts";
import { proveAround } from "../ownership.ts";
import { mergeTables } from "../tables.ts";
import { bare, sharedOwner, withoutDoubled } from "./load.ts";

/**
 * What one file shall hold of ours: one owner's block, and the pieces that belong to no owner. A goal is
 * reached from any bytes of the file, so it can be reached again when somebody else wrote in between.
 */
export interface Goal {
  readonly path: string;
  readonly owner: string;
  /** The owner's block; `undefined` for none. */
  readonly block: string | undefined;
  /** Written as `version` where the file says none, so that the engine reads our tables at all. */
  readonly schema: number;
  /** Our own import, and whether this file must have it; it gives way to an import that reaches as far. */
  readonly ourImport: string;
  readonly needsImport: (bare: TomlTable) => boolean;
  /** containerd 1.x loses its built-in handler where any other is defined: the block that brings it back. */
  readonly shared: (bare: TomlTable, others: TomlTable, stands: boolean) => string | undefined;
  /** Whether what others have in the file by now needs the shared block, which then becomes theirs. */
  readonly leavesShared: (bare: TomlTable, shared: string) => boolean;
  /** A file that others made gets no `version` of ours, unless it is the root. */
  readonly isRoot: boolean;
  /** Somebody imports this very path, or links to it: it must stay, if empty, as containerd does not start without it. */
  readonly mustStay: boolean;
  /** Definitions of others that ours take the place of. */
  readonly taken: Taken;
}

const createdMark = "file created by shimctl";
const versionMark = "version";
const importMark = "reaches the drop-ins";

/** The edit that reaches a goal, proved; `undefined` when the bytes already do. */
export function editFor(goal: Goal, before: Uint8Array | null): FileEdit | undefined {
  const edit = (base: Uint8Array | null) => {
    const after = reach(goal, base);
    // What is not written needs no proof.
    if (!same(base, after)) {
      const blocks = base === null ? [] : findBlocks(decodeToml(base, goal.path), goal.path);
      proveAround(blocks, goal.path, () => prove(goal, base, after));
    }
    return after;
  };
  const after = edit(before);
  if (same(before, after)) return undefined;
  return { path: goal.path, before, after, edit, bare: (bytes) => withoutOursIn(goal, bytes), mode: 0o644 };
}

function reach(goal: Goal, base: Uint8Array | null): Uint8Array | null {
  const { path, owner } = goal;
  let text = startOf(goal, base);

  // An owner's own block first: what the blocks in this file define decides what is shared.
  text =
    goal.block === undefined
      ? removeBlock(text, owner, { path })
      : setBlock(text, { owner, body: goal.block }, { path });
  const bareTable = parseToml(bare(text, path, goal.ourImport), path);
  const blocks = blocksTable(text, path);
  const used = Object.keys(blocks).length > 0;

  const stands = findBlocks(text, path).some((block) => block.owner === sharedOwner);
  const shared = used ? goal.shared(bareTable, blocks, stands) : undefined;
  if (shared === undefined) text = removeBlock(text, sharedOwner, { path });
  else if (!stands) text = setBlock(text, { owner: sharedOwner, body: shared }, { path });

  const needsImport = goal.needsImport(bareTable);
  const created = base === null || rootMark(text, "version", path) === createdMark;
  const mayState = goal.isRoot || created;
  const needsVersion = mayState && bareTable["version"] === undefined && (used || needsImport);
  text = withVersion(text, path, needsVersion ? goal.schema : undefined, created ? createdMark : versionMark);
  text = withImport(text, path, goal.ourImport, needsImport, bareTable["imports"] !== undefined);

  return text === "" && created && !goal.mustStay ? null : encodeToml(text);
}

/**
 * The text that an edit starts from. Where somebody has added tables that need a shared piece of ours, its
 * `version` line or the default handler, that piece is theirs when the last of ours leaves.
 */
function startOf(goal: Goal, base: Uint8Array | null): string {
  const { path, ourImport } = goal;
  if (base === null) return "";
  const text = withoutTaken(withoutDoubled(decodeToml(base, path), path), path, goal.owner, goal.taken);
  const blocks = findBlocks(text, path);
  const foreign = parseToml(bare(text, path, ourImport), path);
  const leaving =
    goal.block === undefined &&
    blocks.every((block) => block.owner === goal.owner || block.owner === sharedOwner);
  if (!leaving || goal.needsImport(foreign) || Object.keys(foreign).length === 0) return text;
  const shared = blocks.find((block) => block.owner === sharedOwner);
  const left =
    shared !== undefined && goal.leavesShared(foreign, shared.body) ? disownBlock(text, shared) : text;
  return disownRootLine(left, "version", path);
}

/** Takes the two marker lines away and leaves what stands between them. */
function disownBlock(text: string, block: Block): string {
  const inside = text.slice(block.span.start, block.span.end);
  const body = inside.slice(inside.indexOf("\n") + 1, inside.lastIndexOf("\n") + 1);
  const rest = text.slice(block.span.end);
  return text.slice(0, block.span.start) + body + rest.replace(/^\r?\n/, "");
}

function withVersion(text: string, path: string, schema: number | undefined, mark: string): string {
  const present = rootMark(text, "version", path) !== undefined;
  if (present && schema !== undefined && parseToml(text, path)["version"] === BigInt(schema)) return text;
  const without = removeRootLine(text, "version", path);
  return schema === undefined ? without : setRootLine(without, "version", String(schema), mark, path);
}

/** Our import as a line of ours, or as one element of a list that is the administrator's. */
function withImport(
  text: string,
  path: string,
  ourImport: string,
  needed: boolean,
  foreignList: boolean,
): string {
  if (needed && !foreignList && rootMark(text, "imports", path) !== undefined) return text;
  const without = removeRootLine(withoutElement(text, path, ourImport), "imports", path);
  if (!needed) return without;
  if (!foreignList) return setRootLine(without, "imports", `[${renderString(ourImport)}]`, importMark, path);
  // Where the list is the administrator's already, our element may stand in it as it is.
  const kept = rootMark(text, "imports", path) === undefined ? text : without;
  return addArrayElement(kept, ["imports"], ourImport, path);
}

function withoutElement(text: string, path: string, ourImport: string): string {
  return ourImport === "" ? text : removeArrayElement(text, ["imports"], ourImport, path);
}

/** What all blocks but the shared one define together. */
function blocksTable(text: string, path: string): TomlTable {
  return findBlocks(text, path)
    .filter((block) => block.owner !== sharedOwner)
    .reduce<TomlTable>((all, block) => mergeTables(all, parseToml(block.body, path)), Object.create(null));
}

/** Foreign bytes are the same before and after; the result means what was there plus what is ours. */
function prove(goal: Goal, before: Uint8Array | null, after: Uint8Array | null): void {
  const { path, ourImport } = goal;
  const old = startOf(goal, before);
  const text = after === null ? "" : decodeToml(after, path);
  const elements = ourImport === "" ? [] : [{ keyPath: ["imports"], value: ourImport }];
  const bareOld = bare(old, path, ourImport);
  const bareTable = parseToml(bareOld, path);
  let expected = findBlocks(text, path).reduce<TomlTable>(
    (all, block) => mergeTables(all, parseToml(block.body, path)),
    bareTable,
  );
  if (rootMark(text, "version", path) !== undefined)
    expected = withPath(expected, ["version"], BigInt(goal.schema));
  if (goal.needsImport(bareTable)) {
    const foreign = bareTable["imports"];
    expected = withPath(expected, ["imports"], [...(Array.isArray(foreign) ? foreign : []), ourImport]);
  }
  proveEdit({
    path,
    before: old,
    after: text,
    expected,
    elements,
    ...(old === bareOld ? { inverse: (result: string) => bare(result, path, ourImport) } : {}),
  });
}

/** The file without this owner's block and without shared pieces: the base of a merge with other writers. */
function withoutOursIn(goal: Goal, bytes: Uint8Array | null): Uint8Array | null {
  if (bytes === null) return null;
  const { path, owner, ourImport } = goal;
  const text = withoutDoubled(bareOf(bytes, path, owner, goal.taken), path);
  const rest = removeBlock(removeBlock(text, owner, { path, force: true }), sharedOwner, {
    path,
    force: true,
  });
  const foreign = parseToml(bare(rest, path, ourImport), path);
  return encodeToml(
    withVersion(
      withImport(rest, path, ourImport, false, foreign["imports"] !== undefined),
      path,
      undefined,
      versionMark,
    ),
  );
}

/** Throws where TOML does not allow a header below a table that is closed already. */
export function assertExtensible(text: string, path: string, table: readonly string[]): void {
  const obstacle = canExtend(text, table);
  if (obstacle === null) return;
  throw new ShimctlError("unsupported-config", `Cannot add a handler to this file, as ${obstacle.reason}`, {
    path,
    line: obstacle.line,
    hint: "write the tables above the handlers as [headers], then run the same command again",
  });
}

function same(a: Uint8Array | null, b: Uint8Array | null): boolean {
  if (a === null || b === null) return a === b;
  return Buffer.compare(a, b) === 0;
}
