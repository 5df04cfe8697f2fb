import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { ShimctlError } from "../error.ts";
import { inWords } from "./failure.ts";
import { asThrown, cString, Errno, type Libc } from "./libc/libc.ts";
import { copyLabel, copyMetadata } from "./metadata.ts";
import { randomSuffix } from "./random.ts";
import type { Host } from "./root.ts";
import { flush, flushFolder, isErrno } from "./state.ts";
import { partOf } from "./temp_name.ts";

/** renameat2(2). */
const noReplace = 1;
const exchangeFlag = 2;

/** A file that is to be replaced, by its host path and by the path to open. */
export interface Target {
  /** As the caller names it. */
  readonly path: string;
  /** The host path behind all symbolic links. */
  readonly resolved: string;
  readonly real: string;
  /** Host path of the folder for temporary files. */
  readonly tempFolder: string;
  readonly tempRealFolder: string;
}

/** Resolves a target once; it is replaced at its resolved place, and links to it stay. */
export function locate(host: Host, path: string, tempDir?: string): Target {
  const resolved = host.resolve(path);
  const tempFolder = tempDir === undefined ? dirname(resolved) : host.resolve(tempDir);
  return { path, resolved, real: host.real(path), tempFolder, tempRealFolder: host.real(tempFolder) };
}

/** A name beside a target, and what may stand under it. */
export interface Pending {
  /** Host path. */
  readonly path: string;
  readonly real: string;
  /** From now on the name holds somebody's displaced file: `discard` leaves it alone. */
  displaced(): void;
  /** Removes the file while it is ours. Harmless after the exchange, and when called twice. */
  discard(): void;
}

/**
 * A temporary name that no engine reads: containerd's globs end in `.toml` and match names that begin with
 * a dot. CRI-O reads every file in its drop-in folder, whatever its name: there, locate with a `tempDir`.
 */
export function nameTemp(target: Target): Pending {
  const name = `.${basename(target.resolved)}.shimctl-${randomSuffix()}.tmp`;
  const real = `${target.tempRealFolder}/${name}`;
  let ours = true;
  return {
    path: `${target.tempFolder === "/" ? "" : target.tempFolder}/${name}`,
    real,
    displaced() {
      ours = false;
    },
    discard() {
      if (ours) unlinkIfThere(real);
      if (ours) unlinkIfThere(partOf(real));
      ours = false;
    },
  };
}

export interface NewFile {
  /** Descriptor of the file to be like; `undefined` for a new one. */
  readonly like: number | undefined;
  /** For a new file: permission bits, 0644 by default. */
  readonly mode?: number | undefined;
  /** For a new file: the path to open of the file whose security label it takes. */
  readonly labelFrom?: string | undefined;
}

/** A temporary file that is complete and flushed, and has no name yet where the file system allows that. */
export interface Written {
  /** Gives it its name; from then on a crash leaves it behind, so the name must be journalled before. */
  publish(): void;
  /** Harmless when repeated. A file without a name is gone then. */
  close(): void;
}

/** O_TMPFILE of open(2), which `node:fs` does not name. */
const tmpFile = 0o20000000 | constants.O_DIRECTORY;

/**
 * Writes a temporary file, complete and flushed, with owner, mode and attributes in place before anybody can
 * see it under its name: a crash leaves nothing behind that the journal does not explain. Where there are no
 * files without a name, it is written as `partOf` its name.
 * Throws ShimctlError `unsupported-node` when something cannot be kept or the disk is full; the names are free then
 *
 * @param unnamed what `openUnnamed` answered; where that is nothing, the journal knows the name already
 */
export function writeTemp(
  libc: Libc,
  temp: Pending,
  bytes: Uint8Array,
  file: NewFile,
  path: string,
  unnamed: number | undefined,
): Written {
  const fd = unnamed ?? openPart(temp, path);
  let open = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    if (file.like !== undefined) {
      copyMetadata(libc, file.like, fd, path);
    } else {
      fchmodSync(fd, file.mode ?? 0o644);
      if (file.labelFrom !== undefined) labelLike(libc, file.labelFrom, fd, path);
    }
    // renameio and ext4's own documentation: without this, the new name may hold no bytes after a power loss.
    flush(fd);
  } catch (cause) {
    close();
    temp.discard();
    throw describe(cause, path);
  }
  return {
    publish() {
      if (unnamed === undefined) {
        try {
          renameSync(partOf(temp.real), temp.real);
        } catch (cause) {
          throw describe(cause, path);
        }
        return;
      }
      const result = libc.linkOpenFile(fd, cString(temp.real));
      if (result < 0) {
        // Its descriptor is reached through /proc.
        const hint = -result === Errno.ENOENT ? "mount /proc" : undefined;
        throw inWords(asThrown(-result), "Cannot name a temporary file of this file", path, hint);
      }
    },
    close,
  };
}

/** A new file without a name; `undefined` where there are none: NFS and old overlay file systems. */
export function openUnnamed(temp: Pending, path: string): number | undefined {
  try {
    return openSync(dirname(temp.real), constants.O_WRONLY | tmpFile, 0o600);
  } catch (cause) {
    if (!["EOPNOTSUPP", "ENOTSUP", "EISDIR", "EINVAL", "ENOENT"].some((code) => isErrno(cause, code)))
      throw describe(cause, path);
    return undefined;
  }
}

function openPart(temp: Pending, path: string): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return openSync(partOf(temp.real), flags, 0o600);
  } catch (cause) {
    throw describe(cause, path);
  }
}

function labelLike(libc: Libc, sibling: string, fd: number, path: string): void {
  const like = openToRead(sibling);
  if (like === undefined) return;
  try {
    copyLabel(libc, like, fd, path);
  } finally {
    closeSync(like);
  }
}

/**
 * Opens a file to read, never through a link; `undefined` when it is not there.
 * Throws ShimctlError `conflict` when the name holds no regular file any more
 */
export function openToRead(real: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(real, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return undefined;
    if (isErrno(cause, "ELOOP")) throw notRegular(real);
    throw describe(cause, real);
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw notRegular(real);
}

/** Which file it is: the number of a file is not given to another one while a descriptor holds it. */
export interface Identity {
  readonly dev: bigint;
  readonly ino: bigint;
}

export function isAt(real: string, identity: Identity): boolean {
  const stat = lstatSync(real, { bigint: true, throwIfNoEntry: false });
  return stat !== undefined && stat.ino === identity.ino && stat.dev === identity.dev;
}

/**
 * What became of a swap: `done`, the displaced file (if any) has the temporary name; `unnamed`: done, but
 * the displaced file has no name any more, only descriptors; `moved`: nothing was done, as another file
 * stands there than was expected.
 */
export type Swapped = "done" | "unnamed" | "moved";

/**
 * Prepares everything, so that the call of the returned function takes microseconds: one look at whether the
 * expected file still stands there, one renameat2(2) with RENAME_EXCHANGE.
 *
 * On a file system without RENAME_EXCHANGE it is rename(2) after the same look. That is weaker: a file that
 * another program renames into place between the two calls is lost.
 */
export function armExchange(libc: Libc, temp: Pending, target: Target): (expected: Identity) => Swapped {
  const [from, to] = [cString(temp.real), cString(target.real)];
  // The first call through the FFI is slow; this one fails, as neither name can exist.
  libc.renameat2(cString(""), cString(""), exchangeFlag);
  isAt(target.real, { dev: 0n, ino: 0n });
  return (expected) => {
    if (!isAt(target.real, expected)) return "moved";
    const result = libc.renameat2(from, to, exchangeFlag);
    if (result === 0) {
      temp.displaced();
      return "done";
    }
    if (-result === Errno.ENOENT) return "moved";
    if (!isUnsupported(-result)) throw refused(-result, target.path);
    if (!isAt(target.real, expected)) return "moved";
    renameSync(temp.real, target.real);
    temp.displaced();
    return "unnamed";
  };
}

/** Gives the temporary file the target's name, if nothing has it: RENAME_NOREPLACE, or link(2) where that is missing. */
export function createFrom(libc: Libc, temp: Pending, target: Target): Swapped {
  const result = libc.renameat2(cString(temp.real), cString(target.real), noReplace);
  if (result === 0) {
    temp.displaced();
    return "done";
  }
  if (-result === Errno.EEXIST) return "moved";
  if (!isUnsupported(-result)) throw refused(-result, target.path);
  try {
    linkSync(temp.real, target.real);
  } catch (cause) {
    if (isErrno(cause, "EEXIST")) return "moved";
    throw describe(cause, target.path);
  }
  temp.displaced();
  unlinkIfThere(temp.real);
  return "done";
}

/** Moves the target away to the temporary name. */
export function moveAway(libc: Libc, target: Target, temp: Pending, expected: Identity): Swapped {
  const [from, to] = [cString(target.real), cString(temp.real)];
  if (!isAt(target.real, expected)) return "moved";
  const result = libc.renameat2(from, to, noReplace);
  if (result < 0) {
    if (-result === Errno.ENOENT) return "moved";
    if (!isUnsupported(-result)) throw refused(-result, target.path);
    // The temporary name is random: nothing stands there.
    renameSync(target.real, temp.real);
  }
  temp.displaced();
  return "done";
}

/** Makes renames in the target's folder, and in that of its temporary files, survive a power loss (fsync(2)). */
export function flushFolders(target: Target): void {
  for (const folder of new Set([dirname(target.real), target.tempRealFolder])) {
    try {
      flushFolder(folder);
    } catch (cause) {
      throw inWords(cause, "Cannot make sure that this file survives a power loss", target.path);
    }
  }
}

export function unlinkIfThere(real: string): void {
  try {
    unlinkSync(real);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT")) throw cause;
  }
}

function isUnsupported(errno: number): boolean {
  return errno === Errno.EINVAL || errno === Errno.ENOSYS || errno === Errno.EOPNOTSUPP;
}

function notRegular(path: string): ShimctlError {
  return new ShimctlError("conflict", "Cannot replace this file, as it is not a regular file any more", {
    path,
    hint: "find out what put something else in its place",
  });
}

function refused(errno: number, path: string): unknown {
  const refusal = refusals[errno];
  if (refusal === undefined) return inWords(asThrown(errno), "Cannot replace this file", path);
  const [why, hint] = refusal;
  return new ShimctlError("unsupported-node", `Cannot replace this file, as ${why}`, { path, hint });
}

const refusals: Readonly<Record<number, readonly [why: string, hint: string]>> = {
  [Errno.EXDEV]: ["its temporary file is on another mount", "mount the two folders as one, by their parent"],
  [Errno.EBUSY]: ["the file itself is a mount point", "mount the folder, not the file"],
  [Errno.EROFS]: ["its file system is read-only", "mount it writable, then run the same command again"],
  [Errno.EPERM]: ["it, or its folder, is protected", "see lsattr for its flags, and run shimctl as root"],
  [Errno.EACCES]: ["permission is denied", "run shimctl as root"],
};

/** A failed system call, in words; what is in words already stays. */
function describe(cause: unknown, path: string): unknown {
  if (cause instanceof ShimctlError) return cause;
  if (isErrno(cause, "ENOSPC") || isErrno(cause, "EDQUOT")) {
    return new ShimctlError("unsupported-node", "Cannot replace this file, as the file system is full", {
      path,
      hint: "free some space, then run the same command again",
      retryable: true,
      cause,
    });
  }
  if (isErrno(cause, "ENOENT")) {
    return new ShimctlError("missing-on-host", "Cannot write this file, as its folder is not there", {
      path,
      hint: "create the folder, or mount it into the container",
      cause,
    });
  }
  for (const code of ["EROFS", "EPERM", "EACCES"] as const) {
    if (isErrno(cause, code)) return refused(Errno[code], path);
  }
  return inWords(cause, "Cannot replace this file", path);
}
