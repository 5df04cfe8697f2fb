import { specialContainerd } from "./containerd.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

const units = ["nodeadm-config.service", "nodeadm-run.service"];

/**
 * Amazon Linux 2023 as an EKS node: nodeadm writes the file in two oneshot units of every boot
 * (awslabs/amazon-eks-ami: templates/al2023/runtime/rootfs/etc/systemd/system).
 */
export const eks: Layout = {
  ...specialContainerd,
  name: "eks",
  title: "Amazon EKS on Amazon Linux 2023",
  evidence: (host) =>
    present(host, ["/usr/bin/nodeadm", ...units.map((unit) => `/etc/systemd/system/${unit}`)]),
  survives: "restarts of containerd",
  wipes: "the next boot, at which nodeadm writes /etc/containerd/config.toml anew",
  document: "nodeadm",
};
