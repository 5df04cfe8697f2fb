import type { Handler, Need } from "../../handler/model.ts";
import { inServicePath, runcType, shimBinary } from "../../handler/resolve.ts";

/** What must be on the host for this handler to run a pod under containerd. */
export function needs(handler: Handler): Need[] {
  const { containerd } = handler;
  if (containerd === undefined) return [];
  const found: Need[] = [];
  const add = (what: Need["what"], paths: readonly string[]) =>
    found.push({ handler: handler.name, what, paths });

  if (containerd.runtime_path !== undefined) add("binary", [containerd.runtime_path]);
  else if (containerd.runtime_type.startsWith("/")) add("binary", [containerd.runtime_type]);
  else if (containerd.runtime_type !== runcType) {
    const binary = shimBinary(containerd.runtime_type);
    if (binary !== undefined) add("binary", inServicePath(binary));
  }
  const { BinaryName, ConfigPath } = containerd.options;
  if (typeof BinaryName === "string" && BinaryName !== "") {
    add("binary", BinaryName.startsWith("/") ? [BinaryName] : inServicePath(BinaryName));
  }
  if (typeof ConfigPath === "string" && ConfigPath !== "") add("configuration", [ConfigPath]);
  for (const binary of handler.requires ?? []) add("binary", inServicePath(binary));
  if (handler.base_runtime_spec !== undefined) add("configuration", [handler.base_runtime_spec]);
  return found;
}
