import type { FileEdit } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { inWords } from "../host/failure.ts";
import { randomUUID } from "../host/random.ts";
import type { Host } from "../host/root.ts";
import { ensureFolder, removeEmptyFolder } from "../host/state.ts";
import { contentionAfter, hasEnded, isNewer } from "./contention.ts";
import { counted } from "./counts.ts";
import type { Environment } from "./environment.ts";
import type { Incarnation, Order } from "./epoch.ts";
import { type Holds, withHolds } from "./hold.ts";
import type { Caller } from "./journal.ts";
import {
  type Held,
  isIdle,
  type NodeRecord,
  type Owned,
  type Pending,
  rootOf,
  withEpoch,
  withOwner,
  withRoot,
} from "./record.ts";
import type { Mended } from "./request.ts";
import type { NodeState } from "./state.ts";

/** What an operation leaves besides its owner's handlers. */
export interface Left extends Owned {
  /** No start of the engine was seen to serve it; `undefined`: one was, or nothing has to be served. */
  readonly pending?: Pending | "as it was" | undefined;
  readonly held?: Held | undefined;
  /** Of all owners; as they are where nothing is said. */
  readonly holds?: Holds;
  /** What others had done and this has mended. */
  readonly mended?: Mended | undefined;
  /** Whose change it is: a person's begins anew what is counted of other writers. */
  readonly caller?: Caller | undefined;
}

/** Writes the record, and takes away the folders that we made and that are empty again. */
export function recordOwner(
  env: Environment,
  state: NodeState,
  owner: string,
  handlers: readonly Handler[],
  { pending, held, holds, mended, caller, ...owned }: Left = {},
): NodeRecord {
  const { record: known } = state.readRecord();
  const { rootFile } = env.site;
  const made = withOwner(known, rootFile, owner, handlers, env.now().toISOString(), owned);
  const { held: others = {}, ...root } = rootOf(made, rootFile);
  const { [owner]: _, ...stillHeld } = others;
  const record = withRoot(made, rootFile, {
    ...root,
    held: held === undefined ? stillHeld : { ...stillHeld, [owner]: held },
    pending: pending === "as it was" ? root.pending : pending,
  });
  const idle = isIdle(record) ? record.folders : [];
  const folders = withoutEmpty(env, record.folders, idle);
  const { order } = owned;
  const ends =
    caller?.automatic === false ||
    handlers.length === 0 ||
    (order !== undefined && isNewer(known, rootFile, owner, incarnationOf(order), env.now()));
  const settled = contentionAfter({ ...record, folders }, rootFile, owner, mended, ends, env.now());
  const next = withLockWait(env, withHolds(settled, holds ?? record.holds, env.now()));
  state.writeRecord(next);
  if (hasEnded(known, next, rootFile, owner)) tellReleased(state, owner, caller);
  return next;
}

/**
 * An operation that was undone leaves what was there before it, and yet its owner is at its epoch from now on:
 * what comes late from an older one must not do what the newer one would have undone.
 */
export function recordUndone(
  env: Environment,
  state: NodeState,
  owner: string,
  begun: Order | undefined,
): void {
  const { record } = state.readRecord();
  const { rootFile } = env.site;
  const raised = begun === undefined ? record : withEpoch(record, rootFile, owner, begun, env.now());
  const settled =
    raised === record ? record : contentionAfter(raised, rootFile, owner, undefined, true, env.now());
  const next = withLockWait(env, counted(settled, { undone: true }));
  state.writeRecord(next);
  if (hasEnded(record, next, rootFile, owner)) tellReleased(state, owner, env.caller);
}

function tellReleased(state: NodeState, owner: string, caller: Caller | undefined): void {
  state.append(randomUUID(), { step: "release", owner, who: caller?.who ?? "shimctl", contended: true });
}

function incarnationOf({ epoch, instance }: Order): Incarnation {
  return { epoch, instance: instance ?? "" };
}

/** How long the operation waited for the lock is known where it was taken. */
function withLockWait({ lockWaitMs }: Environment, record: NodeRecord): NodeRecord {
  return lockWaitMs === undefined ? record : { ...record, lockWaitMs };
}

/**
 * Takes away the folders that an undone operation made, where they are empty. Nothing else of the record
 * changes: what its owner had before, it shall have again, whatever of that was found in the files.
 */
export function cleanFolders(env: Environment, state: NodeState, made: readonly string[]): void {
  const { record, lost } = state.readRecord();
  const idle = isIdle(record) ? [...record.folders, ...made] : made;
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
    throw inWords(error, "Cannot remove this folder for good", folder);
  }
}

/** What these edits need and is not there, outermost first. */
export function missingFolders(host: Host, edits: readonly FileEdit[]): string[] {
  const wanted = edits
    .filter((edit) => edit.after !== null)
    .map((edit) => edit.path.slice(0, edit.path.lastIndexOf("/")));
  const missing = new Set<string>();
  for (const folder of wanted) {
    const parts = folder.split("/").filter((part) => part !== "");
    for (let depth = 1; depth <= parts.length; depth++) {
      const path = `/${parts.slice(0, depth).join("/")}`;
      if (!host.exists(path)) missing.add(path);
    }
  }
  return [...missing];
}

/** Folders are remembered before they are made, so that a crash in between leaves none behind for good. */
export function makeFolders(host: Host, state: NodeState, folders: readonly string[]): void {
  if (folders.length === 0) return;
  const { record } = state.readRecord();
  state.writeRecord({ ...record, folders: [...new Set([...record.folders, ...folders])] });
  for (const folder of folders) {
    try {
      ensureFolder(host.real(folder), 0o755);
    } catch (cause) {
      throw inWords(cause, "Cannot make this folder", folder);
    }
  }
}
