import { decodeToml, encodeToml } from "../../toml/decode.ts";
import { findBlocks, removeBlock, setBlock } from "../../toml/edit.ts";
import { parseToml, type TomlTable } from "../../toml/parse.ts";
import { proveEdit, withoutOurs } from "../../toml/prove.ts";
import { bareOf, type Taken, withoutTaken } from "../adopt.ts";
import type { FileEdit } from "../backend.ts";
import { proveAround } from "../ownership.ts";
import { mergeTables } from "../tables.ts";

export interface Place {
  readonly path: string;
  readonly owner: string;
  /** CRI-O reads every file of its drop-in folder, whatever its name: nothing of ours may stand there. */
  readonly tempDir: string;
  /** Somebody's link leads to it: it must stay, if empty, as CRI-O does not start on one that leads nowhere. */
  readonly mustStay: boolean;
  /** Definitions of others that ours take the place of. */
  readonly taken: Taken;
}

/** The edit that gives a drop-in exactly this block, proved; `undefined` when the bytes are right already. */
export function editFor(
  place: Place,
  block: string | undefined,
  before: Uint8Array | null,
): FileEdit | undefined {
  const { path, owner, tempDir, mustStay, taken } = place;
  const text = (bytes: Uint8Array | null) => (bytes === null ? "" : decodeToml(bytes, path));
  const edit = (base: Uint8Array | null): Uint8Array | null => {
    const old = withoutTaken(text(base), path, owner, taken);
    const after =
      block === undefined
        ? removeBlock(old, owner, { path })
        : setBlock(old, { owner, body: block }, { path });
    proveAround(findBlocks(old, path), path, () => prove(path, old, after));
    // A file of others that was empty, or is so without what is taken over, is theirs still.
    const isTheirs = base !== null && findBlocks(text(base), path).length === 0;
    return after === "" && !mustStay && !isTheirs ? null : encodeToml(after);
  };
  const bare = (bytes: Uint8Array | null) =>
    bytes === null
      ? null
      : encodeToml(removeBlock(bareOf(bytes, path, owner, taken), owner, { path, force: true }));
  const after = edit(before);
  if (text(before) === text(after) && (before === null) === (after === null)) return undefined;
  return { path, before, after, edit, bare, tempDir, mode: 0o644 };
}

function prove(path: string, before: string, after: string): void {
  const bare = withoutOurs(before);
  const expected = findBlocks(after, path).reduce<TomlTable>(
    (all, block) => mergeTables(all, parseToml(block.body, path)),
    parseToml(bare, path),
  );
  proveEdit({
    path,
    before,
    after,
    expected,
    ...(bare === before ? { inverse: (result: string) => withoutOurs(result) } : {}),
  });
}
