import { ShimctlError } from "../../error.ts";
import type { EngineVersion, Snapshot } from "../backend.ts";
import { expandGlob } from "./glob.ts";

/** One entry of an `imports` list, by the rules of containerd's resolveImports. */
export interface Import {
  /** As it stands in the file. */
  readonly text: string;
  /** Absolute and cleaned. */
  readonly pattern: string;
  /** containerd globs only where a `*` stands; anything else is a literal path that must exist. */
  readonly glob: boolean;
}

/** Go's `filepath.Clean` for absolute paths. */
function clean(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/**
 * Resolves one import. Throws where the engine's own answer would depend on the folder that it was started
 * in: 1.6 before .29 and 1.7 before .16 resolve relative globs against it.
 */
export function resolveImport(text: string, from: string, version: EngineVersion): Import {
  const folder = from.slice(0, from.lastIndexOf("/"));
  const glob = text.includes("*");
  if (!text.startsWith("/") && glob && relativeGlobIsUnsafe(version)) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot follow a relative glob in imports, as containerd before 1.6.29 and 1.7.16 resolves it against the folder it was started in: ${text}`,
      {
        path: from,
        hint: "write the pattern as an absolute path, or pass --engine-version when this engine is newer",
      },
    );
  }
  return { text, pattern: clean(text.startsWith("/") ? text : `${folder}/${text}`), glob };
}

function relativeGlobIsUnsafe(version: EngineVersion): boolean {
  if (version.major !== 1) return false;
  if (version.minor === undefined || version.patch === undefined) return true;
  return (
    (version.minor === 6 && version.patch < 29) ||
    (version.minor === 7 && version.patch < 16) ||
    version.minor < 6
  );
}

/** The files that an import leads to, and the folders to list before that can be said. */
export function filesOf(entry: Import, seen: Snapshot): { files: string[]; wanted: string[] } {
  if (!entry.glob) return { files: [entry.pattern], wanted: [] };
  const { matches, wanted } = expandGlob(entry.pattern, seen.folders);
  return { files: matches, wanted };
}
