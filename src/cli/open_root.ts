import { ShimctlError } from "../error.ts";
import { type Host, openHost } from "../host/root.ts";
import { refuseUnmounted } from "../host/unmounted.ts";
import { stateFolder } from "../transaction/state.ts";
import type { Options } from "./options.ts";

/**
 * The node's root.
 * Throws `usage` for the root of a container.
 */
export async function openRoot(options: Options): Promise<Host> {
  const host = openHost(options.root, options.given.get("root"));
  await refuseOwnRoot(host, options);
  return host;
}

/**
 * The same, for who looks at what is recorded of the node, or records something.
 * Throws `unsupported-node` where the state folder is not mounted: what is written there would be gone with the container.
 */
export async function openRootWithState(options: Options): Promise<Host> {
  const host = await openRoot(options);
  refuseUnmounted(host, [`${stateFolder}/record.json`]);
  return host;
}

/** Throws `usage` where the root is that of a container, and no node's. */
async function refuseOwnRoot(host: Host, options: Options): Promise<void> {
  if (host.root !== "/") return;
  const { isContainer, surroundings } = await import("../host/container.ts");
  if (!isContainer(surroundings(options.inPod))) return;
  // A node may be a container itself, with its engine as first process and no init: k3d makes such ones.
  const [{ runningDaemons }, { wantedDaemons }] = await Promise.all([
    import("../host/processes.ts"),
    import("./wanted_daemons.ts"),
  ]);
  if (runningDaemons({ proc: "/proc", home: "/" }, wantedDaemons()).length > 0) return;
  throw new ShimctlError(
    "usage",
    "Cannot use --root /, as this is a container, whose files are its image's",
    {
      hint: "mount the node's folders below /host, and pass --root /host or set SHIMCTL_ROOT=/host",
    },
  );
}
