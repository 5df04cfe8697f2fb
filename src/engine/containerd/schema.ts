import type { TomlTable } from "../../toml/parse.ts";
import type { EngineVersion } from "../backend.ts";
import { tableAt } from "../tables.ts";

/** The CRI plugin's id up to containerd 1.7 and in version 2 files of 2.x. */
export const criV2 = "io.containerd.grpc.v1.cri";
/** Where containerd 2.x keeps handlers; `criV2` then holds the stream server only. */
export const criV3 = "io.containerd.cri.v1.runtime";
/** Where containerd 2.x keeps snapshotters per handler. */
export const criImages = "io.containerd.cri.v1.images";

/** The handler that every containerd has built in. */
export const builtinHandler = "runc";

/** The newest configuration version that a release reads (containerd: version/version.go, `ConfigVersion`). */
export function newestSchema(version: EngineVersion): number {
  if (version.major < 2) return 2;
  // 2.0 to 2.2 read version 3; a release that only its major is known of gets the benefit of the doubt.
  return version.minor !== undefined && version.minor < 3 ? 3 : 4;
}

/** containerd 1.x replaces a whole plugin table by that of a later file; 2.0 and later merge tables. */
export function mergesTables(version: EngineVersion): boolean {
  return version.major >= 2;
}

/** 2.3 and later migrate each file to the newest version before they merge; 2.0 to 2.2 merge first. */
export function migratesEachFile(version: EngineVersion): boolean {
  return version.major > 2 || (version.major === 2 && version.minor !== undefined && version.minor >= 3);
}

/** The `runtimes` table of one plugin id. */
export function runtimesAt(table: TomlTable | undefined, id: string): TomlTable | undefined {
  return tableAt(table, "plugins", id, "containerd", "runtimes");
}
