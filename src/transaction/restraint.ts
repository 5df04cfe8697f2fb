import { ShimctlError } from "../error.ts";
import type { Budget } from "./activation.ts";
import type { Held, Restart } from "./record.ts";

/** What keeps a loop from restarting an engine more often than it must. */

const hour = 3_600_000;
export const day = 24 * hour;
/** A clock that is set back by more than that was wrong before. */
const skewMs = hour;
const firstPauseMs = 15 * 60_000;

/** Throws `held` where this very plan was undone on these very inputs, and its pause is not over. */
export function refuseHeld(held: Held | undefined, inputs: string, now: Date): void {
  if (held === undefined || held.inputs !== inputs || now.getTime() >= Date.parse(held.until)) return;
  // Noted by a clock that was wrong.
  if (Date.parse(held.since) > now.getTime() + skewMs) return;
  throw new ShimctlError("held", `Held, as this change was undone at ${held.since} because ${held.why}`, {
    hint: `mend the cause; it is tried again when anything that it depends on changes, from ${held.until} on, or with --retry`,
  });
}

/** An undone plan waits twice as long each time, up to a day. */
export function holdAgain(before: Held | undefined, inputs: string, why: string, now: Date): Held {
  const tries = before?.inputs === inputs ? before.tries + 1 : 1;
  const pause = Math.min(firstPauseMs * 2 ** (tries - 1), day);
  return {
    inputs,
    why,
    tries,
    since: now.toISOString(),
    until: new Date(now.getTime() + pause).toISOString(),
  };
}

/** Throws `held` where the engine was restarted by us as often as it may be without a person. */
export function refuseOverBudget(restarts: readonly Restart[], budget: Budget, now: Date): void {
  for (const [span, most, words] of [
    [hour, budget.hour, "an hour"],
    [day, budget.day, "a day"],
  ] as const) {
    const made = within(restarts, span, now);
    if (made.length < most) continue;
    const oldest = made.at(-most)?.time ?? now.toISOString();
    const free = new Date(Date.parse(oldest) + span).toISOString();
    throw new ShimctlError(
      "held",
      `Held, as the engine was restarted ${made.length} times within ${words} by shimctl already`,
      { hint: `wait until ${free}, or run it by hand with --retry`, retryable: true },
    );
  }
}

/** How many restarts there are left within each span. */
export function restartsLeft(restarts: readonly Restart[], budget: Budget, now: Date): Budget {
  const left = (span: number, most: number) => Math.max(0, most - within(restarts, span, now).length);
  return { hour: left(hour, budget.hour), day: left(day, budget.day) };
}

/** Those of a span until now. Not those of a clock that was wrong. */
export function within<Event extends { readonly time: string }>(
  events: readonly Event[],
  span: number,
  now: Date,
): Event[] {
  return events.filter(({ time }) => {
    const age = now.getTime() - Date.parse(time);
    return age < span && age > -skewMs;
  });
}

/** With one more restart, without those that count no more. */
export function withRestart(restarts: readonly Restart[], restart: Restart): Restart[] {
  const oldest = Date.parse(restart.time) - day;
  return [...restarts.filter(({ time }) => Date.parse(time) > oldest), restart];
}
