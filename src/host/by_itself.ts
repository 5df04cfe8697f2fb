import { notWaitedFor } from "./restart_end.ts";
import type { Host } from "./root.ts";

/** An engine whose supervisor watches a folder, and restarts it by itself some time after the last change there. */
export interface ByItself {
  /** Who does it, for people: `k0s`. */
  readonly by: string;
  /** Host path of the folder; every change of ours makes or replaces a name in it, which its time tells. */
  readonly folder: string;
}

/**
 * The supervisor waits 3 s for more changes, ends the engine, and starts it 5 s later (k0s, `watchDropinConfigs` and
 * pkg/supervisor). A start that comes sooner was for something older, and may have read the folder before the last
 * change: another one follows.
 */
const settleMs = 3_000;
/** One that comes in that very moment is ended at once. */
const steadyMs = 500;
/** No other one has followed by then: the supervisor itself was restarted, and has read everything. */
const overMs = 15_000;
/** By then it has refused what it found, or does not watch any more. */
const patienceMs = 60_000;
const pollMs = 100;

/**
 * Waits until the engine was started after the last change of the folder: its socket is made anew with each start.
 * `done`; or `notWaitedFor` when its time is over.
 */
export async function startedByItself(
  host: Host,
  { folder }: ByItself,
  socket: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const started = madeAt(host, socket);
    const changed = madeAt(host, folder) ?? 0;
    const now = Date.now();
    const after = started === undefined || now - started < steadyMs ? -1 : started - changed;
    if (after >= settleMs || (after > 0 && now - changed >= overMs)) return "done";
    if (signal?.aborted === true || now >= deadline) return notWaitedFor;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

/** When what stands at a path was made or, for a folder, when a name in it last changed: milliseconds since 1970. */
export function madeAt(host: Host, path: string): number | undefined {
  const time = host.stamp(path)?.split(":").at(-1);
  return time === undefined ? undefined : Number(time) / 1e6;
}
