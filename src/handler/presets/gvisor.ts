import type { Preset } from "../preset.ts";

/** gVisor has no BinaryName: its shim finds `runsc` in PATH, or by `binary_name` in its own configuration. */
export const gvisor: readonly Preset[] = [
  {
    name: "runsc",
    summary: "gVisor",
    source: "google/gvisor: g3doc/user_guide/containerd/quick_start.md",
    handler: { requires: ["runsc"] },
    containerd: { runtime_type: "io.containerd.runsc.v1" },
  },
];
