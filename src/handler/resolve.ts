import type { Handler, Need } from "./model.ts";
import type { Candidates, Preset } from "./preset.ts";

export interface ResolveFacts {
  /** `--prefix`: where the runtime was put, instead of the preset's own place. */
  readonly prefix: string | undefined;
  /** `--snapshotter`. */
  readonly snapshotter: string | undefined;
  readonly exists: (path: string) => boolean;
}

/**
 * Makes a handler of a preset. The result names one path for each candidate list: the first that is on
 * the host, else the first, which `needs` then reports as missing.
 */
export function resolvePreset(preset: Preset, name: string, facts: ResolveFacts): Handler {
  const pick = (candidates: Candidates): string => {
    const all = places(candidates, preset, facts.prefix);
    return all.find(facts.exists) ?? all[0] ?? candidates[0];
  };
  const { containerd } = preset;
  const options: Record<string, string | boolean> = { ...containerd.options };
  for (const [key, path] of Object.entries(containerd.paths ?? {})) options[key] = pick(path.candidates);
  const snapshotter = facts.snapshotter ?? preset.handler.snapshotter;
  return {
    ...preset.handler,
    name,
    preset: preset.name,
    ...(snapshotter === undefined ? {} : { snapshotter }),
    containerd: {
      runtime_type: containerd.runtime_type,
      ...(containerd.runtime_path === undefined
        ? shimUnderPrefix(containerd.runtime_type, facts)
        : { runtime_path: pick(containerd.runtime_path) }),
      options,
      like_runc: containerd.like_runc ?? false,
    },
  };
}

function places(candidates: Candidates, preset: Preset, prefix: string | undefined): string[] {
  if (candidates.some((path) => path.includes("{prefix}"))) {
    const place = prefix ?? preset.prefix ?? "";
    return candidates.map((path) => path.replace("{prefix}", place));
  }
  if (prefix === undefined) return [...candidates];
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

/** The PATH that systemd gives a service (systemd.exec(5)), in which containerd looks for shims and runc. */
const servicePath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] as const;

/** What must be on the host for this handler to run a pod. */
export function needs(handler: Handler): Need[] {
  const { containerd } = handler;
  const found: Need[] = [];
  const add = (what: Need["what"], paths: readonly string[]) =>
    found.push({ handler: handler.name, what, paths });
  const inPath = (binary: string) => servicePath.map((folder) => `${folder}/${binary}`);

  if (containerd.runtime_path !== undefined) add("binary", [containerd.runtime_path]);
  else if (containerd.runtime_type.startsWith("/")) add("binary", [containerd.runtime_type]);
  else if (containerd.runtime_type !== runcType) {
    const binary = shimBinary(containerd.runtime_type);
    if (binary !== undefined) add("binary", inPath(binary));
  }
  const { BinaryName, ConfigPath } = containerd.options;
  if (typeof BinaryName === "string" && BinaryName !== "") {
    add("binary", BinaryName.startsWith("/") ? [BinaryName] : inPath(BinaryName));
  }
  if (typeof ConfigPath === "string" && ConfigPath !== "") add("configuration", [ConfigPath]);
  for (const binary of handler.requires ?? []) add("binary", inPath(binary));
  if (handler.base_runtime_spec !== undefined) add("configuration", [handler.base_runtime_spec]);
  return found;
}
