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
  // Whoever may put another link in the place of one on the way says where it leads.
  for (const link of host.links(path)) refuseAround(host, path, link);
  refuseAround(host, path, host.resolve(path));
}

/** Throws where somebody else may change what stands at a path without links, or put something else there. */
function refuseAround(host: Host, path: string, resolved: string): void {
  const folder = statAt(host, resolved)?.isSymbolicLink() === true ? resolved : dirname(resolved);
  for (let here = resolved; ; here = dirname(here)) {
    const stat = statAt(host, here);
    const why = stat === undefined ? undefined : sharedBy(stat, here !== resolved && here !== folder);
    if (why !== undefined) throw shared(path, here, why);
    if (here === "/") return;
  }
}

function statAt(host: Host, path: string): Stats | undefined {
  return lstatSync(host.root === "/" ? path : `${host.root}${path}`, { throwIfNoEntry: false });
}

/** The group of root has no other members; where it had, they could read everything of root's as well. */
const rootGroup = 0;

function sharedBy({ uid, gid, mode }: Stats, isAbove: boolean): "owner" | "group" | "others" | undefined {
  if (uid !== 0) return "owner";
  // The mode of a link says nothing.
  if ((mode & 0o170000) === 0o120000) return undefined;
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
