import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { decodeToml } from "../toml/decode.ts";
import { holdsAnything } from "../toml/mend/mend.ts";
import { parseToml } from "../toml/parse.ts";
import type { NodeState } from "./state.ts";

export type CopySource = "store" | "bak";

/** Older bytes of a file. */
export interface Copy {
  readonly bytes: Uint8Array;
  /** Where they are from, in words for people. */
  readonly words: string;
  /** When they were in the file, or were written; in milliseconds since 1970. */
  readonly time: number;
}

/** How administrators and tools call what they put beside a file before they change it; `.bak` is kata-deploy's. */
const endings = [".bak", ".orig", ".old", ".backup", "~", ".dpkg-old", ".rpmsave"];

/**
 * The newest copy of a file that can be read. A copy that is empty or torn is no copy: who trusts it ends with an
 * empty configuration (kata-deploy.md 2.4, weakness 3).
 * Throws ShimctlError `missing-on-host` where there is none, `invalid-config` where none can be used
 */
export function copyOf(source: CopySource, host: HostFiles, state: NodeState, path: string): Copy {
  const now = host.read(path);
  const present = now.kind === "file" ? now.bytes : new Uint8Array();
  const others = (source === "store" ? stored(state, path) : beside(host, path)).filter(
    ({ bytes }) => Buffer.compare(bytes, present) !== 0,
  );
  const usable = others.filter(({ bytes }) => unusable(bytes, path) === undefined);
  const [newest] = usable.sort((a, b) => b.time - a.time);
  if (newest !== undefined) return newest;
  const [first] = others;
  if (first === undefined) {
    throw new ShimctlError(
      "missing-on-host",
      source === "store"
        ? "Cannot restore this file, as shimctl has stored no other version of it"
        : "Cannot restore this file, as no other version of it stands beside it",
      { path, hint: source === "store" ? "try --from bak" : "try --from store" },
    );
  }
  throw new ShimctlError(
    "invalid-config",
    `Cannot restore this file from ${first.words}: ${unusable(first.bytes, path)}`,
    { path, hint: source === "store" ? "try --from bak" : "try --from store" },
  );
}

/** Whether there is such a copy. */
export function hasCopy(source: CopySource, host: HostFiles, state: NodeState, path: string): boolean {
  try {
    copyOf(source, host, state, path);
    return true;
  } catch (error) {
    if (error instanceof ShimctlError) return false;
    throw error;
  }
}

function stored(state: NodeState, path: string): Copy[] {
  const found = new Map<string, Copy>();
  for (const line of state.journal().toReversed()) {
    if ((line.step !== "committed" && line.step !== "intent") || line.path !== path) continue;
    for (const hash of [line.after, line.before]) {
      if (hash === null || found.has(hash)) continue;
      const bytes = state.stored(hash);
      const when = hash === line.after ? "written at" : "as it was until";
      if (bytes !== undefined)
        found.set(hash, {
          bytes,
          words: `the stored version ${when} ${line.time}`,
          time: Date.parse(line.time),
        });
    }
  }
  return [...found.values()];
}

function beside(host: HostFiles, path: string): Copy[] {
  return endings.flatMap((ending) => {
    const read = host.read(path + ending);
    if (read.kind !== "file") return [];
    return [{ bytes: read.bytes, words: read.path, time: read.writtenMs ?? 0 }];
  });
}

function unusable(bytes: Uint8Array, path: string): string | undefined {
  if (!holdsAnything(bytes)) return "it is empty";
  try {
    parseToml(decodeToml(bytes, path), path);
    return undefined;
  } catch (error) {
    if (error instanceof ShimctlError) return error.message;
    throw error;
  }
}
