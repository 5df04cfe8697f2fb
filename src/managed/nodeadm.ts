import { generationOf } from "./generation.ts";
import type { ManagedSystem } from "./system.ts";
import { blockScalar } from "./yaml.ts";

/**
 * nodeadm merges `spec.containerd.config` into its own configuration, table by table, and tells the version of
 * either by the plugin ids (awslabs/amazon-eks-ami: nodeadm/internal/containerd/config.go).
 */
export const nodeadm: ManagedSystem = {
  name: "nodeadm",
  title: "Amazon EKS nodes on Amazon Linux 2023 (nodeadm)",
  engine: "containerd",
  defines: ["runc"],
  rendering(version) {
    const { schema, engines, look } = generationOf(version);
    return {
      engines,
      // As nodeadm's own templates set it for the default handler.
      target: {
        schema,
        base: {
          base_runtime_spec: "/etc/containerd/base-runtime-spec.json",
          options: { SystemdCgroup: true },
        },
      },
      wrap: (toml) => `apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  containerd:
    config: |
${blockScalar(toml, 6)}`,
      notes: {
        wiped:
          "nodeadm writes /etc/containerd/config.toml anew at every boot, so an edit on the node lasts until then.",
        apply: [
          "Add this to the user data of the nodes (launch template, Karpenter's EC2NodeClass), as one more part of the MIME document:",
          "  Content-Type: application/node.eks.aws",
          "nodeadm merges all NodeConfig parts, the cluster's own included. Changed user data counts for new nodes: replace the old ones.",
        ],
        takeBack: ["Remove the part from the user data, and replace the nodes."],
        check: [
          look,
          "Where another part has spec.containerd.config already, add these tables to that text instead.",
          "The accelerated AMIs define nvidia, as their default handler.",
          "Programs must be on the node before its pods start: in the AMI, or by a shell script part of the user data.",
        ],
      },
    };
  },
};
