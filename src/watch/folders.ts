import { type FSWatcher, watch } from "node:fs";

/** Watches folders, which may be others each time: those that cannot be watched are looked at on the timer alone. */
export function watchFolders(onChange: () => void): {
  keep(folders: readonly string[]): void;
  close(): void;
} {
  const watchers = new Map<string, FSWatcher>();
  const drop = (folder: string) => {
    watchers.get(folder)?.close();
    watchers.delete(folder);
  };
  const add = (folder: string) => {
    try {
      const watcher = watch(folder, { persistent: false }, (event, name) => {
        if (!isOurs(folder, name)) onChange();
        // The folder itself may have been replaced: it is watched anew with the next look.
        if (event === "rename" && name === null) drop(folder);
      });
      watcher.on("error", () => drop(folder));
      watchers.set(folder, watcher);
    } catch {
      // Not there, or no watches are left on this node.
    }
  };
  return {
    keep(folders) {
      for (const folder of watchers.keys()) if (!folders.includes(folder)) drop(folder);
      for (const folder of folders) if (!watchers.has(folder)) add(folder);
    },
    close() {
      for (const folder of [...watchers.keys()]) drop(folder);
    },
  };
}

/** In our own folder only the record tells of anything; the temporary files of a commit tell of nothing anywhere. */
function isOurs(folder: string, name: string | null): boolean {
  if (name === null) return false;
  return /\.shimctl-.*\.tmp/.test(name) || (folder.endsWith("/var/lib/shimctl") && name !== "record.json");
}
