import type { Environment } from "./environment.ts";
import { refuseOnHold } from "./hold.ts";
import { knownRecord } from "./rebuild.ts";
import type { NodeState } from "./state.ts";

/** While a hold of the owner or of the whole node is on, an automatic run does nothing but say so. Throws `held` */
export function refuseAutomatic({ caller, now, site }: Environment, state: NodeState, owner: string): void {
  if (caller?.automatic !== true) return;
  refuseOnHold(knownRecord(state, site.rootFile, now()), owner, now());
}
