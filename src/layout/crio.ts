import { asStarted, isEngine } from "./command_line.ts";
import { type Layout, unitFiles } from "./layout.ts";

const binaries = ["/usr/local/bin/crio", "/usr/bin/crio"];
const unit = "crio.service";
const socket = "/run/crio/crio.sock";
/** Wherever its configuration is. */
export const dropIns = "/etc/crio/crio.conf.d";

/** What every layout of CRI-O has. */
export const ownCrio = {
  engine: "crio",
  unit,
  isDaemon: (daemon) => isEngine("crio", daemon.argv),
  places: (_, daemon) => asStarted("crio", daemon, { rootFile: "/etc/crio/crio.conf", socket, binaries }),
  // Its monitors are moved into control groups of their own, and its packages leave the KillMode at its default.
  killModes: ["process", "none", "control-group", "mixed"],
  module: /^github\.com\/cri-o\/cri-o\/cmd\/crio$/,
  oldest: { major: 1, minor: 28 },
} as const satisfies Partial<Layout>;

/** CRI-O as its packages set it up. */
export const crio: Layout = {
  ...ownCrio,
  name: "crio",
  title: "CRI-O from packages",
  evidence: (host) =>
    ["/etc/crio/crio.conf", dropIns, ...binaries, ...unitFiles(unit), socket].filter((path) =>
      host.exists(path),
    ),
  survives: "restarts, reboots and upgrades of the package",
};
