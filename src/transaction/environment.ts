import type { Backend, EngineView, Site } from "../engine/backend.ts";
import type { Handler } from "../handler/model.ts";
import type { Host } from "../host/root.ts";
import type { Activation } from "./activation.ts";
import type { Intent } from "./desire.ts";
import type { Caller } from "./journal.ts";
import type { Outcome } from "./outcome.ts";
import type { NodeState } from "./state.ts";

/** The Kubernetes node, at the two points where it may change. Both are called under the node's lock. */
export interface Cluster {
  /**
   * Before the first change of an operation that leaves the owner `handlers`. @returns notes for people
   * Throws ShimctlError `interrupted`
   */
  before(env: Environment, state: NodeState, owner: string, handlers: readonly Handler[]): Promise<string[]>;
  /** After everything that was asked for is so. Never throws for what the API says: the change is done. */
  after(
    env: Environment,
    state: NodeState,
    request: { readonly owner: string; readonly intent: Intent },
    outcome: Outcome,
  ): Promise<Outcome>;
}

/** What a transaction runs in. */
export interface Environment {
  readonly host: Host;
  readonly backend: Backend;
  readonly site: Site;
  readonly now: () => Date;
  readonly signal: AbortSignal | undefined;
  /** How long the node's lock was waited for; absent where none was taken. */
  readonly lockWaitMs?: number;
  /** Called at each step, with words for people. */
  readonly step: (name: string) => void;
  /** How a change is brought into effect; `undefined`: the engine is left running as it is. */
  readonly activation: Activation | undefined;
  /** Who runs this; where nobody says it, holds are neither heeded nor made. */
  readonly caller?: Caller;
  /** Throws for a file that is there and that the node's system keeps as it is. */
  readonly refuseKept?: (path: string) => void;
  /** What shall be so of the Kubernetes node that this is; absent where nobody can ask for it. */
  readonly cluster?: Cluster;
  /** `--prove-with`: the engine's own parser on the candidate; throws where it refuses. */
  readonly proveWith: ((candidate: EngineView) => void) | undefined;
}
