import type { EngineName, Site } from "../engine/backend.ts";
import type { HostFiles } from "../host/host.ts";

/** What the command line says about where the engine is. */
export interface Wish {
  readonly engine: "auto" | EngineName;
  readonly config: string | undefined;
  readonly version: string | undefined;
  /** How errors call what gave the version. */
  readonly versionOption?: string | undefined;
}

/** Where an engine's files live on one kind of node. Adding one means one file and one line in `registry.ts`. */
export interface Layout {
  readonly name: string;
  readonly engine: EngineName;
  /** What on this node speaks for the layout; empty when nothing does. */
  evidence(host: HostFiles): readonly string[];
  readonly rootFile: string;
  readonly unit: string;
  /** KillModes of that unit under which pods outlive their engine (systemd.kill(5)). */
  readonly killModes: readonly string[];
  readonly socket: string;
  /** Where the engine's binary may be, first match wins. */
  readonly binaries: readonly string[];
  /** The Go package of the binary; a group, where it has one, is the engine's major version. */
  readonly module: RegExp;
  /** Releases before this one are refused. */
  readonly oldest: { readonly major: number; readonly minor: number };
}

export interface Found {
  readonly layout: Layout;
  readonly site: Site;
  readonly evidence: readonly string[];
}
