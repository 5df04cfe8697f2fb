import type { Preset } from "../preset.ts";

/** Wants containerd 2.0.5 and Kubernetes 1.30 or later, and pods with `hostUsers: false`. */
export const sysbox: readonly Preset[] = [
  {
    name: "sysbox-runc",
    summary: "Sysbox, containers that act as virtual machines",
    source:
      "nestybox/sysbox: docs/user-guide/install-k8s.md; k3s-io/docs: blog/2025-09-27-k3s-sysbox.md; nestybox/sysbox-pkgr: k8s/scripts/sysbox-deploy-k8s.sh",
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: { BinaryName: { what: "binary", candidates: ["/usr/bin/sysbox-runc"] } },
    },
    crio: {
      runtime_path: ["/usr/bin/sysbox-runc"],
      allowed_annotations: ["io.kubernetes.cri-o.userns-mode"],
      // Its script names the monitor of the CRI-O that it brings along; elsewhere the node's own is right.
      like_default: true,
    },
  },
];
