import type { CrioPart, Handler } from "./model.ts";

/** A path that differs between distributions: the first that exists on the host is taken, else the first. */
export type Candidates = readonly [string, ...string[]];

/** A value that is a path on the host, with what it must be. */
export interface PathChoice {
  readonly what: "binary" | "configuration";
  readonly candidates: Candidates;
}

/**
 * Makes a handler of a known runtime. Pure data: what has to be found on the machine is a list of
 * candidates. `{prefix}` stands for `--prefix`, or for `prefix` when that is not given; candidates without it
 * are places of distributions, which do not count once `--prefix` is given.
 */
export interface Preset {
  readonly name: string;
  readonly summary: string;
  /** Where the definition comes from. */
  readonly source: string;
  readonly prefix?: string;
  readonly handler: Omit<Handler, "name" | "preset" | "containerd" | "crio">;
  readonly containerd?: {
    readonly runtime_type: string;
    readonly runtime_path?: Candidates;
    readonly like_runc?: boolean;
    readonly options?: Readonly<Record<string, string | boolean>>;
    /** Options whose value is a path. */
    readonly paths?: Readonly<Record<string, PathChoice>>;
  };
  /** Absent where the runtime is not documented for CRI-O. */
  readonly crio?: Omit<
    CrioPart,
    "runtime_type" | "like_default" | "runtime_path" | "runtime_config_path" | "platform_runtime_paths"
  > & {
    readonly runtime_type?: CrioPart["runtime_type"];
    readonly like_default?: boolean;
    readonly runtime_path: Candidates;
    readonly runtime_config_path?: Candidates;
    readonly platform_runtime_paths?: Readonly<Record<string, Candidates>>;
  };
}
