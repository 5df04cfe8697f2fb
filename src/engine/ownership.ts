import { ShimctlError } from "../error.ts";
import type { Block, MarkerProblem } from "../toml/edit.ts";
import type { Problem } from "./backend.ts";

/** What belongs to whom: the same refusals for every engine. */

/** A block that somebody edited is theirs as much as ours: it is reported, not trampled. */
export function assertIntact(block: Pick<Block, "intact" | "owner" | "line">, path: string): void {
  if (block.intact) return;
  throw new ShimctlError(
    "conflict",
    `Cannot change the block of owner '${block.owner}', as somebody edited inside it`,
    {
      path,
      line: block.line,
      hint: mendBlock,
    },
  );
}

/**
 * Runs a proof on a file. Where it fails and somebody edited inside any block of the file, that is why: lines
 * of a block may belong to another table by now.
 */
export function proveAround(blocks: readonly Block[], path: string, prove: () => void): void {
  try {
    prove();
  } catch (error) {
    const damaged = blocks.find(({ intact }) => !intact);
    if (damaged === undefined || !(error instanceof ShimctlError) || error.code !== "internal") throw error;
    const { owner, line } = damaged;
    throw new ShimctlError(
      "conflict",
      `Cannot edit this file safely, as somebody edited inside the block of owner '${owner}'`,
      { path, line, hint: mendBlock, cause: error },
    );
  }
}

const mendBlock =
  "move those lines out of the block and undo the edit, or delete the whole block with its two marker lines; then run the same command again";

/** A handler that the administrator or another tool defines is theirs. */
export function definedByOthers(name: string, path: string, line: number | undefined): ShimctlError {
  return new ShimctlError("conflict", `Cannot define handler '${name}', as this file defines it already`, {
    path,
    ...(line === undefined ? {} : { line }),
    hint: `pass --adopt to take it over where it means the same, --adopt=replace where not; or leave '${name}' out of the command`,
  });
}

export function definedByOwner(
  name: string,
  block: Pick<Block, "owner" | "line">,
  path: string,
): ShimctlError {
  return new ShimctlError(
    "conflict",
    `Cannot define handler '${name}', as owner '${block.owner}' has installed it`,
    {
      path,
      line: block.line,
      hint: `use --owner ${block.owner}, uninstall it there first, or pass --adopt to take it over`,
    },
  );
}

/** An intact block with a key that this release does not know. */
export function writtenByNewer(
  name: string,
  block: Pick<Block, "owner" | "line">,
  path: string,
): ShimctlError {
  return new ShimctlError(
    "unsupported-config",
    `Cannot understand the block of owner '${block.owner}', as a newer shimctl seems to have written handler '${name}'`,
    { path, line: block.line, hint: "run the newer release" },
  );
}

/** A file of which a newer release has written a block. */
interface MaybeNewer {
  readonly path: string;
  readonly newer: MarkerProblem | undefined;
}

/** What a block of a newer format stands for is not known: it is neither changed, nor is anything beside it. */
export function refuseNewer(files: readonly MaybeNewer[]): void {
  for (const { path, newer } of files) {
    if (newer === undefined) continue;
    throw new ShimctlError("unsupported-config", newer.message, {
      path,
      line: newer.line,
      hint: "use the newer shimctl that wrote this block",
    });
  }
}

/** What is said of such a file where it is only read. */
export function newerBlocks(files: readonly MaybeNewer[]): Problem[] {
  return files.flatMap(({ path, newer }): Problem[] => {
    if (newer === undefined) return [];
    const { message, line } = newer;
    const hint = "its handlers count as somebody else's here; use the newer shimctl that wrote it";
    return [{ severity: "warning", rule: "newer-format", message, path, line, hint }];
  });
}

export function undefinedFor(engine: string, key: string, name: string): ShimctlError {
  return new ShimctlError("usage", `Cannot install handler '${name}', as it is not defined for ${engine}`, {
    hint: `give it a [handlers.${name}.${key}] table in a handler file`,
  });
}
