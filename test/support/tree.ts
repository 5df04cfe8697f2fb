import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * Every file, folder and link below a root with bytes, mode, owner and link target. Left out: what shimctl keeps
 * for itself, `/var/lib/shimctl` and the lock files below `/run`, with the folders that only hold them.
 */
export function treeOf(root: string): Record<string, string> {
  const tree: Record<string, string> = {};
  const visit = (path: string) => {
    for (const name of readdirSync(`${root}${path}`).sort()) {
      const here = `${path}/${name}`;
      if (here === "/var/lib/shimctl" || here === "/run/shimctl" || here === "/run/lock/kata-deploy.lock")
        continue;
      const stat = lstatSync(root + here);
      const facts = `${stat.mode.toString(8)} ${stat.uid}:${stat.gid}`;
      if (stat.isSymbolicLink()) tree[here] = `${facts} -> ${readlinkSync(root + here)}`;
      // A pipe would be waited for; its kind is in the mode.
      else if (!stat.isFile()) tree[here] = facts;
      else
        tree[here] = `${facts} ${createHash("sha256")
          .update(readFileSync(root + here))
          .digest("hex")}`;
      if (stat.isDirectory()) visit(here);
    }
  };
  visit("");
  return withoutOurFolders(tree);
}

/** `/run`, `/run/lock`, `/var` and `/var/lib` count only where something of the node's own stands in them. */
function withoutOurFolders(tree: Record<string, string>): Record<string, string> {
  const names = Object.keys(tree);
  const empty = ["/run/lock", "/run", "/var/lib", "/var"].filter(
    (folder) =>
      !names.some((name) => name.startsWith(`${folder}/`) && !["/run/lock", "/var/lib"].includes(name)),
  );
  return Object.fromEntries(Object.entries(tree).filter(([name]) => !empty.includes(name)));
}
