import { specialContainerd } from "./containerd.ts";
import { isSystem, present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

const rootFile = "/etc/cri/containerd.toml";

/**
 * Talos makes /etc/cri from its machine config; /etc/containerd is that of a second containerd, which runs its own
 * services (siderolabs/talos: pkg/machinery/constants/constants.go).
 */
export const talos: Layout = {
  ...specialContainerd,
  name: "talos",
  title: "Talos Linux",
  evidence: (host) => [
    ...present(host, ["/etc/cri/conf.d/00-base.part", rootFile]),
    ...isSystem(host, "talos"),
  ],
  // Of machined, its init; systemd is not there.
  unit: "cri.service",
  places: (host, daemon) => ({
    ...specialContainerd.places(host, daemon),
    rootFile,
    binaries: ["/usr/bin/containerd", "/bin/containerd"],
  }),
  survives: "nothing",
  wipes: "the next boot, at which Talos makes /etc/cri from its machine config",
  document: "talos",
  refuses: () => ({ path: rootFile, why: "it makes this file from its machine config" }),
};
