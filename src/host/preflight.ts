import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  realpathSync,
  statSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { type ErrorFacts, ShimctlError } from "../error.ts";
import { type Libc, loadedLibc } from "./libc/libc.ts";
import { mountPointsWithin } from "./mounts.ts";
import type { Host } from "./root.ts";
import { isErrno } from "./state.ts";

/** FS_IOC_GETFLAGS and its flags (ioctl_iflags(2)); the request number of 64-bit architectures. */
const getFlags = 0x80086601;
const immutable = 0x10;
const appendOnly = 0x20;

/**
 * Refuses a target that could not be replaced atomically, or only by losing something, before anything is
 * written. An absent target is fine, and so is an absent folder where it can be made. The C library must be
 * loaded, as it is once the lock is held.
 * Throws ShimctlError `unsupported-node`
 *
 * @param path host path
 * @param tempDir host path of the folder where the temporary file will stand; beside the target by default
 */
export function preflight(host: Host, path: string, tempDir?: string): void {
  const libc = loadedLibc();
  const resolved = host.resolve(path);
  const real = host.real(path);
  const folder = checkFolder(libc, host, dirname(resolved), path);
  if (tempDir !== undefined) {
    const other = checkFolder(libc, host, tempDir, path);
    if (statSync(other).dev !== statSync(folder).dev) {
      refuse(
        path,
        `its temporary file would be on another file system: ${tempDir}`,
        "mount the two folders as one, by their parent",
      );
    }
  }
  const stat = lstatSync(real, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isFile()) {
    refuse(path, "it is not a regular file", "put a regular file in its place, or move it away");
  }
  // rename(2) onto a mount point is EBUSY, and writing in place would not be atomic.
  const mountable = `${realpathSync(folder)}/${basename(real)}`;
  if (mountPointsWithin(mountable).includes(mountable)) {
    refuse(path, "the file itself is a mount point", "mount the folder, not the file");
  }
  if (stat.nlink > 1) {
    refuse(
      path,
      `it has ${stat.nlink} names (hard links), of which only one would change`,
      "remove the other names, or replace the file by a copy of itself",
    );
  }
  const flags = flagsOf(libc, real);
  if ((flags & immutable) !== 0) {
    refuse(path, "it is marked immutable", `run chattr -i ${resolved}, then the same command again`);
  }
  if ((flags & appendOnly) !== 0) {
    refuse(path, "it is marked append-only", `run chattr -a ${resolved}, then the same command again`);
  }
}

/** Returns the real path of the folder, or of the nearest one above it that is there. */
function checkFolder(libc: Libc, host: Host, wanted: string, path: string): string {
  let shown = wanted;
  while (shown !== "/" && !host.exists(shown)) shown = dirname(shown);
  const folder = host.real(shown);
  if (!statSync(folder).isDirectory()) {
    refuse(path, `a part of its path is not a folder: ${shown}`, "move that file away");
  }
  const flags = flagsOf(libc, folder);
  if ((flags & immutable) !== 0) {
    refuse(path, "its folder is marked immutable", `run chattr -i ${shown}, then the same command again`);
  }
  if ((flags & appendOnly) !== 0) {
    refuse(path, "its folder is marked append-only", `run chattr -a ${shown}, then the same command again`);
  }
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    if (isErrno(cause, "EROFS")) {
      refuse(
        path,
        "its folder is on a read-only file system",
        "mount it writable, then run the same command again",
        {
          cause,
        },
      );
    }
    refuse(
      path,
      "its folder is not writable for this user",
      "run shimctl as root, or as the folder's owner",
      {
        cause,
      },
    );
  }
  return folder;
}

function refuse(path: string, why: string, hint: string, facts: ErrorFacts = {}): never {
  throw new ShimctlError("unsupported-node", `Cannot replace this file, as ${why}`, { path, hint, ...facts });
}

/** Zero where the file system has no such flags, or the file may not be read. */
function flagsOf(libc: Libc, real: string): number {
  let fd: number;
  try {
    fd = openSync(real, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch {
    return 0;
  }
  try {
    if (!fstatSync(fd).isFile() && !fstatSync(fd).isDirectory()) return 0;
    // The kernel writes an int, though the request number says long.
    const data = new Uint8Array(8);
    return libc.ioctl(fd, getFlags, data) < 0 ? 0 : new DataView(data.buffer).getUint32(0, true);
  } finally {
    closeSync(fd);
  }
}
