import type { Backend, EngineView, Site } from "../engine/backend.ts";
import type { Host } from "../host/root.ts";
import type { Activation } from "./activation.ts";
import type { Caller } from "./journal.ts";

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
  /** `--prove-with`: the engine's own parser on the candidate; throws where it refuses. */
  readonly proveWith: ((candidate: EngineView) => void) | undefined;
}
