import type { Preset } from "../preset.ts";

/** The shim starts `urunc`, which it looks up in PATH. */
export const urunc: readonly Preset[] = [
  {
    name: "urunc",
    summary: "urunc, unikernels",
    source: "urunc-dev/urunc: docs/installation.md",
    handler: {
      requires: ["urunc"],
      snapshotter: "devmapper",
      pod_annotations: ["com.urunc.unikernel.*"],
      container_annotations: ["com.urunc.unikernel.*"],
    },
    containerd: { runtime_type: "io.containerd.urunc.v2" },
  },
];
