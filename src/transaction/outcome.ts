import type { Expectation, Problem } from "../engine/backend.ts";
import type { Handler } from "../handler/model.ts";

export interface Change {
  readonly path: string;
  readonly action: "create" | "edit" | "remove";
  readonly before: Uint8Array | null;
  readonly after: Uint8Array | null;
}

export interface Proof {
  /** The engine's rules, as this release knows them, on the merged result. */
  readonly rules: "passed" | "not run";
  readonly "engine-parser": "passed" | "not run";
  readonly served: "not run";
}

export interface Outcome {
  readonly result: "changed" | "unchanged";
  readonly changes: readonly Change[];
  /** The owner's handlers afterwards. */
  readonly handlers: readonly Handler[];
  /** The owner's handlers before. */
  readonly previous: readonly Handler[];
  readonly warnings: readonly Problem[];
  readonly notes: readonly string[];
  readonly proof: Proof;
  readonly expectation: Expectation;
}
