import { ShimctlError } from "../error.ts";
import type { ManagedSystem } from "./system.ts";

/**
 * Bottlerocket writes /etc/containerd, a file system in memory, from its settings at every boot, and no setting
 * adds a handler (bottlerocket-os/bottlerocket: packages/containerd; its settings reference, container-runtime).
 */
export const bottlerocket: ManagedSystem = {
  name: "bottlerocket",
  title: "Bottlerocket",
  engine: "containerd",
  defines: ["runc"],
  rendering() {
    throw new ShimctlError(
      "unsupported-node",
      "Cannot define handlers on Bottlerocket, which writes /etc/containerd from its settings at every boot, as none of these adds a handler: settings.container-runtime is about log lines, downloads, unprivileged ports and the snapshotter",
      {
        hint: "use a variant that has the handler (the nvidia ones have nvidia), build a variant of your own with another containerd template, or run these pods on nodes of Amazon Linux 2023: shimctl render --for nodeadm",
      },
    );
  },
};
