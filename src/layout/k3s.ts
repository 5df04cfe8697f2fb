import { type Program, rancher } from "./rancher.ts";

const k3s: Program = {
  name: "k3s",
  title: "k3s",
  units: { server: "k3s.service", agent: "k3s-agent.service" },
  binaries: ["/usr/local/bin/k3s", "/usr/bin/k3s", "/opt/bin/k3s"],
};

/** k3s with its own containerd, on a node of the control plane. */
export const k3sServer = rancher(k3s, "server");

/** The same on a node that only runs pods. */
export const k3sAgent = rancher(k3s, "agent");
