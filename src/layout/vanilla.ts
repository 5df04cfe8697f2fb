import type { Layout } from "./layout.ts";

const binaries = ["/usr/local/bin/containerd", "/usr/bin/containerd"];
const units = [
  "/etc/systemd/system/containerd.service",
  "/usr/local/lib/systemd/system/containerd.service",
  "/usr/lib/systemd/system/containerd.service",
  "/lib/systemd/system/containerd.service",
];

/** containerd as its own packages and Debian's set it up. */
export const vanilla: Layout = {
  name: "vanilla",
  engine: "containerd",
  evidence: (host) => [
    ...["/etc/containerd/config.toml", ...binaries, ...units, "/run/containerd/containerd.sock"].filter(
      (path) => host.exists(path),
    ),
  ],
  rootFile: "/etc/containerd/config.toml",
  unit: "containerd.service",
  // Its shims stay in its own control group.
  killModes: ["process", "none"],
  socket: "/run/containerd/containerd.sock",
  binaries,
  module: /^github\.com\/containerd\/containerd(?:\/v(\d+))?\/cmd\/containerd$/,
  oldest: { major: 1, minor: 6 },
};
