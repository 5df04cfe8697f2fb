import { specialContainerd } from "./containerd.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/**
 * Nodes of Google Kubernetes Engine: a start script configures containerd at every boot (kubernetes/kubernetes:
 * cluster/gce/gci/configure.sh, which writes kube-env), and Container-Optimized OS has /etc in memory (its page on
 * disks and the file system).
 */
export const gke: Layout = {
  ...specialContainerd,
  name: "gke",
  title: "Google Kubernetes Engine",
  evidence: (host) =>
    present(host, ["/home/kubernetes/kube-env", "/home/kubernetes/bin/configure-helper.sh"]),
  survives: "restarts of containerd",
  wipes: "the next boot, at which the node's start script writes /etc/containerd/config.toml anew",
};
