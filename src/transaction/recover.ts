import { lstatSync, type Stats } from "node:fs";
import { basename, dirname } from "node:path";
import type { Adopting, EngineView, FileEdit } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import { type Look, lookAt, sameBytes } from "../host/exchange.ts";
import { leaseHolds } from "../host/lease.ts";
import { type Libc, loadLibc } from "../host/libc/libc.ts";
import { removeState } from "../host/state.ts";
import { partOf, tempName } from "../host/temp_name.ts";
import { sha256 } from "../sha256.ts";
import { activate, bringBack, cannotVerify, type RestartLine } from "./activate.ts";
import { asItWas } from "./as_it_was.ts";
import { commitFile, type Late } from "./commit.ts";
import { restartReasonOf } from "./counts.ts";
import type { Environment } from "./environment.ts";
import { gather, readEngine } from "./gather.ts";
import { holdsAfter } from "./hold.ts";
import { type Unfinished, unfinished } from "./journal.ts";
import { isSettled, lateWords, mergeLate } from "./late.ts";
import { mergeForeign } from "./merge.ts";
import { withState } from "./outcome.ts";
import { cleanFolders, makeFolders, missingFolders, recordOwner, recordUndone } from "./owner.ts";
import { proveMerge } from "./prove_merge.ts";
import { rebuildRecord } from "./rebuild.ts";
import { adoptedBy, type Pending, rootOf, withOwner, withRoot } from "./record.ts";
import { holdAgain } from "./restraint.ts";
import type { NodeState } from "./state.ts";

/** How long a program that has a displaced file open for writing may take to close it, in ms. */
const patienceMs = 10_000;
/** How often something is tried again because another program wrote in between. */
const attempts = 20;

export interface Recovery {
  /** What became of the operation that was unfinished; `none`: there was none. */
  readonly outcome: "finished" | "undone" | "none";
  /** What became of other programs' edits, in words for people. */
  readonly details: readonly string[];
  /** The details, then what was done. */
  readonly notes: readonly string[];
}

/**
 * Finishes or undoes what an earlier run left, from the journal alone. A temporary file goes only when its
 * bytes are those that the journal names, or are in the file, or kept aside.
 *
 * Throws ShimctlError whose `state` tells how far it came: `conflict`, retryable, while somebody still
 * writes a displaced file; the journal is as it was then
 *
 * @param why it is undone, where that is known: for the journal
 * @param made what watches the files that the operation displaced, where it is this process's own
 */
export async function recover(
  env: Environment,
  state: NodeState,
  why?: string,
  made: readonly Late[] = [],
): Promise<Recovery> {
  const [operation] = unfinished(state.lastOperation());
  if (operation === undefined) return { outcome: "none", details: [], notes: [] };
  refuseOtherEngine(env, [operation]);
  refuseOtherUnit(env, operation);
  env.step("recover");
  const { begin, complete } = operation;
  const libc = await loadLibc();
  const rootFile = begin.rootFile ?? env.site.rootFile;
  const work: Work = {
    libc,
    env: { ...env, site: { ...env.site, rootFile } },
    state,
    operation,
    details: [],
    late: [],
  };
  let isUndone = false;
  const settleLate = async (): Promise<void> => {
    const all = [await mergeLate(made, isUndone), await mergeLate(work.late)];
    work.details.push(...all.flatMap(lateWords));
    const [failure] = all.flatMap(({ failures }) => failures.filter((error) => !isSettled(error)));
    if (failure !== undefined) throw failure;
  };
  let outcome: "finished" | "undone" = complete ? "finished" : "undone";
  try {
    const isRepair = begin.command === "repair";
    // While a file is damaged still, nobody can tell which files are the engine's: the next repair ends this one.
    if (isRepair) gather(env.host, env.backend, work.env.site);
    rebuild(work);
    const isKnown = knownFiles(work.env);
    for (const intent of operation.intents) await settleTemp(work, intent, isKnown);
    if (isRepair && !complete) leaveRepaired(work);
    const resumed = complete || isRepair ? "finished" : await resume(work);
    if (isRepair) {
      outcome = "finished";
    } else if (resumed === "finished") {
      outcome = "finished";
      recordOwner(work.env, state, begin.owner, begin.desired, {
        bases: begin.bases ?? {},
        order: begin.order,
        adopted: begin.adopted,
        pending: work.pending ?? (operation.restart === undefined ? { since: begin.time } : undefined),
        holds: holdsAfter(state.readRecord().record, begin.owner, begin.command, begin.caller, env.now()),
        mended: begin.mends,
        caller: begin.caller,
      });
    } else {
      isUndone = true;
      await undo(work);
      if (operation.restart !== undefined) await reactivate(work, operation.restart, resumed.against);
      recordUndone(work.env, state, begin.owner, begin.order);
    }
    const reason = outcome === "undone" ? { why: why ?? "it was cut short" } : {};
    await settleLate();
    state.append(begin.operation, { step: "end", result: outcome, ...reason });
  } catch (error) {
    // Said with the details; what went wrong first counts.
    await settleLate().catch(() => undefined);
    if (error instanceof ShimctlError && error.code === "undo-failed")
      state.append(begin.operation, { step: "end", result: "undo failed", code: error.code });
    if (error instanceof ShimctlError && (error.code === "undo-failed" || error.code === "cannot-verify"))
      throw withState(error, work.details.join("; "), env.host.root);
    const left = complete
      ? "is in place; the next run records it"
      : "is not complete, though every file is; the next run undoes it";
    const what =
      begin.command === "repair" && !complete
        ? "an earlier repair is not complete, though every file is; `shimctl repair` ends it"
        : `the ${begin.command} of owner '${begin.owner}' ${left}`;
    const words = [...work.details, what];
    throw withState(error, words.join("; "), env.host.root);
  } finally {
    for (const late of work.late) late.close();
  }
  const verb = outcome === "finished" ? "finished" : "undid";
  const what = begin.command === "repair" ? "a repair" : `an ${begin.command} of owner '${begin.owner}'`;
  const done = `${verb} ${what} that was cut short`;
  return { outcome, details: work.details, notes: [...work.details, done] };
}

/** The files are in between by now: what the operation's owner had before, the journal says. */
function rebuild({ env, state, operation }: Work): void {
  const { owner, previous, bases } = operation.begin;
  const { rootFile } = env.site;
  state.rebuild(() => {
    let view: EngineView | undefined;
    try {
      ({ view } = readEngine(env.host, env.backend, env.site));
    } catch (error) {
      // What cannot be read now is said by whoever needs it.
      if (!(error instanceof ShimctlError)) throw error;
    }
    const known = rebuildRecord(view, rootFile, state.journal(), env.now());
    return withOwner(known, rootFile, owner, previous, env.now().toISOString(), { bases });
  });
}

/** Throws where what is unfinished is another engine's: this one's rules do not apply to its files. */
export function refuseOtherEngine(env: Environment, operations: readonly Unfinished[]): void {
  for (const { begin } of operations) {
    if (begin.engine === undefined || begin.engine === env.backend.name) continue;
    throw new ShimctlError(
      "conflict",
      `Cannot begin, as an ${begin.command} of owner '${begin.owner}' for another engine was cut short: ${begin.engine}`,
      { hint: `run that command again first, with --engine ${begin.engine}` },
    );
  }
}

/** Throws where the engine was restarted as another unit: what this one says is no evidence. */
function refuseOtherUnit({ activation }: Environment, { begin, complete, restart }: Unfinished): void {
  if (complete || activation === undefined || restart === undefined) return;
  if (restart.unit === activation.live.unitName) return;
  throw new ShimctlError(
    "conflict",
    `Cannot begin, as an ${begin.command} of owner '${begin.owner}' was cut short that restarted another unit: ${restart.unit}`,
    { hint: `run that command again first, with --unit ${restart.unit}` },
  );
}

interface Work {
  readonly libc: Libc;
  readonly env: Environment;
  readonly state: NodeState;
  readonly operation: Unfinished;
  readonly details: string[];
  /** What watches the files that it displaces itself. */
  readonly late: Late[];
  /** Set where the engine was not seen to serve what was finished. */
  pending?: Pending;
}

/**
 * A run that ended between the restart and its proof: what it waited for is waited for again, with at most
 * one restart more. `against`: the evidence that the engine does not work with the change.
 */
async function resume(work: Work): Promise<"finished" | { readonly against: string }> {
  const { env, state, operation } = work;
  const { begin, restart, failed } = operation;
  if (restart === undefined || failed !== undefined) return { against: failed?.why ?? "" };
  const { activation } = env;
  const unit = await activation?.live.unit().catch(() => undefined);
  if (activation === undefined || unit?.active === "inactive") {
    work.pending = { since: restart.time };
    state.append(begin.operation, { step: "complete" });
    return "finished";
  }
  // Where nobody can tell, a restart that was begun twice is not begun again: it may be what ends us.
  const restarted =
    unit === undefined
      ? operation.restarted || operation.restarts > 1
      : unit.invocation !== restart.invocation;
  if (!restarted) {
    const { format: _, time: __, operation: id, ...line } = restart;
    state.append(id, line);
  }
  const reason = restartReasonOf(begin, operation.intents.length > 0);
  const verdict = await activate(
    env,
    activation,
    state,
    begin.operation,
    begin.owner,
    restart,
    restarted,
    reason,
  );
  // What was broken before cannot speak against what was done.
  if (verdict.kind !== "served" && restart.broken !== true) {
    const isOver = activation.undoOnTimeout && env.signal?.aborted !== true;
    if (verdict.kind === "unknown" && !isOver) throw cannotVerify(activation.live, verdict.why, begin.owner);
    const why = verdict.kind === "failed" ? verdict.why : `it was not seen in time that ${verdict.why}`;
    state.append(begin.operation, { step: "failed", why });
    return { against: why };
  }
  state.append(begin.operation, { step: "complete" });
  return "finished";
}

/** The engine may have been started with what is undone now. */
async function reactivate(
  { env, state, operation, details }: Work,
  restart: RestartLine,
  why: string,
): Promise<void> {
  const { begin, restores } = operation;
  const { record } = state.readRecord();
  const root = rootOf(record, env.site.rootFile);
  // An undoing that was cut short has noted it.
  const held = restores.length > 0 ? root.held?.[begin.owner] : undefined;
  const again = held ?? holdAgain(root.held?.[begin.owner], restart.inputs, why, env.now());
  // Where the engine is left alone, the next run makes up for that, unless it was started since.
  const pending = env.activation === undefined ? { since: env.now().toISOString() } : root.pending;
  state.writeRecord(
    withRoot(record, env.site.rootFile, {
      ...root,
      pending,
      held: { ...root.held, [begin.owner]: again },
    }),
  );
  if (env.activation === undefined) {
    details.push(`${restart.unit} may still run with it until it is restarted`);
    return;
  }
  await bringBack(env, env.activation, state, begin.owner, restart, restores);
}

/** Nobody wants a damaged file back: what was mended stays, and the next repair mends the rest. */
function leaveRepaired({ env, state, operation }: Work): void {
  const { record } = state.readRecord();
  const { rootFile } = env.site;
  const pending = { since: operation.restart?.time ?? operation.begin.time };
  state.writeRecord(withRoot(record, rootFile, { ...rootOf(record, rootFile), pending }));
}

type IntentLine = Unfinished["intents"][number];

/** Which files are the engine's, or could be: those it reads, and those in the folders where it looks for more. */
function knownFiles(env: Environment): (path: string) => boolean {
  const { host, backend, site } = env;
  const files = new Set([site.rootFile]);
  const folders = new Set<string>();
  try {
    const seen = gather(host, backend, site);
    for (const path of seen.files.keys()) files.add(path);
    for (const path of seen.folders.keys()) folders.add(path);
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
  }
  return (path) => files.has(path) || folders.has(dirname(path));
}

/**
 * The real path of a temporary file that the journal names; `undefined` when nothing is there. The journal
 * is a file like any other: what it names is only touched when it can be ours.
 * Throws Odd
 */
function tempOf(
  env: Environment,
  intent: IntentLine,
  isKnown: (path: string) => boolean,
): string | undefined {
  const { path, target, temp } = intent;
  const name = basename(temp);
  const folder = dirname(temp);
  let real: string;
  let besideFolder: string;
  let stat: Stats | undefined;
  try {
    besideFolder = env.host.resolve(dirname(dirname(path)));
    real = `${env.host.real(folder)}/${name}`;
    stat = lstatSync(real, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
  if (stat === undefined) return undefined;
  const isOurName = tempName.test(name) && name.startsWith(`.${basename(target)}.shimctl-`);
  if (!isOurName) throw new Odd("its name is not one that shimctl gives");
  const isPlain = [temp, target].every((at) => at.startsWith("/") && !at.split("/").includes(".."));
  // Beside CRI-O's drop-in folder, which the target has left where the drop-in is a link.
  const places = [dirname(target), dirname(dirname(target)), besideFolder];
  if (!isPlain || !places.includes(folder))
    throw new Odd("it is not beside the file that it is said to be of");
  if (!isKnown(path)) throw new Odd(`the engine does not read what it is said to be of, ${path}`);
  if (!stat.isFile()) throw new Odd("it is not a regular file");
  return real;
}

/** Why a temporary file is left alone; told to the user. */
class Odd extends Error {}

async function settleTemp(work: Work, intent: IntentLine, isKnown: (path: string) => boolean): Promise<void> {
  const { env, libc, details } = work;
  let real: string | undefined;
  try {
    const part = tempOf(env, { ...intent, temp: partOf(intent.temp) }, isKnown);
    // Nobody exchanges it with anything: it holds what we wrote, as far as that came.
    if (part !== undefined) removeState(part);
    real = tempOf(env, intent, isKnown);
  } catch (error) {
    if (!(error instanceof Odd)) throw error;
    details.push(`left ${intent.temp} alone, as ${error.message}`);
    return;
  }
  if (real === undefined) return;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const look = await lookAt(libc, real, patienceMs);
    try {
      if (look.bytes === null) return;
      if (look.quiet === "no") throw stillWritten(intent);
      if (await settleBytes(work, intent, look, look.bytes, real)) return;
    } finally {
      look.close();
    }
  }
  throw stillWritten(intent);
}

/** @returns false when somebody came to write meanwhile: look again */
async function settleBytes(
  work: Work,
  intent: IntentLine,
  look: Look,
  bytes: Uint8Array,
  real: string,
): Promise<boolean> {
  const { libc, operation, details } = work;
  // With a lease, whoever opens the file to write waits until it is given up: it shows in time.
  const isFinal = () =>
    !look.changed() && (look.quiet !== "yes" || look.fd === undefined || leaseHolds(libc, look.fd));
  const hash = sha256(bytes);
  if (operation.intents.some((other) => other.before === hash || other.after === hash)) {
    if (!isFinal()) return false;
    removeState(real);
    return true;
  }
  // Until it is in the file or kept aside for good, the temporary file itself is what keeps it.
  const merged = await mergeBack(work, intent, bytes);
  if (!isFinal()) return false;
  if (merged) {
    details.push(`merged an edit of another program back into ${intent.path}`);
  } else {
    const kept = keepAside(work, intent.path, bytes, "displaced by an operation that was cut short");
    details.push(`kept another program's version of ${intent.path} as ${kept}`);
  }
  removeState(real);
  return true;
}

function keepAside({ state, operation }: Work, path: string, bytes: Uint8Array, why: string): string {
  const store = state.keepAside(bytes);
  state.append(operation.begin.operation, { step: "kept", path, store, why });
  return store;
}

function stillWritten({ path, temp }: IntentLine): ShimctlError {
  return new ShimctlError("conflict", "Cannot tell what another program writes, as it is not done yet", {
    path,
    state: `its version of the file is ${temp}, where it stays until it is complete`,
    hint: "wait for that program or end it, then run the same command again",
    retryable: true,
  });
}

/**
 * Somebody's edit was displaced, and the run that should have merged it died.
 * @returns whether it is in the file now
 */
async function mergeBack(work: Work, intent: IntentLine, theirs: Uint8Array): Promise<boolean> {
  const { env, state } = work;
  const { path } = intent;
  const base = intent.before === null ? undefined : state.stored(intent.before);
  if (base === undefined) return false;
  // One character for each byte, so that no byte is lost on the way through the merge.
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
  const merge = (current: Uint8Array | null): Uint8Array | null => {
    const result = current === null ? undefined : mergeForeign(text(base), text(current), text(theirs));
    if (current === null || result === undefined || "conflict" in result)
      throw new ShimctlError("conflict", "Cannot merge two edits of the same lines", { path });
    const merged = new Uint8Array(Buffer.from(result.merged, "latin1"));
    if (!sameBytes(merged, current)) proveMerge(env, path, current, merged, theirs);
    return merged;
  };
  for (let attempt = 0; attempt < attempts; attempt++) {
    const read = env.host.read(path);
    if (read.kind !== "file") return false;
    try {
      const after = merge(read.bytes);
      if (sameBytes(after, read.bytes)) return true;
      const { stale } = await commit(work, { ...editOf(path, read.bytes, after, merge), ...placeOf(intent) });
      if (!stale) return true;
    } catch (error) {
      if (error instanceof ShimctlError && error.code === "conflict") return false;
      throw error;
    }
  }
  return false;
}

/** CRI-O reads every file in its drop-in folder: a temporary file stands where the first one stood. */
function placeOf({ temp, target }: IntentLine): { tempDir?: string } {
  return dirname(temp) === dirname(target) ? {} : { tempDir: dirname(temp) };
}

function editOf(
  path: string,
  before: Uint8Array | null,
  after: Uint8Array | null,
  edit: FileEdit["edit"] = () => after,
): FileEdit {
  return { path, before, after, edit, bare: (bytes) => bytes };
}

function commit(work: Work, edit: FileEdit): Promise<{ stale: boolean }> {
  const { env, state, operation, details, late } = work;
  // Should we be cut short as well, the next run needs it to merge what we displaced.
  if (edit.before !== null) state.store(edit.before);
  return commitFile(env.host, edit, {
    retries: attempts,
    again: 5,
    journal: (intent) => state.append(operation.begin.operation, { step: "intent", ...intent }),
    onKept: (bytes, why) => {
      const kept = keepAside(work, edit.path, bytes, why);
      details.push(`kept another program's version of ${edit.path} as ${kept}`);
      return kept;
    },
    onHeld: (held) => late.push(held),
    prove: (current, merged) => proveMerge(env, edit.path, current, merged),
  });
}

/**
 * What had lost its markers gets them back. Where a rollback had given others back what was taken over from them,
 * it is taken over again.
 */
function adoptedBefore({ env, state, operation }: Work, view: EngineView): Adopting {
  const { owner, reverts, previous } = operation.begin;
  const unmarked = view.unmarked(previous);
  if (reverts === undefined) return { mode: undefined, before: new Map(), unmarked };
  const adopted = Object.entries(adoptedBy(state.readRecord().record, env.site.rootFile, owner));
  const before = new Map(adopted.map(([name, places]) => [name, places.map(({ path }) => path)]));
  return { mode: undefined, before, unmarked };
}

/**
 * Gives the files back what was found in them: their bytes, or by meaning where others have edited them since.
 * What the record says that the owner has stays: another program may have taken it out of the files before.
 */
async function undo(work: Work): Promise<void> {
  const { env, state, operation } = work;
  const { owner, previous, folders, adopted, reverts } = operation.begin;
  const taken = { owner, handlers: previous, commits: operation.commits };
  for (let attempt = 0; ; attempt++) {
    const { seen, view } = readEngine(env.host, env.backend, env.site);
    // What is put back may stand beside what the owner had: so it was before.
    const edits =
      adopted === undefined || reverts !== undefined
        ? asItWas(env, state, taken, seen, view, view.plan(owner, previous, adoptedBefore(work, view)))
        : (await import("./give_back.ts")).givingBack(
            env,
            state,
            operation,
            view.plan(owner, previous, { mode: "leave", before: new Map(), unmarked: new Map() }),
          );
    if (edits.length === 0) break;
    if (attempt === attempts) {
      throw new ShimctlError("conflict", "Cannot undo a change, as another program keeps writing this file", {
        ...(edits[0] === undefined ? {} : { path: edits[0].path }),
        hint: "find the other writer, then run the same command again",
        retryable: true,
      });
    }
    // By meaning it may have another place by now: a new release of k3s imports a folder that it has never made.
    makeFolders(env.host, state, missingFolders(env.host, edits));
    for (const edit of edits) if ((await commit(work, edit)).stale) break;
  }
  cleanFolders(env, state, folders);
}
