import { type Program, rancher } from "./rancher.ts";

const rke2: Program = {
  name: "rke2",
  title: "RKE2",
  units: { server: "rke2-server.service", agent: "rke2-agent.service" },
  binaries: ["/usr/local/bin/rke2", "/usr/bin/rke2", "/opt/rke2/bin/rke2", "/opt/bin/rke2"],
};

/** RKE2 with its own containerd, on a node of the control plane. */
export const rke2Server = rancher(rke2, "server");

/** The same on a node that only runs pods. */
export const rke2Agent = rancher(rke2, "agent");
