import { ownContainerd } from "./containerd.ts";
import { present } from "./evidence.ts";
import { type Layout, unitFiles } from "./layout.ts";

/**
 * docker's own package of containerd, which its daemon shares with Kubernetes: the usual paths. The file that it
 * brings disables CRI, which is refused where that is read (docker/containerd-packaging: common/containerd.toml).
 */
export const docker: Layout = {
  ...ownContainerd,
  name: "docker",
  title: "containerd beside docker",
  refines: "vanilla",
  evidence: (host) =>
    present(host, ["/usr/bin/dockerd", "/usr/local/bin/dockerd", ...unitFiles("docker.service")]),
  survives: "restarts, reboots and upgrades of the package",
};
