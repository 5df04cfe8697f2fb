import { ownContainerd } from "./containerd.ts";
import { type Layout, unitFiles } from "./layout.ts";

/** containerd as its own packages and Debian's set it up. */
export const vanilla: Layout = {
  ...ownContainerd,
  name: "vanilla",
  title: "containerd from packages",
  evidence: (host) => {
    const { rootFile, binaries, socket } = ownContainerd.places();
    return [rootFile, ...binaries, ...unitFiles(ownContainerd.unit), socket].filter((path) =>
      host.exists(path),
    );
  },
  survives: "restarts, reboots and upgrades of the package",
};
