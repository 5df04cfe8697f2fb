import { generationOf } from "./generation.ts";
import type { ManagedSystem } from "./system.ts";
import { blockScalar } from "./yaml.ts";

const part = "/etc/cri/conf.d/20-customization.part";

/** containerd 1.x has its default handler built in only where no file defines any other. */
const builtin = `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

`;

/**
 * Talos merges the parts in /etc/cri/conf.d into the configuration that containerd imports, table by table; this
 * one is the operator's (siderolabs/talos: internal/pkg/toml/merge.go, hack/cri-plugin.part; its containerd guide).
 * A part names no version: that of Talos' own first part counts.
 */
export const talos: ManagedSystem = {
  name: "talos",
  title: "Talos Linux",
  engine: "containerd",
  defines: ["runc"],
  rendering(version) {
    const { schema, engines, look } = generationOf(version);
    return {
      engines,
      // As Talos' first part sets it for runc.
      target: {
        schema,
        ...(schema === 2 ? {} : { base: { base_runtime_spec: "/etc/cri/conf.d/base-spec.json" } }),
      },
      wrap: (toml) => `machine:
  files:
    - path: ${part}
      op: create
      content: |
${blockScalar(schema === 2 ? builtin + toml : toml, 8)}`,
      notes: {
        wiped:
          "Talos generates /etc/cri from the machine config, and its root file system is read-only: an edit on the node does not last.",
        apply: [
          "Save this as handlers.yaml and apply it once. It comes into effect when the node boots, which talosctl lets it do at once unless --mode says otherwise:",
          "  talosctl patch machineconfig --nodes NODE --patch @handlers.yaml",
        ],
        takeBack: [
          "Remove the entry of machine.files again, and let the node boot:",
          "  talosctl edit machineconfig --nodes NODE",
        ],
        check: [
          look,
          `A patch appends to machine.files, and a path may stand there once: where your machine config has ${part} already, add these tables to it instead.`,
          "From Talos 1.14 on, this file is deprecated: the same TOML can be the content of a document of its own, which needs no boot:",
          "  apiVersion: v1alpha1\n  kind: CRICustomizationConfig\n  name: runtime-handlers\n  content: |",
          "Programs come to a node as system extensions. Some of these define their handler themselves, so look into /etc/cri/conf.d on a node (talosctl ls, talosctl read) before you define it again; most keep their files below /usr/local, which --prefix /usr/local tells shimctl.",
        ],
      },
    };
  },
};
