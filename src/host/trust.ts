import { lstatSync, type Stats } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { ShimctlError } from "../error.ts";
import type { Host } from "./root.ts";

/** A folder in which a group may write by the design of whoever made it: `groups` are names in /etc/group. */
interface SharedFolder {
  readonly path: string;
  readonly groups: readonly string[];
}

/**
 * Refuses a file that somebody besides root may change, by itself or by any folder above it: root would carry
 * out what another user writes there, and whoever may rename a folder can put a link in its place between a
 * look and a write. For a user who is not root nothing is checked: their files are theirs to share.
 * Throws ShimctlError `unsupported-node`
 *
 * @param path host path of a file; it, and folders above it, may be missing
 * @param trusted where that group is as good as root: inside the folder it may write, and nobody else
 * @returns the names of the group that may write there by that
 */
export function refuseShared(host: Host, path: string, trusted?: SharedFolder): string | undefined {
  if (process.geteuid?.() !== 0) return undefined;
  const design = trusted === undefined ? undefined : designOf(host, trusted);
  const used = new Set<string>();
  const isByDesign = (here: string, gid: number): boolean => {
    if (design === undefined || (here !== design.folder && !here.startsWith(`${design.folder}/`)))
      return false;
    const group = design.groups.get(gid);
    if (group !== undefined) used.add(group);
    return group !== undefined;
  };
  // Whoever may put another link in the place of one on the way says where it leads.
  for (const link of host.links(path)) refuseAround(host, path, link, isByDesign);
  refuseAround(host, path, host.resolve(path), isByDesign);
  return used.size === 0 ? undefined : [...used].join(", ");
}

interface Design {
  readonly folder: string;
  /** Names by number. */
  readonly groups: ReadonlyMap<number, string>;
}

function designOf(host: Host, { path, groups }: SharedFolder): Design {
  const folder = host.resolve(path);
  // A pod has no /etc of the node, which is full of secrets. Then the group counts that the folder was given: only root
  // can have done that.
  if (host.unmounted?.("/etc/group") !== undefined) {
    const stat = statAt(host, folder);
    const gid = stat?.uid === 0 && stat.isDirectory() ? stat.gid : undefined;
    return { folder, groups: new Map(gid === undefined ? [] : [[gid, String(gid)]]) };
  }
  const read = host.read("/etc/group");
  const lines = read.kind === "file" ? new TextDecoder().decode(read.bytes).split("\n") : [];
  const found = lines.flatMap((line): [number, string][] => {
    const [name = "", , gid = ""] = line.split(":");
    return groups.includes(name) && /^[0-9]+$/.test(gid) ? [[Number(gid), name]] : [];
  });
  return { folder, groups: new Map(found) };
}

/** Throws where somebody else may change what stands at a path without links, or put something else there. */
function refuseAround(
  host: Host,
  path: string,
  resolved: string,
  isByDesign: (here: string, gid: number) => boolean,
): void {
  const folder = statAt(host, resolved)?.isSymbolicLink() === true ? resolved : dirname(resolved);
  for (let here = resolved; ; here = dirname(here)) {
    const stat = statAt(host, here);
    const why = stat === undefined ? undefined : sharedBy(stat, here !== resolved && here !== folder);
    const isMeant = why === "group" && stat !== undefined && isByDesign(here, stat.gid);
    if (why !== undefined && !isMeant) throw shared(path, here, why);
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
