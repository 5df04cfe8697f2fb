import type { EngineState } from "../engine/backend.ts";
import type { CriAnswer } from "../host/cri/client.ts";
import type { LiveEngine } from "../host/live.ts";
import type { UnitState } from "../host/systemd.ts";

/** The running engine beside what is on disk. */
export interface LiveView {
  readonly unit: UnitState | undefined;
  readonly answer: CriAnswer;
  /** `undefined` where nobody can tell. */
  readonly served: readonly string[] | undefined;
  /** How many running pods' sandboxes use a handler. */
  readonly inUse: ReadonlyMap<string, number>;
  /** Ours, on disk and not served by a running engine. */
  readonly notServed: readonly string[];
}

export async function viewLive(live: LiveEngine, state: EngineState): Promise<LiveView> {
  const answer = await live.status();
  // A bus that does not answer tells nothing of the engine.
  const unit = await live.unit().catch(() => undefined);
  const served = answer.kind === "up" ? answer.handlers : undefined;
  const inUse = new Map<string, number>();
  if (answer.kind === "up") {
    // The engine may be restarted in between.
    for (const { handler } of await live.sandboxes().catch(() => [])) {
      const name = handler === "" ? (answer.defaultHandler ?? state.defaultHandler) : handler;
      inUse.set(name, (inUse.get(name) ?? 0) + 1);
    }
  }
  const notServed =
    served === undefined
      ? []
      : state.handlers
          .filter(({ name, owner }) => owner !== undefined && !served.includes(name))
          .map(({ name }) => name);
  return { unit, answer, served, inUse, notServed };
}

/** In a few words, for people. */
export function runningWords({ answer, unit }: LiveView): string {
  const named = unit === undefined ? "" : ` (${unit.name}: ${unit.active}, ${unit.sub})`;
  switch (answer.kind) {
    case "up":
      return `${answer.ready ? "serves" : "is not ready"}, version ${answer.version}${named}`;
    case "absent":
      return `not running${named}`;
    case "without CRI":
      return `runs without its CRI${named}`;
    case "silent":
      return `does not answer${named}`;
  }
}
