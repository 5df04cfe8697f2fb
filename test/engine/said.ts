import type { Handler } from "../../src/handler/model.ts";

/**
 * What engines say of a handler that was written: its own keys as they are, every other one at the engine's default.
 * By hand, from config-semantics.md 2 and 3.2 and the engines' sources; nothing of `src/engine` takes part.
 */

type Said = Record<string, unknown>;

/** `config dump` of one release of containerd. */
export function saidByContainerd(handler: Handler, version: string): Said {
  const { containerd } = handler;
  if (containerd === undefined) throw new Error(`${handler.name} has no part for containerd`);
  const { runtime_type, runtime_path, options } = containerd;
  const common = {
    runtime_type,
    runtime_path: runtime_path ?? "",
    pod_annotations: handler.pod_annotations ?? [],
    container_annotations: handler.container_annotations ?? [],
    privileged_without_host_devices: handler.privileged_without_host_devices ?? false,
    base_runtime_spec: handler.base_runtime_spec ?? "",
    cni_conf_dir: handler.cni_conf_dir ?? "",
    cni_max_conf_num: handler.cni_max_conf_num ?? 0,
  };
  const snapshotter = handler.snapshotter ?? "";
  const since17 = { snapshotter, privileged_without_host_devices_all_devices_allowed: false };
  const until17 = { runtime_engine: "", runtime_root: "", options };
  if (version.startsWith("1.6.")) return { ...common, ...until17 };
  if (version.startsWith("1.")) return { ...common, ...until17, ...since17, sandbox_mode: "" };
  return {
    ...common,
    ...since17,
    ...(Object.keys(options).length === 0 ? {} : { options }),
    cgroup_writable: false,
    sandboxer: "",
    io_type: "",
  };
}

/** `status config` of CRI-O 1.36, which leaves out what is empty, on a node that CRI-O runs on with systemd. */
export function saidByCrio(handler: Handler): Said {
  const { crio } = handler;
  if (crio === undefined) throw new Error(`${handler.name} has no part for CRI-O`);
  const { like_default: _, ...own } = crio;
  const isEmpty = (value: unknown) =>
    value === undefined ||
    value === "" ||
    value === false ||
    (typeof value === "object" && value !== null && Object.keys(value).length === 0);
  const defaults = {
    container_min_memory: "12MiB",
    container_create_timeout: 240,
    // Only conmon is found without being named, and given a cgroup.
    ...(crio.runtime_type === "oci"
      ? { monitor_path: "/usr/bin/conmon", monitor_cgroup: "system.slice" }
      : {}),
  };
  const said = { privileged_without_host_devices: handler.privileged_without_host_devices, ...own };
  return {
    runtime_root: "",
    runtime_config_path: "",
    no_sync_log: false,
    ...defaults,
    ...Object.fromEntries(Object.entries(said).filter(([, value]) => !isEmpty(value))),
  };
}

/** Integers as the model has them; key order and prototypes say nothing. */
export function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, inner: unknown) => (typeof inner === "bigint" ? Number(inner) : inner)),
  );
}
