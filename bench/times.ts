import type { Case, CaseId } from "./cases.ts";
import { prepare, type Ran, run } from "./spawn.ts";

export type Times = ReadonlyMap<CaseId, readonly Ran[]>;

/**
 * Runs every case once in each round, beginning with another one each time, so that whatever drifts in the
 * machine hits all of them alike. One round before, which warms the page cache, is not counted.
 */
export function time(
  all: readonly Case[],
  output: string,
  rounds: number,
  told: (round: number) => void,
): Times {
  const prepared = all.map((each) => ({ each, command: prepare(each, output) }));
  const times = new Map<CaseId, Ran[]>(all.map(({ id }) => [id, []]));
  for (let round = 0; round <= rounds; round++) {
    told(round);
    for (let index = 0; index < prepared.length; index++) {
      const next = prepared[(index + round) % prepared.length];
      if (next === undefined) continue;
      next.each.ready();
      const ran = run(next.command);
      if (round > 0) times.get(next.each.id)?.push(ran);
    }
  }
  return times;
}
