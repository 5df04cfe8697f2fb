import type { Adopted, Expectation, Problem } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { inWords, onNode, pathOf } from "../host/failure.ts";
import type { Latest } from "./epoch.ts";
import type { Hold } from "./record.ts";

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
  /** By the engine itself, started with the change. */
  readonly served: "passed" | "not run";
}

/** What was taken over from others, and where the bytes of that file are kept. */
export interface Adoption extends Adopted {
  /** SHA-256 of the file before. */
  readonly store: string;
}

export interface Outcome {
  readonly result: "changed" | "unchanged" | "superseded";
  readonly changes: readonly Change[];
  /** The owner's handlers afterwards. */
  readonly handlers: readonly Handler[];
  /** The owner's handlers before. */
  readonly previous: readonly Handler[];
  readonly adopted: readonly Adoption[];
  readonly warnings: readonly Problem[];
  readonly notes: readonly string[];
  readonly proof: Proof;
  readonly expectation: Expectation;
  readonly restart: RestartOutcome;
  /** The newest that is recorded of the owner's incarnations afterwards. */
  readonly recorded: Latest | undefined;
  /** Asked to go and kept, as pods use them; a later `apply` removes them. */
  readonly pendingRemoval: readonly string[];
  /** Files that others changed and the engine does not run with yet. */
  readonly pendingForeign: readonly string[];
  /** What lets automatic runs of the owner only report from now on. */
  readonly hold?: Hold | undefined;
  /** Only where something was asked of the Kubernetes node. */
  readonly node?: NodeStep;
}

/** What became of the Kubernetes node that this is. */
export interface NodeStep {
  readonly name: string;
  /** In words for people; empty where all of it was so already. */
  readonly done: readonly string[];
  /** The handlers are as they were asked for, and yet the node is not. */
  readonly failure?: ShimctlError;
}

export interface RestartOutcome {
  readonly done: boolean;
  /** The engine does not run with what is on disk yet. */
  readonly needed: boolean;
  /** Why it is not needed, or who has to make it. */
  readonly words: string;
}

/**
 * Whatever was thrown, with what is true of the node's files now. Without that an error says that nothing
 * was written, which is wrong for every error that comes after the first commit.
 *
 * @param root of the node: people know its paths without it
 */
export function withState(thrown: unknown, words: string, root = "/"): ShimctlError {
  if (thrown instanceof ShimctlError) {
    const { facts } = onNode(thrown, root);
    const state = [facts.state ?? "", words].filter((part) => part !== "").join("; ");
    return new ShimctlError(thrown.code, thrown.message, { ...facts, state, cause: thrown });
  }
  const error = inWords(thrown, "Cannot use this file", pathOf(thrown, root));
  if (error instanceof ShimctlError) return withState(error, words);
  return new ShimctlError("internal", thrown instanceof Error ? thrown.message : String(thrown), {
    hint: "please report this with the output of the same command and --log-level debug",
    state: words,
    cause: thrown,
  });
}
