import "../../jitless.ts";
import * as z from "zod/mini";

/**
 * The types that containerd decodes a handler's table into; a wrong one makes the daemon exit
 * (config-semantics.md 1.5: "Decode error in server.New"). Unknown keys are warnings there, and allowed here.
 */
export const RuntimeTable = z.looseObject({
  runtime_type: z.optional(z.string()),
  runtime_path: z.optional(z.string()),
  runtime_engine: z.optional(z.string()),
  runtime_root: z.optional(z.string()),
  pod_annotations: z.optional(z.array(z.string())),
  container_annotations: z.optional(z.array(z.string())),
  options: z.optional(z.record(z.string(), z.unknown())),
  privileged_without_host_devices: z.optional(z.boolean()),
  privileged_without_host_devices_all_devices_allowed: z.optional(z.boolean()),
  base_runtime_spec: z.optional(z.string()),
  cni_conf_dir: z.optional(z.string()),
  cni_max_conf_num: z.optional(z.bigint()),
  snapshotter: z.optional(z.string()),
  sandbox_mode: z.optional(z.string()),
  sandboxer: z.optional(z.string()),
  io_type: z.optional(z.string()),
  cgroup_writable: z.optional(z.boolean()),
  disable_pause_image_pull: z.optional(z.boolean()),
});

export type RuntimeTable = z.infer<typeof RuntimeTable>;

/** Snapshotters that containerd releases bring along; others come by `proxy_plugins`. */
export const builtinSnapshotters: ReadonlySet<string> = new Set([
  "aufs",
  "blockfile",
  "btrfs",
  "devmapper",
  "erofs",
  "native",
  "overlayfs",
  "zfs",
]);

/** `io_type` accepts these; the engine's error text names others (config.go:78). */
export const ioTypes: ReadonlySet<string> = new Set(["", "fifo", "streaming"]);

/** A value that a template fills in later (MicroK8s): nothing can be said about it. */
export function isPlaceholder(value: string): boolean {
  return value.includes("${");
}

/** Top-level keys whose spelling decides: containerd 2.x matches them in any case, 1.x does not. */
export const casedKeys: readonly string[] = [
  "version",
  "imports",
  "plugins",
  "disabled_plugins",
  "required_plugins",
];
