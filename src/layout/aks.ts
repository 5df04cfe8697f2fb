import { specialContainerd } from "./containerd.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/**
 * Nodes of Azure Kubernetes Service: the custom script extension writes the file when a machine is set up
 * (Azure/AgentBaker: vhdbuilder/packer writes vhd-install.complete; its parts write the configuration).
 */
export const aks: Layout = {
  ...specialContainerd,
  name: "aks",
  title: "Azure Kubernetes Service",
  evidence: (host) =>
    present(host, ["/opt/azure/vhd-install.complete", "/opt/azure/containers/provision.complete"]),
  survives: "restarts and reboots",
  wipes: "the next upgrade of the node image and every reimage, which set the node up anew",
};
