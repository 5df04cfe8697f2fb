import { ShimctlError } from "../error.ts";
import type { Block } from "../toml/edit.ts";

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
      hint: "move those lines out of the block and undo the edit, or delete the whole block with its two marker lines; then run the same command again",
    },
  );
}

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

export function undefinedFor(engine: string, key: string, name: string): ShimctlError {
  return new ShimctlError("usage", `Cannot install handler '${name}', as it is not defined for ${engine}`, {
    hint: `give it a [handlers.${name}.${key}] table in a handler file`,
  });
}
