import type { ManagedSystem } from "./system.ts";

const dropIn = "/etc/crio/crio.conf.d/50-runtime-handlers.conf";

/**
 * OpenShift's Machine Config Operator writes Ignition files to the nodes of a pool; CRI-O reads every file in
 * its drop-in folder (openshift/machine-config-operator: docs/MachineConfiguration.md).
 */
export const machineconfig: ManagedSystem = {
  name: "machineconfig",
  title: "OpenShift (MachineConfig)",
  engine: "crio",
  // The default one is runc before 4.18 and crun since; CRI-O takes the last table of a name as a whole.
  defines: ["runc", "crun"],
  rendering: () => ({
    engines: "CRI-O",
    // What a handler of the default one's kind leaves out, CRI-O takes from its own [crio.runtime] settings.
    target: { schema: 1 },
    wrap: (toml) => `apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfig
metadata:
  name: 99-worker-runtime-handlers
  labels:
    machineconfiguration.openshift.io/role: worker
spec:
  config:
    ignition:
      version: 3.2.0
    storage:
      files:
        - path: ${dropIn}
          mode: 420 # 0644
          overwrite: true
          contents:
            source: data:text/plain;charset=utf-8;base64,${Buffer.from(toml).toString("base64")}
`,
    notes: {
      wiped:
        "The Machine Config Operator owns its files in /etc/crio: a pool whose nodes were edited becomes degraded, and a file that no MachineConfig has is not on the next node.",
      apply: [
        "Save this as handlers.yaml. The operator drains and boots the nodes of the pool, one after the other, unless a node disruption policy says otherwise:",
        "  oc apply -f handlers.yaml",
        "  oc get machineconfigpool worker --watch",
      ],
      takeBack: [
        "The nodes are drained and booted once more:",
        "  oc delete machineconfig 99-worker-runtime-handlers",
      ],
      check: [
        "For another pool than worker, change the name and the label. Ignition 3.2.0 needs OpenShift 4.7 or later.",
        "/usr is read-only on these nodes: programs come with the image, an extension or an operator. The OpenShift sandboxed containers operator brings Kata together with its handler.",
      ],
    },
  }),
};
