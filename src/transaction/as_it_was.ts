import { dirname } from "node:path/posix";
import type { EngineView, FileEdit, Snapshot } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { benefitOfDoubt } from "../host/unmounted.ts";
import { isSame } from "../same.ts";
import { sha256 } from "../sha256.ts";
import type { Environment } from "./environment.ts";
import { withEdits } from "./gather.ts";
import type { Committed } from "./operations.ts";
import type { NodeState } from "./state.ts";

type Bytes = Uint8Array | null;

/** What is taken back. */
export interface Taken {
  readonly owner: string;
  /** What the owner had before it. */
  readonly handlers: readonly Handler[];
  /** Exchanges of files that were seen through, in the order in which they were made: none that merged others' edits. */
  readonly commits: readonly Committed[];
}

/**
 * The edits that give every file its very bytes back, where each still is byte for byte what those commits left,
 * the old bytes are in the store, and they mean what `planned` means to everybody else; else `planned` itself:
 * the inverse by meaning, on what others have made of the files since.
 */
export function asItWas(
  env: Environment,
  state: NodeState,
  taken: Taken,
  seen: Snapshot,
  view: EngineView,
  planned: readonly FileEdit[],
): readonly FileEdit[] {
  if (planned.length === 0) return planned;
  const edits = exactEdits(env, state, taken.commits, seen, planned);
  return edits !== undefined && isSound(env, taken, seen, view, edits) ? edits : planned;
}

/** Backwards through the commits, so that each step is the inverse of one that was safe. */
function exactEdits(
  env: Environment,
  state: NodeState,
  commits: readonly Committed[],
  seen: Snapshot,
  planned: readonly FileEdit[],
): FileEdit[] | undefined {
  const backwards = commits.toReversed();
  // Where a file was written several times, the place of the first time counts.
  const paths = [...new Set(commits.map(({ path }) => path))].toReversed();
  const edits: FileEdit[] = [];
  for (const path of paths) {
    // The journal is a file like any other: what it names is only touched where it can be the engine's.
    const isKnown = seen.files.has(path) || seen.folders.has(dirname(path));
    if (!isKnown) return undefined;
    const read = seen.files.get(path) ?? env.host.read(path);
    if (read.kind !== "file" && read.kind !== "absent") return undefined;
    const before = read.kind === "file" ? read.bytes : null;
    const own = backwards.filter((commit) => commit.path === path);
    const now = before === null ? null : sha256(before);
    const then = own.at(-1)?.before ?? null;
    if (now === then) continue;
    let expected = now;
    for (const commit of own) {
      if (commit.after !== expected) return undefined;
      expected = commit.before;
    }
    const after = then === null ? null : state.stored(then);
    const like = planned.find((edit) => edit.path === path) ?? besideOf(path, planned);
    if (after === undefined) return undefined;
    edits.push({
      ...like,
      path,
      before,
      after,
      edit: (base) => (isEqual(base, before) ? after : like.edit(base)),
    });
  }
  return edits;
}

/**
 * An edit of a file that the plan would leave. Temporary files must not stand in CRI-O's drop-in folder: ours are
 * always in it, so an edit that the plan makes there tells where they may.
 */
function besideOf(path: string, planned: readonly FileEdit[]): Pick<FileEdit, "edit" | "bare" | "tempDir"> {
  const tempDir = planned.find((edit) => dirname(edit.path) === dirname(path))?.tempDir;
  return {
    edit: () => {
      throw new ShimctlError("conflict", "Cannot give this file its old bytes back, as it has changed", {
        path,
      });
    },
    bare: (bytes) => bytes,
    ...(tempDir === undefined ? {} : { tempDir }),
  };
}

/** Whether the old bytes harm nobody, at any prefix: what others have by now may rely on what would go. */
function isSound(
  { host, backend, site }: Environment,
  { owner, handlers }: Taken,
  seen: Snapshot,
  view: EngineView,
  edits: readonly FileEdit[],
): boolean {
  const errorsOf = (each: EngineView) =>
    each
      .check(benefitOfDoubt(host))
      .flatMap(({ severity, rule, message }) => (severity === "error" ? [`${rule} ${message}`] : []));
  try {
    const known = new Set(errorsOf(view));
    let candidate = view;
    for (let count = 1; count <= edits.length; count++) {
      candidate = backend.read(site, withEdits(host, backend, site, seen, edits.slice(0, count)));
      if (errorsOf(candidate).some((error) => !known.has(error))) return false;
    }
    const mine = new Set([...view.handlersOf(owner), ...handlers].map(({ name }) => name));
    // Where it had lost its markers before, so it has again.
    const unmarked = candidate.unmarked(handlers);
    const isMarked = new Set(candidate.handlersOf(owner).map(({ name }) => name));
    const marked = handlers.filter(({ name }) => isMarked.has(name) || !unmarked.has(name));
    const inEffect = new Set(candidate.state.handlers.map(({ name }) => name));
    const hasSame =
      candidate.plan(owner, marked).length === 0 ||
      // Where a new release of what renders the file has another place for them, they were in effect in the old one.
      // Of an owner who has nothing, nothing stays.
      (marked.length > 0 &&
        isSame(byName(candidate.handlersOf(owner)), byName(marked)) &&
        marked.every(({ name }) => inEffect.has(name)));
    return (
      hasSame &&
      [...unmarked.keys()].every((name) => inEffect.has(name)) &&
      candidate.state.defaultHandler === view.state.defaultHandler &&
      isSame(othersIn(view, owner, new Set(unmarked.keys())), othersIn(candidate, owner, mine))
    );
  } catch (error) {
    if (error instanceof ShimctlError) return false;
    throw error;
  }
}

/** In an order of their own, to compare them. */
export function byName(handlers: readonly Handler[]): Handler[] {
  return handlers.toSorted((one, other) => (one.name < other.name ? -1 : 1));
}

/** Everything that is not this owner's. @param back what may have become somebody else's again */
function othersIn({ state }: EngineView, owner: string, back: ReadonlySet<string>): unknown {
  return {
    handlers: state.handlers.filter((handler) => handler.owner !== owner && !back.has(handler.name)),
    holdings: state.holdings
      .filter((holding) => holding.owner !== owner)
      .map(({ line: _, ...holding }) => holding),
  };
}

function isEqual(a: Bytes, b: Bytes): boolean {
  return a === null || b === null ? a === b : Buffer.compare(a, b) === 0;
}
