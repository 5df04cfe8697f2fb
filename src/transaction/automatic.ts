import type { Environment } from "./environment.ts";
import { refuseOnHold } from "./hold.ts";
import { holdsTold } from "./rebuild.ts";
import type { NodeState } from "./state.ts";

/** While a hold of the owner or of the whole node is on, an automatic run does nothing but say so. Throws `held` */
export function refuseAutomatic({ caller, now }: Environment, state: NodeState, owner: string): void {
  if (caller?.automatic !== true) return;
  const { record, lost, damaged } = state.readRecord();
  const lacks = lost || damaged !== undefined;
  const holds = lacks ? { ...holdsTold(state.journal()), ...record.holds } : undefined;
  refuseOnHold(holds === undefined ? record : { ...record, holds }, owner, now());
}
