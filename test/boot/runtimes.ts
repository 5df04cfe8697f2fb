import { existsSync } from "node:fs";
import { join } from "node:path";
import type { BootRoot } from "../../build/boot.ts";

const front = join(import.meta.dirname, "oci-runtime.sh");
const runtimes = ["usr/sbin/runc", "usr/bin/crun", "usr/bin/runsc"];

/** What to bind on a node so that its runtimes run pods here: `oci-runtime.sh` in front of each. */
export function runtimeBinds({ root }: BootRoot): (readonly [from: string, to: string])[] {
  return [
    // Whole folders: runc runs what is under its own file, when that is a mount.
    [join(root, "usr", "sbin"), "/usr/libexec/node/sbin"],
    [join(root, "usr", "bin"), "/usr/libexec/node/bin"],
    ...runtimes.filter((path) => existsSync(join(root, path))).map((path) => [front, `/${path}`] as const),
  ];
}
