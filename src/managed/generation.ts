import type { EngineVersion } from "../engine/backend.ts";

/** A generation of containerd: each reads handlers under plugin ids of its own. */
interface Generation {
  readonly schema: 2 | 3;
  readonly engines: string;
  /** How to see whether it is the right one. */
  readonly look: string;
}

/** The generation of a release, the present one where nobody said. */
export function generationOf(version: EngineVersion | undefined): Generation {
  const isOld = version !== undefined && version.major < 2;
  const look = (other: string, option: string) =>
    `Handlers stand where this generation of containerd looks for them. For nodes with ${other} (kubectl get nodes -o wide shows it), make this again with --engine-version ${option}.`;
  return isOld
    ? { schema: 2, engines: "containerd 1.x", look: look("2.x", "2.1") }
    : { schema: 3, engines: "containerd 2.x", look: look("1.x", "1.7") };
}
