import type { FileEdit, Problem, Snapshot } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { loadLibc } from "../host/libc/libc.ts";
import { randomUUID } from "../host/random.ts";
import { isSame } from "../same.ts";
import { sha256 } from "../sha256.ts";
import { refuseAutomatic } from "./automatic.ts";
import type { Late } from "./commit.ts";
import { refuseContended, releaseContended } from "./contention.ts";
import { restartReasonOf } from "./counts.ts";
import {
  type Effected,
  foreignEdits,
  type Ground,
  handlersInUse,
  owedEffect,
  prepareGround,
  takeEffect,
} from "./effect.ts";
import type { Environment } from "./environment.ts";
import { isRecorded, type Latest, latestOf, takeTurn } from "./epoch.ts";
import { isStill, readEngine } from "./gather.ts";
import { holdOf, holdsAfter } from "./hold.ts";
import { unfinished } from "./journal.ts";
import { isSettled, lateWords, mergeLate } from "./late.ts";
import { type Adoption, type Change, type Outcome, type Proof, withState } from "./outcome.ts";
import { cleanFolders, makeFolders, missingFolders, recordOwner } from "./owner.ts";
import { adoptedIn, adoptsAny, type Planned, prepare, recordedOf, refuseUnwritable } from "./plan.ts";
import { proveMerge } from "./prove_merge.ts";
import { knownRecord, rebuildRecord } from "./rebuild.ts";
import { type Hold, handlersIn, type NodeRecord, orderIn, type Pending, rootOf } from "./record.ts";
import type { Recovery } from "./recover.ts";
import type { Request } from "./request.ts";
import { changeHolds } from "./set_hold.ts";
import { type NodeState, openState } from "./state.ts";

/**
 * Plans and proves without a lock and without writing anything: what `diff` and `--dry-run` show. It refuses
 * what the run would refuse.
 */
export async function preview(
  env: Environment,
  ask: Request | Deferred,
  /** What to do about the state of a newer release: a run refuses it, and so does its rehearsal. */
  newer: "refuse" | "read" = "refuse",
): Promise<Outcome> {
  await loadLibc();
  const state = openState((path) => env.host.real(path), env.now);
  if (newer === "refuse") state.refuseNewer();
  refuseAutomatic(env, state, ask.owner);
  const open = unfinished(state.lastOperation());
  if (open.length > 0) (await import("./recover.ts")).refuseOtherEngine(env, open);
  const request = "decide" in ask ? ask.decide(env, state) : ask;
  if ("result" in request) return request;
  const known = knownRecord(state, env.site.rootFile, env.now());
  const turn = turnOf(env, known, request);
  if ("result" in turn) return turn;
  refuseContended(env, known, turn);
  const { seen, view } = readEngine(env.host, env.backend, env.site);
  state.rebuild(() => rebuildRecord(view, env.site.rootFile, state.journal(), env.now()));
  const planned = prepare(env, turn, seen, view, recordedOf(env, state, request));
  const shared = refuseUnwritable(env, planned.edits);
  const needed = planned.edits.length > 0;
  const { restartedBy: by } = env.site;
  const would =
    by === undefined ? "the engine would be restarted" : `${by} would restart the engine by itself`;
  const words = needed ? would : "nothing to restart for";
  const warnings = [...planned.warnings, ...shared];
  return outcome({ ...planned, warnings }, planned.edits.map(asChange), planned.notes, {
    restart: { done: false, needed, words },
    adopted: adoptions(planned.edits),
  });
}

/** What is asked for depends on what was done before, which is known for certain only under the lock. */
export interface Deferred {
  readonly owner: string;
  /** The outcome itself where there is nothing to do at all. */
  readonly decide: (env: Environment, state: NodeState) => Request | Outcome;
}

/** Carries out one transaction. The caller holds the node's lock. */
export async function run(env: Environment, ask: Request | Deferred): Promise<Outcome> {
  const state = openState((path) => env.host.real(path), env.now);
  state.refuseNewer();
  refuseAutomatic(env, state, ask.owner);
  const { notes } = await recoverOpen(env, state);
  try {
    // What a person had begun to take away is on hold once it is finished.
    if (notes.length > 0) refuseAutomatic(env, state, ask.owner);
    const request = "decide" in ask ? ask.decide(env, state) : ask;
    if ("result" in request) return { ...request, notes: [...notes, ...request.notes] };
    const known = knownRecord(state, env.site.rootFile, env.now());
    const turn = turnOf(env, known, request);
    if ("result" in turn) return { ...turn, notes };
    refuseContended(env, known, turn);
    const made = await change(env, turn, state, notes);
    return env.cluster === undefined ? made : await env.cluster.after(env, state, turn, made);
  } catch (error) {
    if (notes.length === 0) throw error;
    const words =
      error instanceof ShimctlError && error.facts.state !== undefined ? [] : ["nothing else was written"];
    throw withState(error, [...notes, ...words].join("; "), env.host.root);
  } finally {
    tidy(state);
  }
}

/** Finishes or undoes what is open. Nearly always nothing is, and what would do it need not be loaded. */
async function recoverOpen(
  env: Environment,
  state: NodeState,
  why?: string,
  late?: readonly Late[],
): Promise<Recovery> {
  if (unfinished(state.lastOperation()).length === 0) return { outcome: "none", details: [], notes: [] };
  return (await import("./recover.ts")).recover(env, state, why, late);
}

/**
 * The request as the owner's present incarnation makes it; or that it does nothing, as what is recorded is newer.
 */
function turnOf(env: Environment, record: NodeRecord, request: Request): Request | Outcome {
  const { owner, incarnation, intent, outOfOrder = false } = request;
  if (outOfOrder) return request;
  const { rootFile } = env.site;
  const turn = takeTurn(
    orderIn(record, rootFile, owner, env.now()),
    owner,
    intent.command,
    incarnation,
    env.now(),
    env.caller?.automatic,
  );
  if (turn.kind === "go on") return { ...request, incarnation: turn.incarnation };
  const handlers = handlersIn(record, rootFile, owner);
  return {
    result: "superseded",
    changes: [],
    handlers,
    previous: handlers,
    warnings: [],
    notes: [],
    proof: { rules: "not run", "engine-parser": "not run", served: "not run" },
    expectation: { present: [], absent: [] },
    restart: { done: false, needed: false, words: turn.words },
    recorded: turn.latest,
    adopted: [],
    pendingRemoval: [],
    pendingForeign: [],
  };
}

/** How far a change has come: what its failure means depends on it. */
interface Progress {
  readonly changes: Change[];
  /** The edits that took over what others had defined. */
  readonly adopting: FileEdit[];
  /** What watches the files that were displaced. */
  readonly late: Late[];
  /** The files into which a late edit of another program was merged, after the engine had read them. */
  mergedLate: readonly string[];
  first: Planned | undefined;
  /** The last one that was carried out. */
  last: Planned | undefined;
  ground: Ground | undefined;
  /** That others may write there too, by the engine's own design. */
  shared: readonly Problem[];
  /** Handlers that pods use, and that `apply` therefore leaves. */
  inUse: ReadonlySet<string>;
  /** What the record says of it afterwards. */
  hold: Hold | undefined;
  complete: boolean;
}

async function change(
  env: Environment,
  request: Request,
  state: NodeState,
  notes: readonly string[],
): Promise<Outcome> {
  const progress: Progress = {
    changes: [],
    adopting: [],
    late: [],
    mergedLate: [],
    first: undefined,
    last: undefined,
    ground: undefined,
    shared: [],
    inUse: new Set(),
    hold: undefined,
    complete: false,
  };
  try {
    return await changeUntilStill(env, request, state, notes, progress);
  } catch (error) {
    // What could not be verified stays open: there is no evidence against it.
    const open = error instanceof ShimctlError && error.code === "cannot-verify";
    if (progress.first === undefined) throw error;
    if (!open) throw await undone(env, state, progress, error);
    const words = lateWords(await mergeLate(progress.late));
    throw words.length === 0 ? error : withState(error, words.join("; "), env.host.root);
  } finally {
    for (const late of progress.late) late.close();
  }
}

/** Commits and plans again until a plan is empty. */
async function changeUntilStill(
  env: Environment,
  request: Request,
  state: NodeState,
  notes: readonly string[],
  progress: Progress,
): Promise<Outcome> {
  const { host } = env;
  const { changes } = progress;
  const operation = randomUUID();
  const clusterNotes: string[] = [];
  for (let attempt = 0; ; ) {
    throwIfStopped(env);
    const planned = asPlanned(env, progress) ?? planNow(env, state, request, progress);
    if (planned.edits.length === 0) {
      const first = progress.first ?? planned;
      const effected = await inEffect(env, state, operation, request, planned, progress);
      const { previous, expectation, proof } = first;
      const { mergedLate: late } = progress;
      const proved: Proof = { ...proof, served: effected.served ? "passed" : "not run" };
      const foreign = progress.ground?.foreign ?? (await staged(env, state, planned.seen));
      const also =
        effected.restart.done && foreign.length > 0
          ? [`the restart brought others' changes into effect too: ${foreign.join(", ")}`]
          : [];
      return outcome(
        {
          ...planned,
          previous,
          expectation,
          proof: proved,
          warnings: [...planned.warnings, ...progress.shared],
        },
        squash(changes),
        [...notes, ...clusterNotes, ...first.notes, ...also, ...lateWords({ paths: late, failures: [] })],
        {
          restart: effected.restart,
          adopted: adoptions(progress.adopting),
          pendingRemoval: [...progress.inUse],
          pendingForeign: effected.restart.done ? late : foreign,
          hold: progress.hold,
        },
      );
    }
    if (attempt++ > request.retries) throw tooBusy(planned);
    if (progress.first === undefined) {
      try {
        progress.ground = await prepareGround(env, state, planned.effect, planned.seen);
      } catch (error) {
        throwIfStopped(env);
        progress.inUse = keepForNow(request, error, progress.inUse);
        // That was a plan on what pods use, not on what somebody else wrote.
        attempt--;
        continue;
      }
      // Pods must not be sent here any more when the first file changes.
      clusterNotes.push(...((await env.cluster?.before(env, state, request.owner, planned.handlers)) ?? []));
      throwIfStopped(env);
    }

    env.step("journal");
    progress.shared = refuseUnwritable(env, planned.edits);
    const folders = missingFolders(host, planned.edits);
    if (progress.first === undefined) begin(env, state, operation, request, planned, folders);
    progress.first ??= planned;
    progress.last = planned;
    makeFolders(host, state, folders);

    env.step("commit");
    for (const edit of planned.edits) {
      throwIfStopped(env);
      const made = await commit(env, state, operation, request, edit, progress.late);
      if (made === undefined) break;
      changes.push(asChange(made));
      if (made.adopts !== undefined) progress.adopting.push(made);
    }
  }
}

/** Reads the engine's configuration as it stands, and plans on it. */
function planNow(env: Environment, state: NodeState, request: Request, progress: Progress): Planned {
  env.step("read");
  const { seen, view } = readEngine(env.host, env.backend, env.site);
  state.rebuild(() => rebuildRecord(view, env.site.rootFile, state.journal(), env.now()));
  env.step("plan");
  return prepare(env, request, seen, view, recordedOf(env, state, request), progress.inUse);
}

/**
 * The plan that was carried out, with nothing left to do, where every file is byte for byte what that plan made
 * and checked; `undefined` where anything differs. A plan is a function of these bytes: on them it would be empty.
 */
function asPlanned({ host }: Environment, { last }: Progress): Planned | undefined {
  if (last === undefined || !isStill(host, last.candidate)) return undefined;
  return { ...last, seen: last.candidate, edits: [], previous: last.handlers };
}

/** An exact set may wait for its pods to end: what is in use is kept, and goes with a later run. */
function keepForNow(request: Request, error: unknown, known: ReadonlySet<string>): ReadonlySet<string> {
  const used = handlersInUse(error).filter((name) => !known.has(name));
  if (request.intent.command !== "apply" || used.length === 0) throw error;
  return new Set([...known, ...used]);
}

/** What others changed and the engine does not run with, where nothing had to be asked of it. */
async function staged(env: Environment, state: NodeState, seen: Snapshot): Promise<readonly string[]> {
  const unit = await env.activation?.live.unit().catch(() => undefined);
  return unit?.active === "active" ? foreignEdits(state, seen, unit.activeSince) : [];
}

/** Every file is in place. Brings that into effect, and records it. */
async function inEffect(
  env: Environment,
  state: NodeState,
  operation: string,
  request: Request,
  planned: Planned,
  progress: Progress,
): Promise<Effected> {
  const why = (writes: boolean) =>
    restartReasonOf({ command: request.intent.command, mends: request.mends }, writes);
  if (progress.first !== undefined) {
    throwIfStopped(env);
    const { effect } = progress.first;
    const effected = await takeEffect(env, state, operation, effect, progress.ground, why(true));
    await finish(env, state, operation, request, planned, progress, effected.pending);
    return effected;
  }
  const { pending: owing } = rootOf(state.readRecord().record, env.site.rootFile);
  const isUnserved = owing === undefined && request.mends?.cause === "not-served";
  const pending = isUnserved ? { since: env.now().toISOString() } : owing;
  const idle: Effected = {
    restart: { done: false, needed: owing !== undefined, words: "nothing to restart for" },
    served: false,
    pending: owing,
  };
  const ground =
    env.activation === undefined || pending === undefined
      ? undefined
      : await prepareGround(env, state, planned.effect, planned.seen, true);
  progress.ground = ground;
  const isServed =
    ground?.baseline.kind === "running" &&
    isSubset(planned.effect.expectation.present, ground.baseline.served);
  if (ground === undefined || pending === undefined || (isUnserved && isServed)) {
    progress.hold = rememberFound(env, state, request, planned);
    return idle;
  }
  const owed = await owedEffect(env, pending, planned.effect, ground);
  let effected: Effected = { ...idle, restart: { ...idle.restart, needed: false }, served: owed === "seen" };
  if (owed === "restart") {
    // Should the engine not work with what was written then, that is what it can do without.
    const { baseline } = ground;
    const works = ({ name }: Handler) => baseline.kind !== "running" || baseline.served.includes(name);
    const previous = planned.previous.filter(works);
    const { folders } = state.readRecord().record;
    begin(env, state, operation, request, { ...planned, previous }, folders);
    progress.first = planned;
    effected = await takeEffect(env, state, operation, planned.effect, ground, why(false));
    state.append(operation, { step: "complete" });
  }
  const { bases, order } = planned;
  const mended = owed === "restart" ? request.mends : undefined;
  recordOwner(env, state, request.owner, planned.handlers, { bases, order, mended, caller: env.caller });
  if (owed === "restart") state.append(operation, { step: "end", result: "changed" });
  return effected;
}

/** A failed change undoes itself and says so; where that fails too, the next run does it from the journal. */
async function undone(
  env: Environment,
  state: NodeState,
  { changes, complete, late }: Progress,
  error: unknown,
): Promise<ShimctlError> {
  try {
    const { outcome: became, details } = await recoverOpen(env, state, reasonOf(error), late);
    const words = {
      finished: "the change was made and recorded all the same",
      undone: changes.length > 0 ? "the change was undone" : "nothing of the change is in place",
      none: complete
        ? "the change was made and recorded all the same"
        : "every file is the complete old one or the complete new one; `shimctl status` shows which",
    }[became];
    return withState(error, [...details, words].join("; "), env.host.root);
  } catch (second) {
    if (second instanceof ShimctlError && second.code === "undo-failed")
      return withState(second, `it was undone because: ${error instanceof Error ? error.message : error}`);
    const { message, facts } = withState(second, "", env.host.root);
    const told = [`undoing it failed as well: ${message}`, ...(facts.state ? [facts.state] : [])];
    return withState(error, told.join("; "), env.host.root);
  }
}

/** For the journal, which holds nothing that was not redacted: only our own errors are. */
function reasonOf(error: unknown): string {
  return error instanceof ShimctlError ? error.message : "an internal error";
}

/** What was decided stays so: cleaning up is no reason to call a change failed. */
function tidy(state: NodeState): void {
  try {
    state.prune();
  } catch {
    // The next run tries again.
  }
}

function throwIfStopped(env: Environment): void {
  if (env.signal?.aborted !== true) return;
  throw new ShimctlError("interrupted", "Stopped by a signal before the change was complete", {
    hint: "run the same command again",
    retryable: true,
  });
}

function tooBusy(planned: Planned): ShimctlError {
  const path = planned.edits[0]?.path;
  return new ShimctlError("conflict", "Gave up, as another program keeps writing this file", {
    ...(path === undefined ? {} : { path }),
    state: "nothing of theirs was lost, and our change is not in place",
    hint: "find the other writer, or pass a larger --retries",
    retryable: true,
  });
}

function begin(
  env: Environment,
  state: NodeState,
  operation: string,
  request: Request,
  planned: Planned,
  folders: readonly string[],
): void {
  state.append(operation, {
    step: "begin",
    command: request.intent.command,
    owner: request.owner,
    engine: env.backend.name,
    rootFile: env.site.rootFile,
    previous: [...planned.previous],
    desired: [...planned.handlers],
    bases: planned.bases,
    ...(planned.order === undefined ? {} : { order: planned.order }),
    ...(adoptsAny(request, planned.recorded) ? { adopted: adoptedIn(planned.edits) } : {}),
    folders: [...folders],
    ...(Object.keys(planned.recorded.bases).length === 0 ? {} : { previousBases: planned.recorded.bases }),
    ...(request.intent.command === "rollback" ? { reverts: [...request.intent.reverts] } : {}),
    ...(env.caller === undefined ? {} : { caller: env.caller }),
    ...(request.mends === undefined
      ? {}
      : { mends: { cause: request.mends.cause, handlers: [...request.mends.handlers] } }),
  });
}

/** How often an edit is made again on a file that moved, before the whole node is read and judged anew. */
const quickTries = 5;

/** Returns what was done, or `undefined` where the file needs a new plan. */
async function commit(
  env: Environment,
  state: NodeState,
  operation: string,
  request: Request,
  edit: FileEdit,
  late: Late[],
): Promise<FileEdit | undefined> {
  const hash = (bytes: Uint8Array | null) => (bytes === null ? null : sha256(bytes));
  // Most runs find nothing to do.
  const { commitFile } = await import("./commit.ts");
  // A run that is cut short leaves to the next one what it displaced, which is merged on this.
  if (edit.before !== null) state.store(edit.before);
  const result = await commitFile(env.host, edit, {
    retries: request.retries,
    // What is taken over is judged first, and stored: undoing needs the very bytes.
    again: edit.adopts === undefined ? quickTries : 0,
    journal: (intent) => {
      state.append(operation, { step: "intent", ...intent });
    },
    onKept: (bytes, why) => {
      const store = state.keepAside(bytes);
      state.append(operation, { step: "kept", path: edit.path, store, why });
      return store;
    },
    onHeld: (held) => late.push(held),
    prove: (current, merged) => proveMerge(env, edit.path, current, merged),
  });
  if (result.stale) return undefined;
  const made = result.made ?? edit;
  state.append(operation, {
    step: "committed",
    path: made.path,
    before: hash(made.before),
    after: hash(made.after),
  });
  return made;
}

async function finish(
  env: Environment,
  state: NodeState,
  operation: string,
  request: Request,
  planned: Planned,
  progress: Progress,
  pending: Pending | undefined,
): Promise<void> {
  env.step("record");
  state.append(operation, { step: "complete" });
  progress.complete = true;
  const { owner, intent } = request;
  const { record: before } = state.readRecord();
  const holds = holdsAfter(before, owner, intent.command, env.caller, env.now());
  const { bases, order } = planned;
  const adopted = adoptedIn(progress.adopting);
  const { mends: mended } = request;
  const left = { bases, adopted, order, pending, holds, mended, caller: env.caller };
  const record = recordOwner(env, state, owner, planned.handlers, left);
  progress.hold = holdOf(record, owner, env.now());
  // As late as can be, and while a run that is cut short would still be finished.
  const late = await mergeLate(progress.late);
  progress.mergedLate = late.paths;
  const open = late.failures.find((each) => !isSettled(each));
  if (open === undefined) state.append(operation, { step: "end", result: "changed" });
  const failure = open ?? late.failures[0];
  if (failure === undefined) return;
  const failures = late.failures.filter((each) => each !== failure);
  throw withState(failure, lateWords({ ...late, failures }).join("; "), env.host.root);
}

/** An empty plan writes nothing, but for a record that says something else than the files. @returns the hold it leaves */
function rememberFound(
  env: Environment,
  state: NodeState,
  request: Request,
  planned: Planned,
): Hold | undefined {
  const names = (handlers: readonly Handler[]) => handlers.map((handler) => handler.name).sort();
  const { recorded, bases, order } = planned;
  const same =
    isSame(names(planned.handlers), names(recorded.handlers)) &&
    isSame(bases, recorded.bases) &&
    (order === undefined || isRecorded(recorded.known, order));
  const { record, lost } = state.readRecord();
  const { owner, intent } = request;
  // What the files say of an owner is written down again.
  const rebuilt = lost && Object.keys(record.roots).length > 0;
  // What a person finds to be so already is wanted by them now; nothing was taken away that could come back.
  const isWanted = intent.command === "install" || intent.command === "apply";
  // What others had taken away already and was ours still by the record, an automatic run would bring back.
  const isDropped = !isWanted && planned.handlers.length < recorded.handlers.length;
  if ((isDropped || (isWanted && record.holds !== undefined)) && env.caller !== undefined) {
    const holds = holdsAfter(record, owner, intent.command, env.caller, env.now());
    changeHolds(state, holds, env.caller.who, env.now());
  }
  if (isWanted && env.caller?.automatic === false) releaseContended(state, owner, env.caller.who, env.now());
  // A folder of ours that could not be removed with the last handler may go now.
  const isUnused = !lost && Object.keys(record.roots).length === 0 && record.folders.length > 0;
  if (same && isUnused) cleanFolders(env, state, []);
  const next =
    same && !rebuilt
      ? state.readRecord().record
      : recordOwner(env, state, owner, planned.handlers, {
          bases,
          order,
          pending: "as it was",
          caller: env.caller,
        });
  return holdOf(next, owner, env.now());
}

function isSubset(some: readonly string[], all: readonly string[]): boolean {
  return some.every((name) => all.includes(name));
}

function asChange(edit: FileEdit): Change {
  return {
    path: edit.path,
    action: edit.before === null ? "create" : edit.after === null ? "remove" : "edit",
    before: edit.before,
    after: edit.after,
  };
}

function adoptions(edits: readonly FileEdit[]): Adoption[] {
  return edits.flatMap(({ before, adopts = [] }) => {
    const store = before === null ? "" : sha256(before);
    return adopts.map((each) => ({ ...each, store }));
  });
}

/** One line for each file, however often it had to be written. */
function squash(changes: readonly Change[]): Change[] {
  const paths = [...new Set(changes.map((change) => change.path))];
  return paths.flatMap((path) => {
    const own = changes.filter((change) => change.path === path);
    const [first] = own;
    const last = own.at(-1);
    if (first === undefined || last === undefined) return [];
    return [
      {
        path,
        action: first.before === null ? "create" : last.after === null ? "remove" : "edit",
        before: first.before,
        after: last.after,
      },
    ];
  });
}

function outcome(
  planned: Planned,
  changes: readonly Change[],
  notes: readonly string[],
  more: Pick<Outcome, "restart"> &
    Partial<Pick<Outcome, "adopted" | "pendingRemoval" | "pendingForeign" | "hold">>,
): Outcome {
  const { handlers, previous, warnings, proof, expectation } = planned;
  const recorded = latestAfter(planned);
  return {
    result: changes.length === 0 ? "unchanged" : "changed",
    changes,
    handlers,
    previous,
    warnings,
    notes,
    proof,
    expectation,
    recorded,
    adopted: [],
    pendingRemoval: [],
    pendingForeign: [],
    ...more,
  };
}

/** What is recorded of the owner's incarnations once the plan is carried out. */
function latestAfter({ order, handlers, recorded }: Planned): Latest | undefined {
  const isNone = handlers.length === 0;
  if (order !== undefined) {
    const { epoch, instance, ends } = order;
    return { epoch, instance, uninstalled: ends && isNone };
  }
  return latestOf(recorded.known);
}
