import "../jitless.ts";
import * as z from "zod/mini";

// Schemas are lazy: to make them all takes longer than most commands, which need a few or none of them.

/** Handler names become RuntimeClass handlers, which Kubernetes wants as DNS-1123 labels. */
export const HandlerName = z
  .string()
  .check(
    z.regex(
      /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/,
      "must be lower-case letters, digits, '-' or '.', at most 63",
    ),
  );

/**
 * An owner's name stands in file names and markers. `shared` marks what belongs to no owner.
 */
export const OwnerName = z
  .string()
  .check(
    z.regex(
      /^(?!shared$)[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/,
      "must be at most 40 lower-case letters, digits or '-', with no '-' at either end, and not 'shared'",
    ),
  );

/** As the node names it, not as it is seen through `--root`. */
export const HostPath = z.string().check(z.regex(/^\/[^\0\n]*$/, "must be an absolute path"));

/**
 * containerd 1.x does not start on a key with a double quote in it, however it is quoted, or takes it for several
 * (go-toml v1.9.5, keysparsing.go: "escape sequences are not supported").
 */
export const OptionName = z
  .string()
  .check(z.regex(/^[^"]*$/, "must hold no double quote, which containerd 1.x cannot read in a key"));

/** Values that a runtime's options table may hold; every engine version reads these as TOML 1.0. */
export const OptionValue = z.lazy(() => z.union([z.string(), z.boolean(), z.int(), z.array(z.string())]));

/** What only containerd knows of a handler: config-semantics.md section 2. */
export const ContainerdPart = z.lazy(() =>
  z.strictObject({
    /** `io.containerd.NAME.vN` (any dotted name: `aws.firecracker`), or the absolute path of a shim. */
    runtime_type: z
      .string()
      .check(
        z.regex(
          /^(\/[^\0\n]+|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+)$/,
          "must be a dotted name such as io.containerd.NAME.vN, or an absolute path",
        ),
      ),
    runtime_path: z.optional(HostPath),
    options: z._default(z.record(OptionName, OptionValue), {}),
    /** Take over what runc's handler on this node has set (SystemdCgroup, base_runtime_spec …). */
    like_runc: z._default(z.boolean(), false),
  }),
);

/** What only CRI-O knows of a handler: config-semantics.md 3.2, with the release that brought each key. */
export const CrioPart = z.lazy(() =>
  z.strictObject({
    runtime_path: z.optional(HostPath),
    runtime_type: z._default(z.enum(["oci", "vm", "pod"]), "oci"),
    runtime_root: z.optional(HostPath),
    runtime_config_path: z.optional(HostPath),
    allowed_annotations: z.optional(z.array(z.string())),
    /** 1.24 */
    monitor_path: z.optional(HostPath),
    monitor_cgroup: z.optional(z.string()),
    monitor_env: z.optional(z.array(z.string())),
    monitor_exec_cgroup: z.optional(z.string()),
    /** 1.28: `os/arch` to path. */
    platform_runtime_paths: z.optional(z.record(z.string(), HostPath)),
    /** 1.29: the runtime pulls the image itself, as confidential guests do. */
    runtime_pull_image: z.optional(z.boolean()),
    /** 1.30 */
    container_min_memory: z.optional(z.string()),
    /** 1.31 */
    no_sync_log: z.optional(z.boolean()),
    /** 1.32 */
    inherit_default_runtime: z.optional(z.boolean()),
    default_annotations: z.optional(z.record(z.string(), z.string())),
    /** 1.34 */
    stream_websockets: z.optional(z.boolean()),
    exec_cpu_affinity: z.optional(z.enum(["", "first"])),
    seccomp_profile: z.optional(HostPath),
    /** 1.35, in seconds. */
    container_create_timeout: z.optional(z.int()),
    /** Take over how the default runtime of this node is monitored (monitor_path, monitor_cgroup …). */
    like_default: z._default(z.boolean(), false),
  }),
);

/** A named runtime entry, resolved: nothing in it depends on the machine or the release any more. */
export const Handler = z.lazy(() =>
  z.strictObject({
    name: HandlerName,
    preset: z.optional(z.string()),
    snapshotter: z.optional(z.string().check(z.regex(/^[A-Za-z0-9_.-]+$/, "must be a snapshotter's name"))),
    pod_annotations: z.optional(z.array(z.string())),
    container_annotations: z.optional(z.array(z.string())),
    privileged_without_host_devices: z.optional(z.boolean()),
    base_runtime_spec: z.optional(HostPath),
    cni_conf_dir: z.optional(HostPath),
    cni_max_conf_num: z.optional(z.int()),
    /** Binaries that the shim itself looks up in PATH. */
    requires: z.optional(z.array(z.string().check(z.regex(/^[^/\0\n]+$/, "must be a file name")))),
    /** Absent where the runtime is not documented for that engine. */
    containerd: z.optional(ContainerdPart),
    crio: z.optional(CrioPart),
  }),
);

export type Handler = z.infer<typeof Handler>;
export type ContainerdPart = z.infer<typeof ContainerdPart>;
export type CrioPart = z.infer<typeof CrioPart>;
export type OptionValue = z.infer<typeof OptionValue>;

/** A file that must be on the host for a handler to work. */
export interface Need {
  readonly handler: string;
  readonly what: "binary" | "configuration";
  /** Any one of these satisfies the need. */
  readonly paths: readonly string[];
}
