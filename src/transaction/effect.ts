import type { EngineState, Expectation, Snapshot } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler, Need } from "../handler/model.ts";
import type { Sandbox } from "../host/cri/client.ts";
import { sha256 } from "../sha256.ts";
import type { Activation, Verdict } from "./activation.ts";
import { type Baseline, refuseToRestart, takeBaseline } from "./baseline.ts";
import type { RestartReason } from "./counts.ts";
import type { Environment } from "./environment.ts";
import type { RestartOutcome } from "./outcome.ts";
import { type Pending, rootOf } from "./record.ts";
import { refuseHeld, refuseOverBudget } from "./restraint.ts";
import type { NodeState } from "./state.ts";

/** What a plan is about, as far as bringing it into effect goes. */
export interface Effect {
  /** Nothing is added: an engine that does not work may do so because of what goes. */
  readonly removing: boolean;
  readonly owner: string;
  readonly desired: readonly Handler[];
  readonly needs: readonly Need[];
  readonly expectation: Expectation;
  /** Every handler that the engine finds on disk once the plan is carried out. */
  readonly onDisk: EngineState["handlers"];
}

/** What was found out before the first byte was written. */
export interface Ground {
  readonly baseline: Baseline;
  /** Stands for everything that the plan depends on. */
  readonly inputs: string;
  readonly foreign: readonly string[];
}

/**
 * Refuses what could not be brought into effect, what was tried before, and what is in use.
 * Throws ShimctlError: `engine-broken`, `unsupported-node`, `held`, `conflict`; `in-use` with the sandboxes
 */
export async function prepareGround(
  env: Environment,
  state: NodeState,
  effect: Effect,
  seen: Snapshot,
  /** Nothing is to be written: only what was written before may have to come into effect. */
  isEmpty = false,
): Promise<Ground | undefined> {
  const { activation, site } = env;
  if (activation === undefined) return undefined;
  env.step("baseline");
  const { automatic, retry, budget, onlyOurs } = activation;
  const baseline = await takeBaseline(activation, env.signal);
  const { record } = state.readRecord();
  const { pending, held = {} } = rootOf(record, site.rootFile);
  const isOwed = isEmpty && pending !== undefined && isDue(baseline, pending);
  refuseToRestart(activation, baseline, isOwed || effect.removing);
  await refuseInUse(activation, baseline, effect);
  const inputs = inputsOf(env, effect, seen, baseline);
  const now = env.now();
  if (!retry) refuseHeld(Object.hasOwn(held, effect.owner) ? held[effect.owner] : undefined, inputs, now);
  if (automatic && !retry && baseline.kind !== "stopped")
    refuseOverBudget(record.restarts ?? [], budget, now);
  const since = baseline.kind === "running" ? (baseline.unit?.activeSince ?? 0) : 0;
  const foreign = foreignEdits(state, seen, since);
  const [first] = foreign;
  if (onlyOurs && first !== undefined) {
    throw new ShimctlError(
      "conflict",
      "Cannot restart the engine for our change only, as it does not run with this file yet",
      { path: first, hint: "restart it for that first, or leave out --only-ours" },
    );
  }
  return { baseline, inputs, foreign };
}

/** Handlers of running pods are not taken away from them. */
async function refuseInUse(activation: Activation, baseline: Baseline, effect: Effect): Promise<void> {
  const gone = goneAfter(effect);
  if (activation.force || gone.length === 0 || baseline.kind !== "running") return;
  const { defaultHandler = "" } = baseline;
  const users = (await activation.live.sandboxes())
    .map((sandbox) => (sandbox.handler === "" ? { ...sandbox, handler: defaultHandler } : sandbox))
    .filter(({ handler }) => gone.includes(handler));
  const [first] = users;
  if (first !== undefined) throw inUse(users);
}

/** Whose `cause` is the list of sandboxes, for those who can do without. */
function inUse(users: readonly Sandbox[]): ShimctlError {
  const names = [...new Set(users.map(({ handler }) => handler))].join(", ");
  const pods = users.map(({ handler, id, pod }) => `${pod} (${handler}, ${id.slice(0, 13)})`);
  const shown = pods.length > 20 ? [...pods.slice(0, 20), `and ${pods.length - 20} more`] : pods;
  return new ShimctlError("in-use", `Cannot remove ${names}, as running pods use it: ${shown.join(", ")}`, {
    hint: "end these pods first, wait for them with --wait-unused 10m, or pass --force: they could not be stopped cleanly then",
    retryable: true,
    cause: users,
  });
}

/** The handlers that an `in-use` error is about. */
export function handlersInUse(error: unknown): readonly string[] {
  if (!(error instanceof ShimctlError) || error.code !== "in-use") return [];
  // The same error, with what was done before it.
  if (!Array.isArray(error.facts.cause)) return handlersInUse(error.facts.cause);
  const users: readonly Sandbox[] = error.facts.cause;
  return [...new Set(users.map(({ handler }) => handler))];
}

function goneAfter({ expectation, onDisk }: Effect): string[] {
  return expectation.absent.filter((name) => !onDisk.some((handler) => handler.name === name));
}

function inputsOf(env: Environment, effect: Effect, seen: Snapshot, baseline: Baseline): string {
  const files = [...seen.files].map(([path, read]) => [
    path,
    read.kind === "file" ? sha256(read.bytes) : read.kind,
  ]);
  const needs = effect.needs.flatMap(({ paths }) => paths.map((path) => [path, env.host.stamp(path)]));
  const version = baseline.kind === "running" ? baseline.version : "";
  return sha256(new TextEncoder().encode(JSON.stringify([effect.desired, files, needs, version])));
}

/** Files that the engine reads, newer than its start, which no commit of ours has left so. */
export function foreignEdits(state: NodeState, seen: Snapshot, since: number): string[] {
  if (since === 0) return [];
  const newer = [...seen.files.values()].flatMap((read) =>
    read.kind === "file" && (read.modifiedMs ?? 0) > since ? [read] : [],
  );
  if (newer.length === 0) return [];
  const ours = new Map(
    state.journal().flatMap((line) => (line.step === "committed" ? [[line.path, line.after] as const] : [])),
  );
  return newer.filter(({ path, bytes }) => ours.get(path) !== sha256(bytes)).map(({ path }) => path);
}

/** How a change came into effect. */
export interface Effected {
  readonly restart: RestartOutcome;
  readonly served: boolean;
  readonly pending?: Pending | undefined;
}

/**
 * One restart and the proof, where the engine runs; every file is in place. Throws ShimctlError
 * `engine-failed` on evidence against the change, `cannot-verify` where there is none for it either
 */
export async function takeEffect(
  env: Environment,
  state: NodeState,
  operation: string,
  effect: Effect,
  ground: Ground | undefined,
  reason: RestartReason,
): Promise<Effected> {
  const { activation } = env;
  if (activation === undefined || ground === undefined) {
    const { restartedBy: by } = env.site;
    const words =
      by === undefined
        ? "the engine was not restarted: the change takes effect with its next start"
        : `${by} restarts the engine by itself when it sees the change: that was not waited for`;
    return {
      restart: { done: false, needed: true, words },
      served: false,
      pending: { since: env.now().toISOString() },
    };
  }
  const { baseline, inputs } = ground;
  const { unitName, restartedBy } = activation.live;
  const restarted =
    restartedBy === undefined
      ? `${unitName} was restarted and`
      : `${restartedBy} has restarted the engine by itself, which`;
  if (baseline.kind === "stopped") {
    const words = `${unitName} is not running: the change takes effect when it is started`;
    return { restart: { done: false, needed: false, words }, served: false };
  }
  const served = baseline.kind === "running" ? baseline.served : [];
  const { present } = effect.expectation;
  const line = {
    unit: unitName,
    way: baseline.way ?? "",
    invocation: baseline.unit?.invocation ?? "",
    present: [...present],
    // What was not served before need not be served again when this is undone.
    absent: goneAfter(effect).filter((name) => baseline.kind === "broken" || served.includes(name)),
    kept: served.filter(
      (name) => !present.includes(name) && effect.onDisk.some((handler) => handler.name === name),
    ),
    inputs,
    ...(baseline.kind === "broken" ? { broken: true } : {}),
  };
  state.append(operation, { step: "restart", ...line });
  const { activate } = await import("./activate.ts");
  const verdict = await activate(env, activation, state, operation, effect.owner, line, false, reason);
  // What was broken before cannot speak against what was done.
  if (baseline.kind === "broken" && verdict.kind !== "served") {
    const words = `${restarted} does not work, as before`;
    return { restart: { done: true, needed: false, words }, served: false };
  }
  // A run that was told to stop has not waited as long as it should.
  const isOver = env.signal?.aborted !== true;
  await conclude(activation, state, operation, effect.owner, verdict, isOver);
  const words = `${restarted} serves ${present.length === 0 ? "what it served before" : present.toSorted().join(", ")}`;
  return { restart: { done: true, needed: false, words }, served: true };
}

async function conclude(
  { live, undoOnTimeout }: Activation,
  state: NodeState,
  operation: string,
  owner: string,
  verdict: Verdict,
  isOver: boolean,
): Promise<void> {
  if (verdict.kind === "served") return;
  if (verdict.kind === "unknown" && !(undoOnTimeout && isOver))
    throw (await import("./activate.ts")).cannotVerify(live, verdict.why, owner);
  const why = verdict.kind === "failed" ? verdict.why : `it was not seen in time that ${verdict.why}`;
  state.append(operation, { step: "failed", why });
  throw new ShimctlError("engine-failed", `The engine does not work with the change: ${why}`, {
    hint: `see \`journalctl -u ${live.unitName}\`; the same change is held until anything that it depends on changes, some time has passed, or you pass --retry`,
  });
}

/** Whether the engine was last started before that was written. */
function isDue(baseline: Baseline, pending: Pending): boolean {
  const since = baseline.kind === "stopped" ? 0 : (baseline.unit?.activeSince ?? 0);
  return since <= Date.parse(pending.since);
}

/**
 * What an earlier run wrote and left to the engine's next start: nothing to do where that has been since,
 * else it is brought into effect now.
 */
export async function owedEffect(
  env: Environment,
  pending: Pending,
  effect: Effect,
  ground: Ground,
): Promise<"none" | "seen" | "restart"> {
  const { baseline } = ground;
  if (baseline.kind === "broken") return isDue(baseline, pending) ? "restart" : "none";
  if (baseline.kind === "stopped") return "none";
  const served = effect.expectation.present.every((name) => baseline.served.includes(name));
  const started = !isDue(baseline, pending);
  if (started && !served) {
    throw new ShimctlError(
      "engine-broken",
      `The engine does not serve what its configuration has: ${effect.expectation.present.filter((name) => !baseline.served.includes(name)).join(", ")}`,
      { hint: `see \`journalctl -u ${env.activation?.live.unitName}\`: it ignores or refuses that handler` },
    );
  }
  return started ? "seen" : "restart";
}
