import type { CriAnswer } from "../host/cri/client.ts";
import type { LiveEngine } from "../host/live.ts";
import type { UnitState } from "../host/systemd.ts";

/** How a change is brought into effect; absent from the environment where the engine is left as it is. */
export interface Activation {
  readonly live: LiveEngine;
  readonly verifyTimeoutMs: number;
  readonly undoOnTimeout: boolean;
  readonly allowKill: boolean;
  /** Under these KillModes of its unit, pods outlive a restart of the engine. */
  readonly killModes: readonly string[];
  readonly restartServer: boolean;
  /** The unit carries the cluster's control plane, whatever it is called. */
  readonly isServer?: boolean;
  readonly onlyOurs: boolean;
  /** Nobody is watching: a pod, a watch. Its restarts are counted. */
  readonly automatic: boolean;
  readonly retry: boolean;
  readonly force: boolean;
  readonly budget: Budget;
  /** What is waited for, in words for people. */
  readonly progress: (words: string) => void;
}

/** How often an engine may be restarted without a person who asks for it. */
export interface Budget {
  readonly hour: number;
  readonly day: number;
}

/** What the engine must serve once it runs with our change, and which run of the unit does not have it yet. */
export interface Expected {
  readonly present: readonly string[];
  readonly absent: readonly string[];
  /** Served before, and on disk still: whatever else happens, these must not be lost. */
  readonly kept: readonly string[];
  readonly invocation: string;
}

export type Verdict =
  | { readonly kind: "served" }
  /** There is evidence that the engine does not work with the change. */
  | { readonly kind: "failed"; readonly why: string }
  /** Neither: slow is not broken. */
  | { readonly kind: "unknown"; readonly why: string };

const pollMs = 250;
/** An engine registers its services before it listens; this is for one that is caught in between. */
const sustained = 8;
/** What is left to a run that was told to stop while it waits: a pod is killed 30 s after that. */
const graceMs = 20_000;

/**
 * Watches a restarted engine until it is clear whether it serves what it must. Evidence is only what the
 * engine or its unit says: a failed unit, a CRI without our handlers or without those it served before.
 */
export async function verify(
  activation: Activation,
  expected: Expected,
  signal: AbortSignal | undefined,
): Promise<Verdict> {
  const { live, verifyTimeoutMs, progress } = activation;
  let deadline = Date.now() + verifyTimeoutMs;
  let hurried = false;
  let without = 0;
  let told = 0;
  let why = "";
  for (;;) {
    const unit = await live.unit().catch(() => undefined);
    const dead = unit === undefined ? undefined : deathOf(unit);
    if (dead !== undefined) return { kind: "failed", why: dead };
    const answer = await live.status();
    const verdict = judge(answer, expected, unit);
    if (verdict !== undefined) return verdict;
    without = answer.kind === "without CRI" ? without + 1 : 0;
    if (without >= sustained)
      return { kind: "failed", why: `${live.unitName} runs without its CRI: its CRI plugin did not load` };
    why = waitsFor(answer, live.unitName);
    if (signal?.aborted === true && !hurried) {
      hurried = true;
      deadline = Math.min(deadline, Date.now() + graceMs);
    }
    if (Date.now() >= deadline) return { kind: "unknown", why };
    if (Date.now() - told > 10_000) {
      if (told > 0) progress(`waiting until ${why}`);
      told = Date.now();
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** A unit that systemd has given up, or starts again and again. */
export function deathOf({ name, active, sub, result }: UnitState): string | undefined {
  if (active === "failed") return `${name} failed: ${result}`;
  if (sub === "auto-restart" && result !== "success") return `${name} does not start: ${result}`;
  return undefined;
}

function judge(answer: CriAnswer, expected: Expected, unit: UnitState | undefined): Verdict | undefined {
  if (answer.kind !== "up" || !answer.ready) return undefined;
  // The process from before may answer once more.
  if (unit !== undefined && unit.invocation === expected.invocation) return undefined;
  const served = new Set(answer.handlers);
  const missing = expected.present.filter((name) => !served.has(name));
  const left = expected.absent.filter((name) => served.has(name));
  const lost = expected.kept.filter((name) => !served.has(name));
  if (missing.length > 0)
    return { kind: "failed", why: `the engine runs and does not serve ${missing.join(", ")}` };
  if (lost.length > 0)
    return { kind: "failed", why: `the engine does not serve ${lost.join(", ")} any more` };
  if (left.length > 0) return { kind: "failed", why: `the engine still serves ${left.join(", ")}` };
  return { kind: "served" };
}

function waitsFor(answer: CriAnswer, unit: string): string {
  switch (answer.kind) {
    case "absent":
      return `${unit} listens on its CRI socket`;
    case "silent":
      return `${unit} answers on its CRI socket`;
    case "without CRI":
      return `${unit} has loaded its CRI`;
    case "up":
      return answer.ready ? `${unit} has been restarted` : `${unit} is ready`;
  }
}
