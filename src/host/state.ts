import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { ShimctlError } from "../error.ts";
import { randomSuffix } from "./random.ts";

/**
 * Files that only shimctl writes (record, journal, store), by their real path. Everything here is durable
 * when it returns: the file is flushed, and so is its folder, since a rename alone may be lost with power
 * (fsync(2): "Calling fsync() does not necessarily ensure that the entry in the directory … has reached disk").
 */
export function writeDurable(path: string, bytes: Uint8Array): void {
  const temp = `${path}.${randomSuffix()}.tmp`;
  const fd = openSync(
    temp,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    try {
      writeAll(fd, bytes);
      flush(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temp, path);
  } catch (error) {
    removeState(temp);
    throw error;
  }
  flushFolder(dirname(path));
}

/** Appends whole lines and flushes them; a line cut short by an earlier crash is ended first. */
export function appendDurable(path: string, line: string): void {
  const fd = openSync(
    path,
    // A pipe in its place must not keep us waiting.
    constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    0o600,
  );
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw notAFile(path, kindOf(path) ?? "a special file");
    if ((stat.mode & 0o077) !== 0) fchmodSync(fd, 0o600);
    const { size } = stat;
    const last = new Uint8Array(1);
    if (size > 0) readSync(fd, last, 0, 1, size - 1);
    const lead = size > 0 && last[0] !== 0x0a ? "\n" : "";
    writeAll(fd, Buffer.from(`${lead}${line}\n`));
    flush(fd);
    if (size === 0) flushFolder(dirname(path));
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes a folder, and its parents with mode 0755; returns those that were not there before, outermost first.
 */
export function ensureFolder(path: string, mode: number): string[] {
  const missing: string[] = [];
  for (let here = path; !isThere(here); here = dirname(here)) missing.unshift(here);
  for (const folder of missing) {
    const bits = folder === path ? mode : 0o755;
    mkdirSync(folder, { mode: bits });
    try {
      finishFolder(folder, bits);
    } catch (error) {
      // The next run would take it for a folder that was there before, and is as it should be.
      rmdirSync(folder);
      throw error;
    }
  }
  return missing;
}

function finishFolder(path: string, mode: number): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    fchmodSync(fd, mode);
    flush(fd);
  } finally {
    closeSync(fd);
  }
  flushFolder(dirname(path));
}

/** Takes away what others than the owner may do with a folder or file of ours, as an older umask may have left it. */
export function makePrivate(path: string): void {
  const { mode } = lstatSync(path);
  if ((mode & 0o077) === 0) return;
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  try {
    fchmodSync(fd, mode & 0o700);
  } finally {
    closeSync(fd);
  }
}

/**
 * Throws ShimctlError `unsupported-node` where another user could have written anything into a file or folder
 * of ours. What is not there is fine.
 */
export function refuseForeign(path: string): void {
  const stat = lookAt(path);
  const self = process.geteuid?.();
  if (stat === undefined || self === undefined) return;
  const isOurs = stat.uid === self;
  if (isOurs && (stat.isSymbolicLink() || (stat.mode & 0o022) === 0)) return;
  const why = isOurs ? "other users may write to them" : "another user owns them";
  const mend = isOurs ? "chmod -R go-rwx /var/lib/shimctl" : "chown -R root: /var/lib/shimctl";
  throw new ShimctlError("unsupported-node", `Cannot trust shimctl's own files, as ${why}`, {
    path,
    hint: `find out who wrote there; then run ${mend}, or move the folder away`,
  });
}

/** What keeps a folder in place, all of it for good reason: somebody uses it, or does not let us. */
const keepsFolder = ["ENOTEMPTY", "EEXIST", "EBUSY", "ENOTDIR", "EACCES", "EPERM", "EROFS"];

/** Removes a folder that is empty; says whether it is gone. */
export function removeEmptyFolder(path: string): boolean {
  try {
    rmdirSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return true;
    if (keepsFolder.some((code) => isErrno(error, code))) return false;
    throw error;
  }
  flushFolder(dirname(path));
  return true;
}

/**
 * Reads a file of ours, never through a link and never waiting for a pipe; `undefined` when it is not there.
 * Throws ShimctlError `unsupported-node` when something else has its name
 */
export function readState(path: string): Uint8Array | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
    const kind = kindOf(path);
    throw kind === undefined ? error : notAFile(path, kind);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw notAFile(path, kindOf(path) ?? "a special file");
    const bytes = new Uint8Array(stat.size);
    let length = 0;
    // Only we write here, so the file does not grow under the read.
    while (length < bytes.length) {
      const read = readSync(fd, bytes, length, bytes.length - length, length);
      if (read === 0) break;
      length += read;
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

/** What stands there instead of a file; `undefined` for a file, or nothing. */
export function kindOf(path: string): string | undefined {
  const stat = lookAt(path);
  if (stat === undefined || stat.isFile()) return undefined;
  if (stat.isDirectory()) return "a folder";
  if (stat.isSymbolicLink()) return "a symbolic link";
  return stat.isFIFO() ? "a pipe" : "a special file";
}

/** What stands at a path, links not followed; nothing does below a file. */
function lookAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (isErrno(error, "ENOTDIR")) return undefined;
    throw error;
  }
}

function notAFile(path: string, kind: string): ShimctlError {
  return new ShimctlError("unsupported-node", `Cannot read this file, as it is ${kind}`, {
    path,
    hint: "move it away",
  });
}

/** The names of the files in a folder of ours, oldest first. Anything but a regular file is not ours. */
export function listOldest(path: string): { name: string; size: number }[] {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
  return names
    .flatMap((name) => {
      const stat = lstatSync(`${path}/${name}`, { throwIfNoEntry: false });
      return stat?.isFile() === true ? [{ name, stat }] : [];
    })
    .sort((a, b) => a.stat.mtimeMs - b.stat.mtimeMs)
    .map(({ name, stat }) => ({ name, size: stat.size }));
}

/** Gives a file of ours another name, durably, in place of whatever had that. */
export function moveState(from: string, to: string): void {
  renameSync(from, to);
  flushFolder(dirname(to));
}

export function removeState(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
}

/** Makes names in a folder survive a power loss. */
export function flushFolder(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    flush(fd);
  } finally {
    closeSync(fd);
  }
}

/** fsync(2), begun again where a signal cut it short: network and user-space file systems let that happen. */
export function flush(fd: number): void {
  for (;;) {
    try {
      fsyncSync(fd);
      return;
    } catch (error) {
      if (!isErrno(error, "EINTR")) throw error;
    }
  }
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
