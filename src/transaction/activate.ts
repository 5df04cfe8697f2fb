import { ShimctlError } from "../error.ts";
import type { LiveEngine } from "../host/live.ts";
import { notWaitedFor } from "../host/restart_end.ts";
import { type Activation, deathOf, type Expected, type Verdict, verify } from "./activation.ts";
import { counted, type RestartReason } from "./counts.ts";
import type { Environment } from "./environment.ts";
import type { JournalLine, Unfinished } from "./journal.ts";
import { withRestart } from "./restraint.ts";
import type { NodeState } from "./state.ts";

export type RestartLine = Extract<JournalLine, { step: "restart" }>;

/**
 * Brings an operation whose files are all in place into effect: one restart, unless the engine has been
 * started since, and the proof that it serves what it must.
 */
export async function activate(
  env: Environment,
  activation: Activation,
  state: NodeState,
  operation: string,
  owner: string,
  line: Omit<RestartLine, "step" | "format" | "time" | "operation">,
  restarted: boolean,
  reason: RestartReason,
): Promise<Verdict> {
  if (!restarted) {
    const { ended, isKnown } = await restart(env, activation, state, owner, reason);
    // Slow is not broken, and whether it is restarted at all is seen by the next run.
    const { restartedBy } = activation.live;
    const unknown: Verdict = {
      kind: "unknown",
      why:
        restartedBy === undefined
          ? `${line.unit} has been restarted`
          : `${restartedBy} has restarted the engine by itself`,
    };
    if (ended === notWaitedFor) return unknown;
    // Somebody else's job took the place of ours: the engine is restarted all the same.
    if (ended !== "done" && ended !== "canceled") {
      const now = await activation.live.unit().catch(() => undefined);
      const dead = now === undefined ? undefined : deathOf(now);
      const stays = now === undefined || now.invocation === line.invocation || now.active !== "active";
      // Whoever was asked did not say: it may be under way.
      if (!isKnown && dead === undefined && now?.active !== "active") return unknown;
      if (stays) return { kind: "failed", why: dead ?? `the restart of ${line.unit} ended as ${ended}` };
    }
    state.append(operation, { step: "restarted" });
  }
  env.step("verify");
  activation.progress(
    `waiting until ${line.unit} serves ${[...line.present, ...line.kept].join(", ") || "CRI"}`,
  );
  return verify(activation, line, env.signal);
}

/** One restart, counted before it is made: a restart may end this very process. */
export async function restart(
  env: Environment,
  { live, verifyTimeoutMs, progress }: Activation,
  state: NodeState,
  owner: string,
  reason: RestartReason,
): Promise<{ readonly ended: string; readonly isKnown: boolean }> {
  env.step("restart");
  progress(
    live.restartedBy === undefined
      ? `restarting ${live.unitName}`
      : `waiting until ${live.restartedBy} restarts the engine by itself`,
  );
  const { record } = state.readRecord();
  const restarts = withRestart(record.restarts ?? [], {
    time: env.now().toISOString(),
    owner,
    why: reasonWords[reason],
  });
  state.writeRecord(counted({ ...record, restarts }, { restart: reason }));
  try {
    // Told to stop or not, a restart that has begun is seen through; one that hangs is not.
    const timeout = AbortSignal.timeout(Math.min(verifyTimeoutMs, longestTimerMs));
    return { ended: await live.restart(timeout), isKnown: true };
  } catch (error) {
    return { ended: error instanceof Error ? error.message : String(error), isKnown: false };
  }
}

const reasonWords: Readonly<Record<RestartReason, string>> = {
  change: "to serve a change",
  undo: "to undo a change",
  pending: "to serve what was written before",
  repair: "with repaired files",
  drift: "to mend what others undid",
};

/** Beyond that, timers end at once. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * The engine back on the configuration from before. A restart that ended an earlier run is not made again:
 * it would end every run. Throws `undo-failed` with what to do by hand.
 */
export async function bringBack(
  env: Environment,
  activation: Activation,
  state: NodeState,
  owner: string,
  line: RestartLine,
  restores: Unfinished["restores"],
): Promise<void> {
  const { live } = activation;
  const unit = await live.unit().catch(() => undefined);
  if (unit !== undefined && unit.invocation === line.invocation && unit.active === "active") return;
  const expected: Expected = {
    present: [],
    absent: [],
    kept: [...line.kept, ...line.absent],
    invocation: unit?.invocation ?? line.invocation,
  };
  const last = restores.at(-1);
  const isMade =
    last !== undefined && (unit === undefined ? restores.length > 1 : unit.invocation !== last.invocation);
  if (!isMade) state.append(line.operation, { step: "restore", invocation: expected.invocation });
  const { ended } = isMade ? { ended: "done" } : await restart(env, activation, state, owner, "undo");
  const verdict = await verify(
    activation,
    { ...expected, ...(isMade ? { invocation: last.invocation } : {}) },
    undefined,
  );
  if (verdict.kind === "served") return;
  const why = verdict.kind === "failed" ? verdict.why : `it was not seen that ${verdict.why}`;
  throw new ShimctlError("undo-failed", `The engine does not work after the change was undone: ${why}`, {
    state: `the files are as they were before the change${ended === "done" ? "" : `; the restart ended as ${ended}`}`,
    hint: `look at \`journalctl -u ${line.unit} -b\`, mend what it says, then \`systemctl reset-failed ${line.unit} && systemctl restart ${line.unit}\`; \`shimctl status\` tells whether it serves`,
  });
}

/** Files are in place, and nobody can say yet whether the engine works with them. */
export function cannotVerify(
  { unitName: unit, restartedBy }: LiveEngine,
  why: string,
  owner: string,
): ShimctlError {
  const look =
    restartedBy === undefined
      ? `see \`journalctl -u ${unit}\``
      : `see \`journalctl -u ${unit}\`, where ${restartedBy} says why it does not take a drop-in`;
  return new ShimctlError(
    "cannot-verify",
    `Cannot verify the change, as it was not seen in time that ${why}`,
    {
      state: `the change of owner '${owner}' is in place and stays open: the next run verifies or undoes it`,
      hint: `${look}, then run the same command again, with a longer --verify-timeout where the engine is slow`,
    },
  );
}
