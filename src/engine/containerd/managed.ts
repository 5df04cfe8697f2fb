import { ShimctlError } from "../../error.ts";
import type { Read } from "../../host/host.ts";
import type { Site, Source } from "../backend.ts";
import { textOf } from "./load.ts";

/**
 * Refuses where a root file that bears a mark while its starter writes it anew has lost it, or was never written: its
 * starter then reads no drop-in (k0s, `isK0sManagedConfig`).
 * Throws ShimctlError `unsupported-config` or `unsupported-node`
 */
export function refuseUnmanaged(site: Site, source: Source, root: Read | undefined): void {
  if (source.kind === "template" || source.mark === undefined) return;
  const { by, mark } = source;
  if (root?.kind === "absent") {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot configure ${by} before its first start, as it writes this file then, and how it reads drop-ins shows there`,
      { path: site.rootFile, hint: `start ${by} on this node, then run the same command again` },
    );
  }
  const text = textOf(root);
  if (text === undefined) {
    throw new ShimctlError("invalid-config", "Cannot read the engine's configuration file", {
      path: site.rootFile,
      cause: root,
    });
  }
  // k0s before 1.30 left an empty line above it.
  if (text.trimStart().split(/\r?\n/, 1)[0] === mark) return;
  throw new ShimctlError(
    "unsupported-config",
    `Cannot add drop-ins, as ${by} does not manage this file any more: its first line is not '${mark}'`,
    {
      path: site.rootFile,
      line: 1,
      hint: `pass --config ${site.rootFile}, and shimctl edits it as the administrator's own`,
    },
  );
}
