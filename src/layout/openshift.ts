import type { HostFiles } from "../host/host.ts";
import { ownCrio } from "./crio.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/** The MachineConfig that the node has, as JSON. */
const currentConfig = "/etc/machine-config-daemon/currentconfig";

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
  evidence: (host) => present(host, [currentConfig, "/etc/machine-config-daemon/node-annotations.json"]),
  survives: "restarts, reboots and updates of the cluster",
  wipes: "the node's replacement: a new node has only what a MachineConfig holds",
  document: "machineconfig",
  keeps: (host, path) =>
    filesIn(host).includes(path)
      ? {
          path: currentConfig,
          why: "the Machine Config Operator keeps it as a MachineConfig has it",
          hint: "change the MachineConfig that brings it",
        }
      : undefined,
};

/** The files that the operator writes and looks at; none where nobody can tell. */
function filesIn(host: HostFiles): string[] {
  const read = host.read(currentConfig);
  if (read.kind !== "file") return [];
  try {
    const { spec } = JSON.parse(new TextDecoder().decode(read.bytes)) as MachineConfig;
    return (spec?.config?.storage?.files ?? []).flatMap(({ path }) => (path === undefined ? [] : [path]));
  } catch {
    return [];
  }
}

/** The part of it that is of interest here. */
interface MachineConfig {
  readonly spec?: {
    readonly config?: { readonly storage?: { readonly files?: readonly { readonly path?: string }[] } };
  };
}
