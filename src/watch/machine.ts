import { ExitCode } from "../error.ts";
import { type Looked, silentLook } from "./looked.ts";

/** When a node is looked at, and when something is done: decided from events and times alone. Times are milliseconds. */

export interface Settings {
  readonly settleMs: number;
  readonly intervalMs: number;
  /** How long this node waits before what is asked for is brought onto it: its share of `--stagger`. */
  readonly delayMs: number;
  /** A look that takes longer hangs. */
  readonly hangMs: number;
  readonly onDrift: "repair" | "report";
  /** What looks keep at least between them; absent: the usual. */
  readonly distanceMs?: number;
}

/** `look` writes nothing; `act` does what has to be done. */
export type Mode = "look" | "act";

/** A child that runs. */
interface Running {
  readonly mode: Mode;
  readonly since: number;
  /** Something changed meanwhile. */
  readonly changed: boolean;
  /** It hung, and was told to end. */
  readonly ending: boolean;
}

export interface State {
  readonly settings: Settings;
  readonly child: Running | undefined;
  readonly stopped: boolean;
  /** When the next look is due. */
  readonly lookAt: number;
  /** When something is to be done; `undefined`: nothing is. */
  readonly actAt: number | undefined;
  /** Since when the same is to be done, and when the files last changed. */
  readonly due: { readonly key: string; readonly since: number; readonly lastChange: number } | undefined;
  readonly failures: number;
  /** How many looks in a row found nothing new while something changed all the same. */
  readonly restless: number;
  /** Nothing is done before. */
  readonly notBefore: number;
  readonly endedAt: number;
  readonly last: Looked | undefined;
}

export type Event =
  | { readonly kind: "tick" }
  /** Something changed in a folder that matters. */
  | { readonly kind: "changed" }
  /** A child has ended; without a result where it said nothing. */
  | { readonly kind: "looked"; readonly looked: Looked | undefined }
  | { readonly kind: "stop" };

export type Action =
  | { readonly kind: "start"; readonly mode: Mode }
  /** What was found differs from what was last said. */
  | { readonly kind: "say"; readonly looked: Looked }
  | { readonly kind: "end child" }
  | { readonly kind: "exit"; readonly code: ExitCode };

export interface Step {
  readonly state: State;
  readonly actions: readonly Action[];
  /** When to come back with a tick where nothing happens before; `undefined`: not by itself. */
  readonly wakeAt: number | undefined;
}

/** So long nothing more may change before a look. */
const debounceMs = 250;
/** Looks keep that distance, whatever asks for them, where nobody says another. */
const usualDistanceMs = 1_000;
/** Where a program writes without end and nothing comes of it, that distance is doubled so often at most. */
const mostRestless = 4;
const longestPauseMs = 15 * 60_000;
const firstPauseMs = 5_000;
/** New changes put off a repair, but not for ever: so many settle times at most. */
const patience = 10;

function distanceOf({ distanceMs = usualDistanceMs }: Settings): number {
  return distanceMs;
}

export function begin(settings: Settings, now: number): Step {
  const state: State = {
    settings: { ...settings, intervalMs: Math.max(settings.intervalMs, distanceOf(settings)) },
    child: undefined,
    stopped: false,
    lookAt: now,
    // Where nobody has to wait for others, the first look does what it finds to do.
    actAt: settings.delayMs > 0 ? undefined : now,
    due: undefined,
    failures: 0,
    restless: 0,
    notBefore: 0,
    endedAt: Number.NEGATIVE_INFINITY,
    last: undefined,
  };
  return goOn(state, now, []);
}

export function next(state: State, event: Event, now: number): Step {
  if (state.stopped) {
    const isOver = event.kind === "looked" || state.child === undefined;
    return {
      state: isOver ? { ...state, child: undefined } : state,
      actions: isOver ? [{ kind: "exit", code: ExitCode.done }] : [],
      wakeAt: undefined,
    };
  }
  switch (event.kind) {
    case "tick":
      return goOn(state, now, []);
    case "stop": {
      const stopped = { ...state, stopped: true };
      const action: Action =
        state.child === undefined ? { kind: "exit", code: ExitCode.done } : { kind: "end child" };
      return { state: stopped, actions: [action], wakeAt: undefined };
    }
    case "changed":
      return goOn(changed(state, now), now, []);
    case "looked":
      return looked(state, event.looked, now);
  }
}

function changed(state: State, now: number): State {
  if (state.child !== undefined) return { ...state, child: { ...state.child, changed: true } };
  const soon = Math.max(now + debounceMs, state.endedAt + distanceOf(state.settings) * 2 ** state.restless);
  const lookAt = Math.min(state.lookAt, soon);
  const { due, last, actAt } = state;
  if (due === undefined || last?.needs !== "repair" || last.failed || actAt === undefined)
    return { ...state, lookAt };
  const moved: State = { ...state, lookAt, due: { ...due, lastChange: now } };
  return { ...moved, actAt: actTime(moved, last, "look", now) };
}

function looked(before: State, found: Looked | undefined, now: number): Step {
  const { child, settings } = before;
  if (child === undefined) return goOn(before, now, []);
  const result = found ?? silentLook;
  // Whoever asked for that waits for nothing. Later, what was asked for before is on the node and is kept in view.
  if (result.hopeless && before.last === undefined) {
    const actions: Action[] = [
      { kind: "say", looked: result },
      { kind: "exit", code: ExitCode.usage },
    ];
    return {
      state: { ...before, child: undefined, stopped: true, last: result },
      actions,
      wakeAt: undefined,
    };
  }
  const isSame = before.due?.key === result.key && result.needs !== "nothing";
  const due =
    result.needs === "nothing"
      ? undefined
      : {
          key: result.key,
          since: isSame ? (before.due?.since ?? now) : now,
          lastChange: isSame && !child.changed ? (before.due?.lastChange ?? now) : now,
        };
  // A look that finds what to do has not done it yet; an attempt after which it is still to be done was in vain.
  const isVain = result.failed || (child.mode === "act" && due !== undefined);
  const isDone = child.mode === "act" || due === undefined;
  const failures = isVain ? before.failures + 1 : isDone ? 0 : before.failures;
  const pause = isVain ? Math.min(firstPauseMs * 2 ** Math.min(failures - 1, 20), longestPauseMs) : 0;
  // What is tried in vain is not tried again at once; something else to do is.
  const isOther = due !== undefined && !isSame;
  const notBefore = isVain ? now + pause : isOther || due === undefined ? 0 : before.notBefore;
  const saysSo = before.last === undefined || wordsOf(before.last) !== wordsOf(result) || result.changed;
  const state: State = {
    ...before,
    child: undefined,
    restless: child.changed && !saysSo ? Math.min(before.restless + 1, mostRestless) : 0,
    endedAt: now,
    last: result,
    due,
    failures,
    notBefore,
    lookAt:
      now +
      (result.failed ? Math.max(settings.intervalMs, Math.min(pause, longestPauseMs)) : settings.intervalMs),
    actAt: undefined,
  };
  const timed = { ...state, actAt: actTime(state, result, child.mode, now) };
  const after = child.changed ? changed(timed, now) : timed;
  return goOn(after, now, saysSo ? [{ kind: "say", looked: result }] : []);
}

function actTime(
  { due, settings, notBefore }: State,
  { needs, failed }: Looked,
  mode: Mode,
  now: number,
): number | undefined {
  // A look that fails tells nothing of what is to be done; an attempt is made again.
  if (failed) return mode === "act" ? notBefore : undefined;
  if (due === undefined || (needs === "repair" && settings.onDrift === "report")) return undefined;
  const { settleMs, delayMs } = settings;
  const at =
    needs === "install"
      ? due.since + delayMs
      : needs === "repair"
        ? Math.min(due.lastChange + settleMs, due.since + patience * settleMs)
        : now;
  return Math.max(at, notBefore);
}

/** What makes one state of a node another one, for people. */
export function wordsOf({ result, ready, reason, needs }: Looked): string {
  // That something was just done is news once.
  const settled = result === "changed" || result === "repaired" ? "unchanged" : result;
  return [settled, ready, reason, needs].join("\n");
}

/** Starts what is due, never beside a child that runs. */
function goOn(state: State, now: number, actions: readonly Action[]): Step {
  const { child, actAt, lookAt } = state;
  if (child !== undefined) return whileRunning(state, child, now, actions);
  const mode = actAt !== undefined && actAt <= now ? "act" : lookAt <= now ? "look" : undefined;
  if (mode === undefined) return { state, actions, wakeAt: Math.min(actAt ?? lookAt, lookAt) };
  return {
    state: { ...state, child: { mode, since: now, changed: false, ending: false } },
    actions: [...actions, { kind: "start", mode }],
    wakeAt: now + state.settings.hangMs,
  };
}

function whileRunning(state: State, child: Running, now: number, actions: readonly Action[]): Step {
  const end = child.since + state.settings.hangMs;
  if (child.ending) return { state, actions, wakeAt: undefined };
  if (now < end) return { state, actions, wakeAt: end };
  return {
    state: { ...state, child: { ...child, ending: true } },
    actions: [...actions, { kind: "end child" }],
    wakeAt: undefined,
  };
}
