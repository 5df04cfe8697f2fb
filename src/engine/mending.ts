import type { EngineName } from "./backend.ts";
import { containerdMending } from "./containerd/mending.ts";
import { crioMending } from "./crio/mending.ts";
import type { Mending } from "./remedy.ts";

/** An engine that is not here is mended by the rules of TOML alone. */
const mendings: Partial<Record<EngineName, Mending>> = { containerd: containerdMending, crio: crioMending };

const plain: Mending = { acceptsMark: false, tempDir: () => undefined, remedies: () => [] };

/** What `repair` has to know of this engine. */
export function mendingOf(engine: EngineName): Mending {
  return mendings[engine] ?? plain;
}
