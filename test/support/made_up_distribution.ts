import { specialContainerd } from "../../src/layout/containerd.ts";
import { present } from "../../src/layout/evidence.ts";
import type { Layout } from "../../src/layout/layout.ts";

/** A distribution that nobody has: all that a new one takes, besides its line in the registry. */
export const bluewhale: Layout = {
  ...specialContainerd,
  name: "bluewhale",
  title: "Blue Whale Linux",
  evidence: (host) => present(host, ["/etc/bluewhale/release"]),
  unit: "whale-containerd.service",
  places: () => ({
    ...specialContainerd.places(),
    rootFile: "/etc/bluewhale/containerd.toml",
    socket: "/run/bluewhale/containerd.sock",
  }),
  survives: "restarts and reboots",
  wipes: "the next whale upgrade",
};
