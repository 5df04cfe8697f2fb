import type { EngineView, FileEdit } from "../engine/backend.ts";
import { mendingOf } from "../engine/mending.ts";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { randomUUID } from "../host/random.ts";
import { refuseShared } from "../host/trust.ts";
import { sha256 } from "../sha256.ts";
import { refuseAutomatic } from "./automatic.ts";
import { refuseToRestart, takeBaseline } from "./baseline.ts";
import { commitFile } from "./commit.ts";
import { type Copy, type CopySource, copyOf } from "./copies.ts";
import { type DiagnoseOptions, type Diagnosis, diagnose, type Finding } from "./diagnose.ts";
import { type Effected, type Ground, takeEffect } from "./effect.ts";
import type { Environment } from "./environment.ts";
import { wholeNode } from "./hold.ts";
import { noOwner, type Unfinished, unfinished } from "./journal.ts";
import { type RestartOutcome, withState } from "./outcome.ts";
import { recordOwner } from "./owner.ts";
import { refuseKept, refuseUnwritable } from "./plan.ts";
import { rebuildRecord } from "./rebuild.ts";
import { basesIn, rootOf, withRoot } from "./record.ts";
import { recover, refuseOtherEngine } from "./recover.ts";
import { refuseOverBudget } from "./restraint.ts";
import { type NodeState, openState } from "./state.ts";

export interface RepairRequest {
  /** The one file to mend; all that the engine reads where it is absent. */
  readonly only: string | undefined;
  /** Put older bytes in its place instead of mending it. */
  readonly from: CopySource | undefined;
  /** How often to look again when somebody else writes in between. */
  readonly retries: number;
}

export interface Repaired {
  readonly findings: readonly Finding[];
  readonly edits: readonly FileEdit[];
  /** What is put in the file's place, where older bytes were asked for. */
  readonly copy: Copy | undefined;
  /** Where the damaged files are kept. */
  readonly kept: readonly { readonly path: string; readonly as: string }[];
  readonly notes: readonly string[];
  readonly restart: RestartOutcome;
  /** `false` where the engine was restarted with the mended files, and does not work. */
  readonly works: boolean;
}

/** What is broken, and what a repair would write. Takes no lock and writes nothing. */
export function previewRepair(env: Environment, request: RepairRequest): Repaired {
  const state = openState((path) => env.host.real(path), env.now);
  const { options, copy, broken } = optionsOf(env, state, request);
  const { findings: left, edits, view } = refuseUseless(diagnose(env, state, options), options, copy);
  const findings = [...broken, ...left];
  if (view !== undefined && edits.length > 0) env.proveWith?.(view);
  const words = edits.length === 0 ? "nothing to restart for" : "the engine would be started with it";
  return {
    findings,
    edits,
    copy,
    kept: [],
    notes: [],
    restart: { done: false, needed: edits.length > 0, words },
    works: true,
  };
}

/**
 * Mends what can be mended, each file by one atomic exchange, and keeps every damaged file aside. The engine is
 * restarted only where it does not work; one that runs goes on with what it has, and reads the files at its next
 * start. The caller holds the node's lock.
 * Throws ShimctlError whose `state` tells which files are in place
 */
export async function repair(env: Environment, request: RepairRequest): Promise<Repaired> {
  const state = openState((path) => env.host.real(path), env.now);
  state.refuseNewer();
  refuseAutomatic(env, state, wholeNode);
  try {
    return await repairLocked(env, request, state);
  } finally {
    try {
      state.prune();
    } catch {
      // The next run tries again.
    }
  }
}

async function repairLocked(env: Environment, request: RepairRequest, state: NodeState): Promise<Repaired> {
  const { open, notes } = await recoverFirst(env, state);
  const { options, copy, broken } = optionsOf(env, state, request);
  // Where an earlier run is open that cannot be ended on damaged files, this is part of it: it ends afterwards.
  const operation = open?.begin.operation ?? randomUUID();
  const last = open === undefined ? operation : randomUUID();
  const done: FileEdit[] = [];
  const gaveWay = new Set<string>();
  const kept: { path: string; as: string }[] = [];
  const findings: Finding[] = [...broken];
  let ground: Ground | undefined;
  let found: Diagnosis;
  let begun = open !== undefined;
  try {
    for (let attempt = 0; ; attempt++) {
      env.step("read");
      found = refuseUseless(
        diagnose(env, state, done.length > 0 ? { only: request.only, tolerant: true } : options),
        options,
        copy,
      );
      for (const owner of found.gaveWay) gaveWay.add(owner);
      findings.splice(0, findings.length, ...merged(findings, found.findings));
      if (found.edits.length === 0) break;
      refuseKept(env, found.edits);
      if (attempt > request.retries) throw tooBusy(found.edits);
      if (found.view !== undefined) env.proveWith?.(found.view);
      refuseUnwritable(env, found.edits);
      ground ??= await groundFor(env, state);
      const { view } = found;
      state.rebuild(() => rebuildRecord(view, env.site.rootFile, state.journal(), env.now()));
      if (!begun) begin(env, state, operation);
      begun = true;
      env.step("commit");
      for (const edit of found.edits) {
        if (!(await commit(env, state, operation, request, edit, kept))) break;
        done.push(edit);
      }
    }
    if (open !== undefined) {
      notes.push(...(await recover(env, state)).notes);
      begun = false;
    }
    if (done.length === 0) return { findings, edits: [], copy, kept, notes, ...resultOf(nothingDone) };
    if (!begun) begin(env, state, last);
    begun = true;
    const effected = await bringIntoEffect(env, state, last, found, findings, ground);
    if (found.view !== undefined) recordGivenWay(env, state, found.view, gaveWay);
    end(env, state, last, effected);
    return { findings, edits: done, copy, kept, notes, ...resultOf(effected) };
  } catch (error) {
    // Each file is a complete one. Where an earlier run is open, so it stays.
    if (begun && unfinished(state.lastOperation())[0]?.begin.command === "repair")
      await recover(env, state).catch(() => undefined);
    const words = [
      ...(done.length === 0
        ? ["nothing was mended"]
        : [`mended: ${done.map(({ path }) => path).join(", ")}`]),
      ...kept.map(({ path, as }) => `the damaged ${path} is kept as ${as}`),
    ];
    throw begun ? withState(error, words.join("; "), env.host.root) : error;
  }
}

/** Ends what an earlier run left open, unless the damaged files themselves keep that from being done. */
async function recoverFirst(
  env: Environment,
  state: NodeState,
): Promise<{ open: Unfinished | undefined; notes: string[] }> {
  const [open] = unfinished(state.lastOperation());
  if (open === undefined) return { open: undefined, notes: [] };
  refuseOtherEngine(env, [open]);
  try {
    return { open: undefined, notes: [...(await recover(env, state)).notes] };
  } catch (error) {
    const isDamage =
      error instanceof ShimctlError && (error.code === "invalid-config" || error.code === "conflict");
    if (!isDamage || diagnose(env, state).edits.length === 0) throw error;
    return { open, notes: [] };
  }
}

/** What to look at, with the older bytes where they are asked for, and what they mend. */
function optionsOf(
  env: Environment,
  state: NodeState,
  { only, from }: RepairRequest,
): { options: DiagnoseOptions; copy: Copy | undefined; broken: readonly Finding[] } {
  if (from === undefined) return { options: { only }, copy: undefined, broken: [] };
  const path = only ?? brokenFile(env, state);
  const left = mendingOf(env.backend.name).leaves?.(env.site, path);
  if (left !== undefined)
    throw new ShimctlError("usage", "Cannot put an older version in the place of this file", {
      path,
      hint: left,
    });
  const copy = copyOf(from, env.host, state, path);
  if (from === "bak") refuseShared(env.host, copy.words, env.site.sharedWith);
  const broken = diagnose(env, state, { only: path })
    .findings.filter((finding) => finding.path === path)
    .map((finding) => ({ ...finding, remedy: `restore ${copy.words}` }));
  return { options: { only: path, restored: copy.bytes }, copy, broken };
}

/** The one file that is broken; the root file where none is. */
function brokenFile(env: Environment, state: NodeState): string {
  const paths = [...new Set(diagnose(env, state).findings.map(({ path }) => path))];
  if (paths.length < 2) return paths[0] ?? env.site.rootFile;
  throw new ShimctlError("usage", "Cannot restore several files at once, and these are broken", {
    hint: `name one of them: ${paths.join(", ")}`,
  });
}

/** A copy with which the engine could read less than without it is none. */
function refuseUseless(diagnosis: Diagnosis, { only }: DiagnoseOptions, copy: Copy | undefined): Diagnosis {
  const left = diagnosis.findings.find(({ path, remedy }) => path === only && remedy === undefined);
  if (copy === undefined || left === undefined) return diagnosis;
  throw new ShimctlError("invalid-config", `Cannot restore this file from ${copy.words}: ${left.message}`, {
    path: left.path,
    ...(left.line === undefined ? {} : { line: left.line }),
    hint: "mend the file itself: `shimctl repair` shows what is wrong with it",
  });
}

/** What was said before the first file was mended, and what turned up since. */
function merged(before: readonly Finding[], now: readonly Finding[]): Finding[] {
  const isSame = (a: Finding, b: Finding) =>
    a.path === b.path && a.line === b.line && a.message === b.message;
  // That a block could not be written anew is found once: the next look sees an empty one, and nothing wrong.
  const mended = before.filter(({ remedy, rule }) => remedy !== undefined || rule === "block");
  return [...mended, ...now.filter((finding) => !mended.some((each) => isSame(each, finding)))];
}

/** How the engine stands. Throws where it would have to be restarted and must not be. */
async function groundFor(env: Environment, state: NodeState): Promise<Ground | undefined> {
  const { activation } = env;
  if (activation === undefined) return undefined;
  env.step("baseline");
  const baseline = await takeBaseline(activation, env.signal);
  if (baseline.kind === "broken") {
    refuseToRestart(activation, baseline, true);
    const { restarts = [] } = state.readRecord().record;
    if (activation.automatic && !activation.retry) refuseOverBudget(restarts, activation.budget, env.now());
  }
  return { baseline, inputs: "", foreign: [] };
}

function begin(env: Environment, state: NodeState, operation: string): void {
  state.append(operation, {
    step: "begin",
    command: "repair",
    owner: noOwner,
    engine: env.backend.name,
    rootFile: env.site.rootFile,
    previous: [],
    desired: [],
    folders: [],
    ...(env.caller === undefined ? {} : { caller: env.caller }),
  });
}

/** @returns false where somebody has written the file since it was read */
async function commit(
  env: Environment,
  state: NodeState,
  operation: string,
  { retries }: RepairRequest,
  edit: FileEdit,
  kept: { path: string; as: string }[],
): Promise<boolean> {
  const keep = (bytes: Uint8Array, why: string) => {
    const store = state.keepAside(bytes);
    state.append(operation, { step: "kept", path: edit.path, store, why });
    kept.push({ path: edit.path, as: store });
    return store;
  };
  if (edit.before !== null) {
    keep(edit.before, "damaged, and repaired");
    state.store(edit.before);
  }
  const result = await commitFile(env.host, edit, {
    retries,
    journal: (intent) => state.append(operation, { step: "intent", ...intent }),
    onKept: keep,
  });
  if (result.stale) return false;
  const hash = (bytes: Uint8Array | null) => (bytes === null ? null : sha256(bytes));
  const { path, before, after } = edit;
  state.append(operation, { step: "committed", path, before: hash(before), after: hash(after) });
  return true;
}

const nothingDone: Effected = {
  restart: { done: false, needed: false, words: "nothing to restart for" },
  served: true,
};

/** One restart, where the engine does not work and could now. */
async function bringIntoEffect(
  env: Environment,
  state: NodeState,
  operation: string,
  { view, readable }: Diagnosis,
  findings: readonly Finding[],
  ground: Ground | undefined,
): Promise<Effected> {
  const left = (words: string, needed: boolean): Effected => ({
    restart: { done: false, needed, words },
    served: true,
  });
  const isBroken = !readable || findings.some(({ remedy }) => remedy === undefined);
  if (isBroken) return left("the engine was not restarted, as its configuration is broken still", true);
  if (ground?.baseline.kind === "running")
    return left("the engine runs, and reads the repaired files at its next start", false);
  return takeEffect(
    env,
    state,
    operation,
    {
      removing: true,
      owner: noOwner,
      desired: [],
      needs: [],
      expectation: { present: [], absent: [] },
      onDisk: view?.state.handlers ?? [],
    },
    ground,
    "repair",
  );
}

function end(env: Environment, state: NodeState, operation: string, { pending }: Effected): void {
  state.append(operation, { step: "complete" });
  if (pending !== undefined) {
    const { record } = state.readRecord();
    const { rootFile } = env.site;
    state.writeRecord(withRoot(record, rootFile, { ...rootOf(record, rootFile), pending }));
  }
  state.append(operation, { step: "end", result: "changed" });
}

/** What somebody else defines now is not ours any more, and nothing to miss. */
function recordGivenWay(
  env: Environment,
  state: NodeState,
  view: EngineView,
  owners: ReadonlySet<string>,
): void {
  for (const owner of owners) {
    if (owner === noOwner) continue;
    const bases = Object.entries(basesIn(state.readRecord().record, env.site.rootFile, owner));
    const left = handlersLeft(view, owner);
    if (left === undefined) continue;
    const kept = bases.filter(([handler]) => left.some(({ name }) => name === handler));
    recordOwner(env, state, owner, left, { bases: Object.fromEntries(kept), pending: "as it was" });
  }
}

/** `undefined` where nobody can tell, as somebody edited in its block. */
function handlersLeft(view: EngineView, owner: string): readonly Handler[] | undefined {
  try {
    return view.handlersOf(owner);
  } catch (error) {
    if (error instanceof ShimctlError) return undefined;
    throw error;
  }
}

function resultOf({ restart, served }: Effected): Pick<Repaired, "restart" | "works"> {
  return { restart, works: !restart.done || served };
}

function tooBusy(edits: readonly FileEdit[]): ShimctlError {
  const path = edits[0]?.path;
  return new ShimctlError("conflict", "Gave up, as another program keeps writing this file", {
    ...(path === undefined ? {} : { path }),
    hint: "find the other writer, or pass a larger --retries",
    retryable: true,
  });
}
