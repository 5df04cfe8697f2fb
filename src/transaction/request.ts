import type { Intent } from "./desire.ts";
import type { Incarnation } from "./epoch.ts";
import type { Repair } from "./record.ts";

/** What somebody asks of a transaction. */
export interface Request {
  readonly intent: Intent;
  readonly owner: string;
  /** Accept handlers whose binary or configuration is not on the host. */
  readonly allowMissing: boolean;
  /** How often to plan again when somebody else writes in between. */
  readonly retries: number;
  /** Take presets as they are now, whatever their handlers were installed with. */
  readonly updatePresets: boolean;
  /** Which incarnation of the owner asks, where it is said. */
  readonly incarnation?: Incarnation | undefined;
  /** Goes back to what is recorded, or mends it: the owner's epochs neither speak against it nor change by it. */
  readonly outOfOrder?: boolean;
  /** Take over what others define: where it means the same, or whatever it says. */
  readonly adopt?: "identical" | "replace" | undefined;
  /** What others have done to the owner's handlers and this mends; with `not-served`, by a restart alone. */
  readonly mends?: Mended | undefined;
}

/** What others had done, and to which handlers. */
export type Mended = Pick<Repair, "cause" | "handlers">;
