import { lstatSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { ShimctlError } from "../error.ts";
import type { Host } from "./root.ts";

/**
 * Refuses a file that somebody besides root may change, by itself or by any folder above it: root would carry
 * out what another user writes there, and whoever may rename a folder can put a link in its place between a
 * look and a write. For a user who is not root nothing is checked: their files are theirs to share.
 * Throws ShimctlError `unsupported-node`
 *
 * @param path host path of a file; it, and folders above it, may be missing
 */
export function refuseShared(host: Host, path: string): void {
  if (process.geteuid?.() !== 0) return;
  const resolved = host.resolve(path);
  const folder = dirname(resolved);
  for (let here = resolved; ; here = dirname(here)) {
    const stat = lstatSync(host.root === "/" ? here : `${host.root}${here}`, { throwIfNoEntry: false });
    const why = stat === undefined ? undefined : sharedBy(stat, here !== resolved && here !== folder);
    if (why !== undefined) throw shared(path, here, why);
    if (here === "/") return;
  }
}

/** The group of root has no other members; where it had, they could read everything of root's as well. */
const rootGroup = 0;

function sharedBy({ uid, gid, mode }: Stats, isAbove: boolean): "owner" | "group" | "others" | undefined {
  if (uid !== 0) return "owner";
  // In a folder such as /tmp everybody makes files, and only their owners rename or remove them: ours stay ours.
  if (isAbove && (mode & 0o1000) !== 0) return undefined;
  if ((mode & 0o002) !== 0) return "others";
  return (mode & 0o020) !== 0 && gid !== rootGroup ? "group" : undefined;
}

function shared(path: string, here: string, why: "owner" | "group" | "others"): ShimctlError {
  const what = here === path ? "this file" : `a path that leads through ${here}`;
  const reason = {
    owner: "it does not belong to root, and its owner could write anything there",
    group: "its group may write to it",
    others: "every user may write to it",
  }[why];
  return new ShimctlError("unsupported-node", `Cannot trust ${what}, as ${reason}`, {
    path,
    hint: `run ${why === "owner" ? "chown root" : why === "group" ? "chmod g-w" : "chmod o-w"} ${here}, then the same command again`,
  });
}
