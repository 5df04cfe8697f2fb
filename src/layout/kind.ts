import { specialContainerd } from "./containerd.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/**
 * A container as a node. The build of a node image writes /kind/version (kubernetes-sigs/kind:
 * pkg/build/nodeimage/buildcontext.go); minikube's image has the folder, and not the file.
 */
export const kind: Layout = {
  ...specialContainerd,
  name: "kind",
  title: "kind",
  evidence: (host) => present(host, ["/kind/version"]),
  survives: "restarts of containerd and of the node's container",
  wipes:
    "the end of the node's container: a cluster that is created anew has what containerdConfigPatches of its configuration say",
};
