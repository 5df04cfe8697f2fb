import type { Preset } from "../preset.ts";

/**
 * gVisor has no BinaryName: its shim finds `runsc` in PATH, or by `binary_name` in its own configuration. CRI-O
 * runs the shim from 1.37 on, before that it wants a shim named `…-v2`; it needs `grouping = true` in runsc.toml,
 * and `selinux = false` in CRI-O's own table.
 */
export const gvisor: readonly Preset[] = [
  {
    name: "runsc",
    summary: "gVisor",
    source: "google/gvisor: g3doc/user_guide/containerd/quick_start.md, g3doc/user_guide/containerd/crio.md",
    handler: { requires: ["runsc"] },
    containerd: { runtime_type: "io.containerd.runsc.v1" },
    crio: {
      // Releases are put into /usr/local/bin, gVisor's apt packages into /usr/bin.
      runtime_path: ["/usr/local/bin/containerd-shim-runsc-v1", "/usr/bin/containerd-shim-runsc-v1"],
      runtime_type: "vm",
      runtime_root: "/run/runsc",
      runtime_config_path: ["/etc/containerd/runsc.toml"],
    },
  },
];
