import type { Layout } from "./layout.ts";

const binaries = ["/usr/local/bin/crio", "/usr/bin/crio"];
const units = [
  "/etc/systemd/system/crio.service",
  "/usr/local/lib/systemd/system/crio.service",
  "/usr/lib/systemd/system/crio.service",
  "/lib/systemd/system/crio.service",
];

/** CRI-O as its packages, OpenShift and minikube set it up. */
export const crio: Layout = {
  name: "crio",
  engine: "crio",
  evidence: (host) =>
    ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d", ...binaries, ...units, "/run/crio/crio.sock"].filter(
      (path) => host.exists(path),
    ),
  rootFile: "/etc/crio/crio.conf",
  unit: "crio.service",
  // Its monitors are moved into control groups of their own, and its packages leave the KillMode at its default.
  killModes: ["process", "none", "control-group", "mixed"],
  socket: "/run/crio/crio.sock",
  binaries,
  module: /^github\.com\/cri-o\/cri-o\/cmd\/crio$/,
  oldest: { major: 1, minor: 28 },
};
