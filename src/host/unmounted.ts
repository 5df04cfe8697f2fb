import { ShimctlError } from "../error.ts";
import type { HostFiles } from "./host.ts";

/**
 * Throws `unsupported-node` for the first of these paths that is the image's own and not the node's.
 */
export function refuseUnmounted(host: HostFiles, paths: readonly string[]): void {
  for (const path of paths) {
    const missing = host.unmounted?.(path);
    if (missing === undefined) continue;
    const folder = missing.slice(0, missing.lastIndexOf("/")) || "/";
    throw new ShimctlError(
      "unsupported-node",
      missing === path
        ? `Cannot use this node, as its ${folder} is not mounted below ${host.root}`
        : `Cannot use this path, as it leads out of what is mounted below ${host.root}: ${missing}`,
      { path, hint: `mount the node's ${folder} at ${host.root}${folder}` },
    );
  }
}

/** What may be asked of programs and files that are only named somewhere: of one that cannot be seen, nothing is said. */
export function benefitOfDoubt(host: HostFiles): Pick<HostFiles, "exists" | "isExecutable"> {
  const { unmounted } = host;
  if (unmounted === undefined) return host;
  return {
    exists: (path) => unmounted(path) !== undefined || host.exists(path),
    isExecutable: (path) => unmounted(path) !== undefined || host.isExecutable(path),
  };
}
