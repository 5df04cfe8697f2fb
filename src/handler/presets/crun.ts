import type { Preset } from "../preset.ts";

/** A runc-compatible binary behind runc's own shim; every runc-like handler of a node shares its cgroup driver. */
export const crun: readonly Preset[] = [
  {
    name: "crun",
    summary: "crun, the OCI runtime in C",
    source: "containerd: docs/cri/config.md",
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: {
        BinaryName: {
          what: "binary",
          candidates: ["/usr/bin/crun", "/usr/local/bin/crun", "/usr/sbin/crun", "/usr/local/sbin/crun"],
        },
      },
    },
  },
];
