import type { Backend, EngineView, Site } from "../engine/backend.ts";
import type { Host } from "../host/root.ts";

/** What a transaction runs in. */
export interface Environment {
  readonly host: Host;
  readonly backend: Backend;
  readonly site: Site;
  readonly now: () => Date;
  readonly signal: AbortSignal | undefined;
  /** Called at each step, with words for people. */
  readonly step: (name: string) => void;
  /** `--prove-with`: the engine's own parser on the candidate; throws where it refuses. */
  readonly proveWith: ((candidate: EngineView) => void) | undefined;
}
