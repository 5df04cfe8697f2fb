import * as z from "zod/mini";

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
      "must be a short lower-case name, not 'shared'",
    ),
  );

const HostPath = z.string().check(z.regex(/^\/[^\0\n]*$/, "must be an absolute path"));

/** Values that a runtime's options table may hold; every engine version reads these as TOML 1.0. */
export const OptionValue = z.union([z.string(), z.boolean(), z.int(), z.array(z.string())]);

/** What only containerd knows of a handler: config-semantics.md section 2. */
export const ContainerdPart = z.strictObject({
  /** `io.containerd.NAME.vN`, or the absolute path of a shim. */
  runtime_type: z
    .string()
    .check(
      z.regex(
        /^(\/[^\0\n]+|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+)$/,
        "must be io.containerd.NAME.vN or an absolute path",
      ),
    ),
  runtime_path: z.optional(HostPath),
  options: z._default(z.record(z.string(), OptionValue), {}),
  /** Take over what runc's handler on this node has set (SystemdCgroup, base_runtime_spec …). */
  like_runc: z._default(z.boolean(), false),
});

/** A named runtime entry, resolved: nothing in it depends on the machine or the release any more. */
export const Handler = z.strictObject({
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
  containerd: ContainerdPart,
});

export type Handler = z.infer<typeof Handler>;
export type OptionValue = z.infer<typeof OptionValue>;

/** A file that must be on the host for a handler to work. */
export interface Need {
  readonly handler: string;
  readonly what: "binary" | "configuration";
  /** Any one of these satisfies the need. */
  readonly paths: readonly string[];
}
