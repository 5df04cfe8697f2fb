import { ShimctlError } from "../error.ts";
import { readState, removeState, sha256 } from "../host/state.ts";
import { commitFile } from "./commit.ts";
import type { Environment } from "./environment.ts";
import { readEngine } from "./gather.ts";
import { type Unfinished, unfinished } from "./journal.ts";
import { mergeForeign } from "./merge.ts";
import { recordOwner } from "./owner.ts";
import type { NodeState } from "./state.ts";

/**
 * Finishes or undoes what an earlier run left, from the journal alone. A temporary file goes only when its
 * bytes are those that the journal names; anything else is somebody's edit.
 * @returns what was done, in words for people
 */
export async function recover(env: Environment, state: NodeState): Promise<string[]> {
  const notes: string[] = [];
  for (const operation of unfinished(state.lastOperation())) {
    env.step("recover");
    for (const intent of operation.intents) notes.push(...(await settleTemp(env, state, operation, intent)));
    if (operation.complete) recordOwner(env, state, operation.begin.owner, operation.begin.desired);
    else await undo(env, state, operation);
    state.append(operation.begin.operation, {
      step: "end",
      result: operation.complete ? "finished" : "undone",
    });
    notes.push(
      operation.complete
        ? `finished an ${operation.begin.command} of owner '${operation.begin.owner}' that was cut short`
        : `undid an ${operation.begin.command} of owner '${operation.begin.owner}' that was cut short`,
    );
  }
  return notes;
}

type IntentLine = Unfinished["intents"][number];

async function settleTemp(
  env: Environment,
  state: NodeState,
  operation: Unfinished,
  intent: IntentLine,
): Promise<string[]> {
  const temp = env.host.real(intent.temp);
  const bytes = readState(temp);
  if (bytes === undefined) return [];
  const hash = sha256(bytes);
  const known = operation.intents.some((other) => other.before === hash || other.after === hash);
  if (known) {
    removeState(temp);
    return [];
  }
  const kept = state.keepAside(bytes);
  state.append(operation.begin.operation, {
    step: "kept",
    path: intent.path,
    store: kept,
    why: "displaced by an operation that was cut short",
  });
  const merged = await mergeBack(env, intent, state, bytes);
  removeState(temp);
  return [
    merged
      ? `merged an edit of another program back into ${intent.path}`
      : `kept another program's version of ${intent.path} as ${kept}`,
  ];
}

/** Somebody's edit was displaced, and the run that should have merged it died. */
async function mergeBack(
  env: Environment,
  intent: IntentLine,
  state: NodeState,
  theirs: Uint8Array,
): Promise<boolean> {
  const base = intent.before === null ? undefined : state.stored(intent.before);
  const read = env.host.read(intent.path);
  if (base === undefined || read.kind !== "file") return false;
  // One character for each byte, so that no byte is lost on the way through the merge.
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
  const merge = (current: Uint8Array | null): Uint8Array | null => {
    const result = current === null ? undefined : mergeForeign(text(base), text(current), text(theirs));
    if (result === undefined || "conflict" in result) {
      throw new ShimctlError("conflict", "Cannot merge two edits of the same lines", { path: intent.path });
    }
    return new Uint8Array(Buffer.from(result.merged, "latin1"));
  };
  try {
    const after = merge(read.bytes);
    await commitFile(
      env.host,
      { path: intent.path, before: read.bytes, after, edit: merge, bare: (bytes) => bytes },
      { retries: 20, journal: () => undefined, onKept: (bytes) => state.keepAside(bytes) },
    );
    return true;
  } catch (error) {
    if (error instanceof ShimctlError && error.code === "conflict") return false;
    throw error;
  }
}

/** Gives the owner back what it had: by meaning, so that edits which others made since are kept. */
async function undo(env: Environment, state: NodeState, operation: Unfinished): Promise<void> {
  const { owner, previous } = operation.begin;
  for (let attempt = 0; attempt < 20; attempt++) {
    const { view } = readEngine(env.host, env.backend, env.site);
    const edits = view.plan(owner, previous);
    if (edits.length === 0) break;
    for (const edit of edits) {
      const { stale } = await commitFile(env.host, edit, {
        retries: 20,
        journal: (intent) => state.append(operation.begin.operation, { step: "intent", ...intent }),
        onKept: (bytes) => state.keepAside(bytes),
      });
      if (stale) break;
    }
  }
  recordOwner(env, state, owner, previous);
}
