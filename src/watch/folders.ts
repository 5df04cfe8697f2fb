import { type FSWatcher, statSync, watch } from "node:fs";

/** Watches folders, which may be others each time: those that cannot be watched are looked at on the timer alone. */
export function watchFolders(onChange: () => void): {
  keep(folders: readonly string[]): void;
  close(): void;
} {
  const watchers = new Map<string, { readonly watcher: FSWatcher; readonly identity: string }>();
  const drop = (folder: string) => {
    watchers.get(folder)?.watcher.close();
    watchers.delete(folder);
  };
  const add = (folder: string) => {
    try {
      const identity = identityOf(folder);
      const watcher = watch(folder, { persistent: false }, (_, name) => {
        if (!isOurs(folder, name)) onChange();
      });
      watcher.on("error", () => drop(folder));
      watchers.set(folder, { watcher, identity });
    } catch {
      // Not there, or no watches are left on this node.
    }
  };
  return {
    keep(folders) {
      // What is watched is a folder, not its name: another one may have that by now.
      for (const [folder, { identity }] of [...watchers])
        if (!folders.includes(folder) || identityOf(folder) !== identity) drop(folder);
      for (const folder of folders) if (!watchers.has(folder)) add(folder);
    },
    close() {
      for (const folder of [...watchers.keys()]) drop(folder);
    },
  };
}

/** Another one for a folder that was made anew, which may well get the number of the old one. Empty: it is not there. */
function identityOf(folder: string): string {
  try {
    const { dev, ino, birthtimeNs } = statSync(folder, { bigint: true });
    return `${dev} ${ino} ${birthtimeNs}`;
  } catch {
    return "";
  }
}

/** In our own folder only the record tells of anything; the temporary files of a commit tell of nothing anywhere. */
function isOurs(folder: string, name: string | null): boolean {
  if (name === null) return false;
  return /\.shimctl-.*\.tmp/.test(name) || (folder.endsWith("/var/lib/shimctl") && name !== "record.json");
}
