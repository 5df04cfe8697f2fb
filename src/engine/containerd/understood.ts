import type { ShimctlError } from "../../error.ts";
import type { TomlTable } from "../../toml/parse.ts";
import type { EngineVersion, Site, Snapshot } from "../backend.ts";
import type { Loaded, Walk } from "./load.ts";
import type { Rendering } from "./rendered.ts";

/** Everything that is known of one node's containerd, as values. */
export interface Understood {
  readonly site: Site;
  readonly seen: Snapshot;
  readonly version: EngineVersion;
  readonly schema: number;
  readonly loaded: readonly Loaded[];
  readonly missing: Walk["missing"];
  /** Files of ours that nothing imports. */
  readonly unread: readonly Loaded[];
  /** Whether handlers of several files add up; on 1.x, one file's CRI table replaces those of all others. */
  readonly merges: boolean;
  /** Under which plugin id the engine finds handlers once it has merged its files. */
  readonly id: string;
  /** Under which plugin id ours are written: that of the root file's version. */
  readonly writeId: string;
  /** Why nothing may be added here, though what is ours can be removed. */
  readonly refusal: ShimctlError | undefined;
  /** On 1.x, the one file whose CRI table is in effect. */
  readonly winner: Loaded;
  /** The CRI configuration in effect, and the same without anything of ours. */
  readonly effective: TomlTable;
  readonly effectiveBare: TomlTable;
  /** What the root file is made from, where something else writes it anew at each start. */
  readonly rendering: Rendering | undefined;
}
