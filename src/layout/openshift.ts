import { ownCrio } from "./crio.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/**
 * CRI-O under the Machine Config Operator. A node is degraded when a file that its MachineConfig has was edited;
 * files that it does not have are not looked at (openshift/machine-config-operator: docs/MachineConfigDaemon.md,
 * Config Drift Detection), and ours is such a file.
 */
export const openshift: Layout = {
  ...ownCrio,
  name: "openshift",
  title: "CRI-O on OpenShift",
  refines: "crio",
  evidence: (host) =>
    present(host, [
      "/etc/machine-config-daemon/currentconfig",
      "/etc/machine-config-daemon/node-annotations.json",
    ]),
  survives: "restarts, reboots and updates of the cluster",
  wipes: "the node's replacement: a new node has only what a MachineConfig holds",
  document: "machineconfig",
};
