import type { HostFiles } from "../host/host.ts";
import { asStarted, isEngine } from "./command_line.ts";
import type { Daemon, Layout, Places } from "./layout.ts";

/** What every layout of containerd has that runs it from its own unit, on its own file. */
export const ownContainerd = {
  engine: "containerd",
  unit: "containerd.service",
  isDaemon: (daemon) =>
    isEngine("containerd", daemon.argv) &&
    daemon.unit !== "docker.service" &&
    // MicroK8s starts its own by a script, which it then takes the place of.
    !/^\/snap\/microk8s\//.test(daemon.argv[0] ?? "") &&
    daemon.unit?.startsWith("snap.microk8s.") !== true,
  places: (_?: HostFiles, daemon?: Daemon): Places =>
    asStarted("containerd", daemon, {
      rootFile: "/etc/containerd/config.toml",
      socket: "/run/containerd/containerd.sock",
      binaries: ["/usr/local/bin/containerd", "/usr/bin/containerd"],
    }),
  // Its shims stay in its own control group.
  killModes: ["process", "none"],
  module: /^github\.com\/containerd\/containerd(?:\/v(\d+))?\/cmd\/containerd$/,
  oldest: { major: 1, minor: 6 },
} as const satisfies Partial<Layout>;

/** The same on a distribution that has something of its own; docker may be on any of them. */
export const specialContainerd = {
  ...ownContainerd,
  refines: ["vanilla", "docker"],
} as const satisfies Partial<Layout>;
