import { ShimctlError } from "../../error.ts";
import type { Read } from "../../host/host.ts";
import { lineOf } from "../../toml/find.ts";
import type { Problem, Site, Source } from "../backend.ts";
import { tableAt } from "../tables.ts";
import { type Loaded, textOf } from "./load.ts";
import { criV2 } from "./schema.ts";

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
    "unsupported-node",
    `Cannot install here, as ${by} does not manage this file: its first line is not '${mark}'`,
    {
      path: site.rootFile,
      line: 1,
      hint: `move this file away and restart ${by}, which then writes and manages its own; or add the handlers to it by hand`,
    },
  );
}

/**
 * Drop-ins on which k0s 1.36 and later do not start (pkg/component/worker/containerd, the check before its start):
 * an engine that runs does not show it.
 */
export function refusedAtStart({ source }: Site, loaded: readonly Loaded[]): Problem[] {
  if (source?.kind !== "rendered" || source.by !== "k0s") return [];
  return loaded.flatMap((file): Problem[] => {
    if (!source.dropIns.includes(folderOf(file.path))) return [];
    const { version = 3n } = file.table;
    const hasOld = tableAt(file.table, "plugins", criV2) !== undefined;
    if (version === 3n && !hasOld) return [];
    const line = lineOf(file.text, hasOld ? ["plugins", criV2] : ["version"]);
    return [
      {
        severity: "error",
        rule: "refused-at-start",
        message: `${source.by} does not start on this drop-in, as it ${hasOld ? `has a table of ${criV2}` : "is not of version 3"}`,
        path: file.path,
        ...(line === undefined ? {} : { line }),
        hint: "write it for containerd 2.x: version 3 and its plugin ids",
      },
    ];
  });
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

/** What the layout took the root file for is over. */
export function rewritten(site: Site, { by }: Source, how: string): ShimctlError {
  return new ShimctlError(
    "conflict",
    `Cannot go on, as ${by} has written its configuration in another way meanwhile: ${how}`,
    { path: site.rootFile, hint: "run the same command again", retryable: true },
  );
}
