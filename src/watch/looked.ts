/** What one look found that the program which holds the node needs to know: plain values, from one process to the other. */

/**
 * What is still to be done: nothing; what is asked for, for the first time or anew; what an earlier run left open; or
 * what others undid.
 */
export type Needs = "nothing" | "install" | "finish" | "repair";

export interface Looked {
  readonly result: string;
  readonly needs: Needs;
  /** Another one when something else is to be done than before. */
  readonly key: string;
  /** Every handler that is asked for is proved to be served. */
  readonly ready: boolean;
  /** Why not, or what is served: one line. */
  readonly reason: string;
  /** Folders as seen from here; when something in them changes, it is time to look again. */
  readonly folders: readonly string[];
  /** What went wrong, as people are told: several lines. */
  readonly error?: string | undefined;
  /** It went wrong, or would; the engine and its files are as they were. */
  readonly failed: boolean;
  /** It went wrong by what was asked for, whatever the node is like. */
  readonly hopeless: boolean;
  /** A change was made. */
  readonly changed: boolean;
  /** Which incarnation of the owner this look was, where it is one. */
  readonly epoch?: string | undefined;
  /** The node in the words of a monitoring system. */
  readonly metrics?: string | undefined;
}

/** What is known after a look that said nothing. */
export const silentLook: Looked = {
  result: "failed",
  needs: "nothing",
  key: "",
  ready: false,
  reason: "the last look ended without a result",
  folders: [],
  failed: true,
  hopeless: false,
  changed: false,
};

/** What a child printed; a look that says nothing of this kind has failed. */
export function parseLooked(text: string): Looked | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const watch = fieldOf(value, "watch");
  const needs = fieldOf(watch, "needs");
  if (needs !== "nothing" && needs !== "install" && needs !== "finish" && needs !== "repair")
    return undefined;
  const folders = fieldOf(watch, "folders");
  return {
    result: textIn(value, "result"),
    needs,
    key: textIn(watch, "key"),
    ready: fieldOf(watch, "ready") === true,
    reason: textIn(watch, "reason"),
    folders: Array.isArray(folders) ? folders.filter((each) => typeof each === "string") : [],
    error: textIn(watch, "error") || undefined,
    failed: fieldOf(watch, "failed") === true,
    hopeless: fieldOf(watch, "hopeless") === true,
    changed: fieldOf(watch, "changed") === true,
    epoch: textIn(watch, "epoch") || undefined,
    metrics: textIn(watch, "metrics") || undefined,
  };
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

function textIn(value: unknown, key: string): string {
  const text = fieldOf(value, key);
  return typeof text === "string" ? text : "";
}
