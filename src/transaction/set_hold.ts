import { randomUUID } from "../host/random.ts";
import { isSame } from "../same.ts";
import { type Holds, holdsOn, withHolds } from "./hold.ts";
import type { NodeState } from "./state.ts";

/**
 * Writes which holds there are, durably, and a line of the journal for each that came or went; writes nothing where
 * they are these already. The caller holds the node's lock.
 */
export function changeHolds(state: NodeState, holds: Holds, who: string, now: Date): void {
  const { record } = state.readRecord();
  const before = holdsOn(record, now);
  if (isSame(before, holds)) return;
  state.writeRecord(withHolds(record, holds, now));
  for (const owner of Object.keys(before)) {
    if (!Object.hasOwn(holds, owner)) state.append(randomUUID(), { step: "release", owner, who });
  }
  for (const [owner, hold] of Object.entries(holds)) {
    if (isSame(hold, before[owner])) continue;
    const { until, reason } = hold;
    state.append(randomUUID(), {
      step: "hold",
      owner,
      who,
      ...(until === undefined ? {} : { until }),
      ...(reason === undefined ? {} : { reason }),
    });
  }
}
