import type { ContainerdPart, CrioPart, Handler } from "./model.ts";
import type { Candidates, PathChoice, Preset } from "./preset.ts";

export interface ResolveFacts {
  /** `--prefix`: where the runtime was put, instead of the preset's own place. */
  readonly prefix: string | undefined;
  /** `--snapshotter`. */
  readonly snapshotter: string | undefined;
  readonly exists: (path: string) => boolean;
}

/**
 * Makes a handler of a preset. The result names one path for each candidate list: the first that is on
 * the host, else the first, which the engine's needs then report as missing.
 */
export function resolvePreset(preset: Preset, name: string, facts: ResolveFacts): Handler {
  const pick: Pick = (what, candidates) => {
    const all = places(what, candidates, preset, facts.prefix);
    return all.find(facts.exists) ?? all[0] ?? candidates[0];
  };
  const snapshotter = facts.snapshotter ?? preset.handler.snapshotter;
  return {
    ...preset.handler,
    name,
    preset: preset.name,
    ...(snapshotter === undefined ? {} : { snapshotter }),
    ...(preset.containerd === undefined
      ? {}
      : { containerd: containerdPart(preset.containerd, pick, facts) }),
    ...(preset.crio === undefined ? {} : { crio: crioPart(preset.crio, pick) }),
  };
}

type Pick = (what: PathChoice["what"], candidates: Candidates) => string;

function containerdPart(
  part: NonNullable<Preset["containerd"]>,
  pick: Pick,
  facts: ResolveFacts,
): ContainerdPart {
  const options: Record<string, string | boolean> = { ...part.options };
  for (const [key, path] of Object.entries(part.paths ?? {})) options[key] = pick(path.what, path.candidates);
  return {
    runtime_type: part.runtime_type,
    ...(part.runtime_path === undefined
      ? shimUnderPrefix(part.runtime_type, facts)
      : { runtime_path: pick("binary", part.runtime_path) }),
    options,
    like_runc: part.like_runc ?? false,
  };
}

function crioPart(part: NonNullable<Preset["crio"]>, pick: Pick): CrioPart {
  const { runtime_path, runtime_config_path, platform_runtime_paths, ...rest } = part;
  return {
    like_default: false,
    runtime_type: "oci",
    ...rest,
    runtime_path: pick("binary", runtime_path),
    ...(runtime_config_path === undefined
      ? {}
      : { runtime_config_path: pick("configuration", runtime_config_path) }),
    ...(platform_runtime_paths === undefined
      ? {}
      : {
          platform_runtime_paths: Object.fromEntries(
            Object.entries(platform_runtime_paths).map(([platform, paths]) => [
              platform,
              pick("binary", paths),
            ]),
          ),
        }),
  };
}

function places(
  what: PathChoice["what"],
  candidates: Candidates,
  preset: Preset,
  prefix: string | undefined,
): string[] {
  const movable = candidates.filter((path) => path.includes("{prefix}"));
  if (movable.length > 0) {
    const place = prefix ?? preset.prefix ?? "";
    return (prefix === undefined ? candidates : movable).map((path) => path.replace("{prefix}", place));
  }
  // A configuration that is not the runtime's own, such as one in /etc, stays where it is.
  if (prefix === undefined || what === "configuration") return [...candidates];
  const file = candidates[0].slice(candidates[0].lastIndexOf("/") + 1);
  return [`${prefix}/bin/${file}`, `${prefix}/${file}`];
}

/** A shim that the engine looks up in PATH is named by its full path when `--prefix` says where it is. */
function shimUnderPrefix(runtimeType: string, facts: ResolveFacts): { runtime_path?: string } {
  const binary = shimBinary(runtimeType);
  if (facts.prefix === undefined || binary === undefined || runtimeType === runcType) return {};
  const all = [`${facts.prefix}/bin/${binary}`, `${facts.prefix}/${binary}`];
  return { runtime_path: all.find(facts.exists) ?? `${facts.prefix}/bin/${binary}` };
}

export const runcType = "io.containerd.runc.v2";

/**
 * The binary that containerd looks up in PATH for a runtime type: `io.containerd.NAME.vN` gives
 * `containerd-shim-NAME-vN` (core/runtime/v2/shim_manager.go). `undefined` for an absolute path.
 */
export function shimBinary(runtimeType: string): string | undefined {
  const parts = runtimeType.split(".");
  if (runtimeType.startsWith("/") || parts.length < 2) return undefined;
  return `containerd-shim-${parts.slice(-2).join("-")}`;
}

/** The PATH that systemd gives a service (systemd.exec(5)), in which engines and shims look for binaries. */
const servicePath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] as const;

/** Where a binary that is named without a folder may be. */
export function inServicePath(binary: string): string[] {
  return servicePath.map((folder) => `${folder}/${binary}`);
}
