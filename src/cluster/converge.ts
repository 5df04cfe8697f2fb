import type { ApiFailure, NodeApi, NodeObject, PatchOperation } from "../host/kubernetes/client.ts";
import { sleep } from "../host/sleep.ts";

/** How long, and how patiently, the API is asked. */
export interface Patience {
  readonly signal: AbortSignal;
  /** Milliseconds of `Date.now()`; nothing is asked after it. */
  readonly deadline: number;
  /** The first pause between two tries. */
  readonly pauseMs: number;
}

export type Converged = { readonly kind: "done"; readonly node: NodeObject } | ApiFailure;

/** More conflicts in a row than that are no bad luck. */
const conflicts = 20;
/** A token that is replaced while it is read is good a moment later. */
const unauthorized = 3;

/**
 * Reads the node and patches it until the patch is empty. A node that somebody else changes in between is read
 * again; what may pass by itself is tried again until the deadline, what will not is told at once.
 *
 * @param plan called on each state that was read; throws where it is not to be changed
 * @param onSent told before each patch, and after it whether it may be in effect
 */
export async function converge(
  api: NodeApi,
  name: string,
  plan: (node: NodeObject) => readonly PatchOperation[],
  { signal, deadline, pauseMs }: Patience,
  onSent: (mayBeDone: boolean) => void = () => undefined,
): Promise<Converged> {
  const overall = AbortSignal.any([signal, AbortSignal.timeout(Math.max(1, deadline - Date.now()))]);
  let last: ApiFailure = { kind: "unreachable", why: "there was no time to ask" };
  let refused = 0;
  let conflict = 0;
  let lastPatched: string | undefined;
  for (let tries = 0; ; tries++) {
    let answer = await api.get(name, overall);
    if (answer.kind === "node") {
      const operations = plan(answer.node);
      if (operations.length === 0) return { kind: "done", node: answer.node };
      const { resourceVersion } = answer.node.metadata;
      // Refused before on the very same object: that was no race.
      if (last.kind === "conflict" && lastPatched === resourceVersion && conflict > 2)
        return { ...last, kind: "refused" };
      lastPatched = resourceVersion;
      onSent(false);
      answer = await api.patch(name, operations, overall);
      const mayBeDone =
        answer.kind === "node" ||
        answer.kind === "unreachable" ||
        answer.kind === "busy" ||
        answer.kind === "interrupted";
      if (mayBeDone) onSent(true);
      if (answer.kind === "node" && plan(answer.node).length === 0)
        return { kind: "done", node: answer.node };
    }
    if (signal.aborted) return { kind: "interrupted", why: "it was stopped" };
    if (answer.kind === "interrupted") return { ...last, kind: "unreachable" };
    if (answer.kind === "node") continue;
    last = answer;
    if (answer.kind === "not found" || answer.kind === "forbidden" || answer.kind === "refused")
      return answer;
    if (answer.kind === "unauthorized" && ++refused >= unauthorized) return answer;
    if (answer.kind === "conflict" && ++conflict >= conflicts) return answer;
    // Two that met once must not meet again.
    const pause = pauseMs * 2 ** Math.min(answer.kind === "conflict" ? 2 : tries, 4) * (0.5 + Math.random());
    const wait = Math.max(pause, answer.retryAfterMs ?? 0);
    if (Date.now() + wait >= deadline) return answer;
    await sleep(wait, signal);
  }
}
