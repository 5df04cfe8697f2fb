import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { removeEmptyFolder } from "../host/state.ts";
import type { Environment } from "./environment.ts";
import {
  type AdoptedHandlers,
  type Held,
  type NodeRecord,
  type Pending,
  rootOf,
  withOwner,
  withRoot,
} from "./record.ts";
import type { Bases } from "./settle.ts";
import type { NodeState } from "./state.ts";

/** What an operation leaves besides its owner's handlers. */
export interface Left {
  readonly bases?: Bases;
  /** Taken over from others just now. */
  readonly adopted?: AdoptedHandlers;
  /** No start of the engine was seen to serve it; `undefined`: one was, or nothing has to be served. */
  readonly pending?: Pending | "as it was" | undefined;
  readonly held?: Held | undefined;
}

/** Writes the record, and takes away the folders that we made and that are empty again. */
export function recordOwner(
  env: Environment,
  state: NodeState,
  owner: string,
  handlers: readonly Handler[],
  { bases = {}, adopted, pending, held }: Left = {},
): NodeRecord {
  const { record: known } = state.readRecord();
  const { rootFile } = env.site;
  const owned = withOwner(known, rootFile, owner, handlers, env.now().toISOString(), bases, adopted);
  const { held: others = {}, ...root } = rootOf(owned, rootFile);
  const { [owner]: _, ...stillHeld } = others;
  const record = withRoot(owned, rootFile, {
    owners: root.owners,
    held: held === undefined ? stillHeld : { ...stillHeld, [owner]: held },
    pending: pending === "as it was" ? root.pending : pending,
  });
  const idle = Object.keys(record.roots).length === 0 ? record.folders : [];
  const next = { ...record, folders: withoutEmpty(env, record.folders, idle) };
  state.writeRecord(next);
  return next;
}

/**
 * Takes away the folders that an undone operation made, where they are empty. Nothing else of the record
 * changes: what its owner had before, it shall have again, whatever of that was found in the files.
 */
export function cleanFolders(env: Environment, state: NodeState, made: readonly string[]): void {
  const { record, lost } = state.readRecord();
  const idle = Object.keys(record.roots).length === 0 ? [...record.folders, ...made] : made;
  const folders = withoutEmpty(env, record.folders, [...new Set(idle)]);
  if (!lost && folders.join("\n") === record.folders.join("\n")) return;
  state.writeRecord({ ...record, folders });
}

/** Removes those of `candidates` that are empty, innermost first: a folder is empty only after those in it are gone. */
function withoutEmpty(env: Environment, folders: readonly string[], candidates: readonly string[]): string[] {
  const gone = new Set(
    [...candidates].sort((a, b) => b.length - a.length).filter((folder) => isGone(env, folder)),
  );
  return folders.filter((folder) => !gone.has(folder));
}

/** A path that leads through a file by now is no folder of ours any more; it stays in the record. */
function isGone(env: Environment, folder: string): boolean {
  try {
    return removeEmptyFolder(env.host.real(folder));
  } catch (error) {
    if (error instanceof ShimctlError) return false;
    throw error;
  }
}
