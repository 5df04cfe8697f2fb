import { ShimctlError } from "../error.ts";
import type { UnitState } from "../host/systemd.ts";
import { type Activation, deathOf } from "./activation.ts";

/** How the engine stood before anything was written. */
export type Baseline =
  /** Not running: what is written takes effect when it is started. */
  | { readonly kind: "stopped" }
  | {
      readonly kind: "running";
      readonly unit: UnitState | undefined;
      readonly way: string | undefined;
      readonly version: string;
      readonly served: readonly string[];
      readonly defaultHandler: string | undefined;
    }
  | {
      readonly kind: "broken";
      readonly unit: UnitState | undefined;
      readonly way: string | undefined;
      readonly why: string;
    };

/** An engine that is just starting gets that long before it counts as broken. */
const startMs = 60_000;
/** Whoever restarts it by itself may leave it out for some seconds; after that, a socket was merely left behind. */
const betweenMs = 12_000;
const pollMs = 500;
/** A busy engine may miss one question. */
const silences = 3;

export async function takeBaseline(
  { live, progress }: Activation,
  signal: AbortSignal | undefined,
): Promise<Baseline> {
  const deadline = Date.now() + startMs;
  let told = false;
  let anothers = 0;
  for (let silent = 0; ; ) {
    const answer = await live.status();
    const unit = await live.unit();
    if (answer.kind === "up" && answer.ready) {
      // It may have ended since it answered.
      if (unit !== undefined && isAnothers(unit) && ++anothers < silences) {
        await new Promise((resolve) => setTimeout(resolve, pollMs));
        continue;
      }
      return {
        kind: "running",
        unit,
        way: await live.way(),
        version: answer.version,
        served: answer.handlers,
        defaultHandler: answer.defaultHandler,
      };
    }
    const isBetween =
      live.restartedBy !== undefined &&
      answer.kind === "absent" &&
      (unit === undefined
        ? live.hasSocket?.() === true && Date.now() < deadline - startMs + betweenMs
        : unit.active === "active");
    if (!isBetween && (unit === undefined ? answer.kind === "absent" : unit.active === "inactive"))
      return { kind: "stopped" };
    // Somebody may be restarting it right now.
    const moving =
      isBetween ||
      (unit !== undefined && /^(de)?activating$/.test(unit.active) && unit.sub !== "auto-restart");
    silent += answer.kind === "silent" ? 1 : silences;
    if ((!moving && silent >= silences) || Date.now() > deadline || signal?.aborted === true) {
      const why = brokenBy(live.unitName, unit, answer.kind);
      return { kind: "broken", unit, way: await live.way(), why };
    }
    if (!told && moving) progress(`waiting until ${live.unitName} has started`);
    told ||= moving;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** Whether an engine that runs is not this unit's: started, it would be a second one on the files of that one. */
function isAnothers(unit: UnitState): boolean {
  return unit.active === "inactive" || deathOf(unit) !== undefined;
}

function brokenBy(name: string, unit: UnitState | undefined, answer: string): string {
  if (unit !== undefined && unit.active !== "active")
    return `${name} is ${unit.active} (${unit.sub}, ${unit.result})`;
  if (answer === "without CRI") return `${name} runs without its CRI: its CRI plugin did not load`;
  return answer === "up" ? `${name} says that it is not ready` : `${name} does not answer on its CRI socket`;
}

/** Units that are a control plane: with their engine, the API server stops for a moment. */
const servers = /^(k3s|rke2-server|k0scontroller)\.service$/;

/**
 * What must be true before the first byte is written, so that the change can be brought into effect and
 * taken back. @param removing a broken engine may be broken by what is removed
 */
export function refuseToRestart(activation: Activation, baseline: Baseline, removing: boolean): void {
  const { live, allowKill, killModes, restartServer, isServer } = activation;
  const instead = "or pass --restart none and restart it yourself";
  if (baseline.kind === "broken" && !removing) {
    throw new ShimctlError(
      "engine-broken",
      `Cannot change the configuration of an engine that does not work already: ${baseline.why}`,
      { hint: `mend it first (journalctl -u ${live.unitName}), ${instead}` },
    );
  }
  // Whoever restarts the engine by itself stops neither its unit nor the pods in it.
  if (baseline.kind === "stopped" || live.restartedBy !== undefined) return;
  const { unit, way } = baseline;
  if (way === undefined) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot restart the engine, as neither systemd nor a unit named ${live.unitName} can be reached`,
      { hint: `mount the node's /run/dbus, pass --unit or --restart-command, ${instead}` },
    );
  }
  if (baseline.kind === "running" && unit !== undefined && isAnothers(unit)) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot restart ${unit.name}, as it is ${unit.active} (${unit.sub}) while the engine runs, which something else has started`,
      { hint: `pass --unit with the unit that has, ${instead}` },
    );
  }
  if (unit !== undefined && (isServer === true || servers.test(unit.name)) && !restartServer) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot restart ${unit.name} unasked, as it carries this cluster's control plane`,
      { hint: `pass --restart-server, ${instead}` },
    );
  }
  if (unit !== undefined && !killModes.includes(unit.killMode) && !allowKill) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot restart ${unit.name}, as that would end this node's pods: its KillMode is ${unit.killMode}`,
      { hint: `set KillMode=process in the unit, pass --allow-kill, ${instead}` },
    );
  }
}
