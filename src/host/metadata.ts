import { fchmodSync, fchownSync, fstatSync } from "node:fs";
import { ShimctlError } from "../error.ts";
import { cString, Errno, type Libc } from "./libc/libc.ts";
import { isErrno } from "./state.ts";

const acl = "system.posix_acl_access";
const label = "security.selinux";

/**
 * Gives a new file the owner, mode, access list, security label and `user.*` attributes of the file that it
 * will replace: in this order, as a change of owner clears mode bits and a change of mode edits the list
 * (chown(2), acl(5)). Never security.ima and security.evm, which sign the old bytes.
 * Throws ShimctlError `unsupported-node` when one of them cannot be kept; a file system without attributes is fine.
 */
export function copyMetadata(libc: Libc, from: number, to: number, path: string): void {
  const like = fstatSync(from);
  const own = fstatSync(to);
  if (like.uid !== own.uid || like.gid !== own.gid) {
    try {
      fchownSync(to, like.uid, like.gid);
    } catch (cause) {
      if (!isErrno(cause, "EPERM")) throw cause;
      throw new ShimctlError(
        "unsupported-node",
        `Cannot replace this file, as its owner cannot be kept: ${like.uid}:${like.gid}`,
        {
          path,
          hint: "run shimctl as root",
          cause,
        },
      );
    }
  }
  fchmodSync(to, like.mode & 0o7777);
  const names = listAttributes(libc, from, path);
  // The folder's default list may have given the new file one that the old file does not have (acl(5)).
  if (!names.includes(acl)) removeAttribute(libc, to, acl, path);
  for (const name of names) {
    if (name === acl || name === label || name.startsWith("user.")) copyAttribute(libc, from, to, name, path);
  }
}

/** Gives a new file the security label of a sibling, where there are labels. */
export function copyLabel(libc: Libc, from: number, to: number, path: string): void {
  copyAttribute(libc, from, to, label, path);
}

function copyAttribute(libc: Libc, from: number, to: number, name: string, path: string): void {
  const value = readAttribute(libc, from, name, path);
  if (value === undefined) return;
  const current = readAttribute(libc, to, name, path);
  // A policy may allow to keep a label and forbid to set it.
  if (current !== undefined && Buffer.compare(current, value) === 0) return;
  const result = libc.fsetxattr(to, cString(name), value);
  if (result < 0 && -result !== Errno.EOPNOTSUPP) throw cannotKeep(name, -result, path);
}

function removeAttribute(libc: Libc, fd: number, name: string, path: string): void {
  const result = libc.fremovexattr(fd, cString(name));
  if (result < 0 && -result !== Errno.EOPNOTSUPP && -result !== Errno.ENODATA)
    throw cannotKeep(name, -result, path);
}

function listAttributes(libc: Libc, fd: number, path: string): string[] {
  const bytes = sized((buffer) => libc.flistxattr(fd, buffer));
  if (typeof bytes === "number") {
    if (bytes === Errno.EOPNOTSUPP) return [];
    throw cannotKeep("extended attributes", bytes, path);
  }
  return new TextDecoder()
    .decode(bytes)
    .split("\0")
    .filter((name) => name !== "");
}

function readAttribute(libc: Libc, fd: number, name: string, path: string): Uint8Array | undefined {
  const bytes = sized((buffer) => libc.fgetxattr(fd, cString(name), buffer));
  if (typeof bytes !== "number") return bytes;
  if (bytes === Errno.EOPNOTSUPP || bytes === Errno.ENODATA) return undefined;
  throw cannotKeep(name, bytes, path);
}

/** What a call wrote, or its error number; 64 KiB is the kernel's bound for a value and for a list (xattr(7)). */
function sized(call: (buffer: Uint8Array) => number): Uint8Array | number {
  for (const size of [1024, 65536]) {
    const buffer = new Uint8Array(size);
    const result = call(buffer);
    if (result >= 0) return buffer.slice(0, result);
    if (-result !== Errno.ERANGE) return -result;
  }
  return Errno.ERANGE;
}

function cannotKeep(name: string, errno: number, path: string): ShimctlError {
  return new ShimctlError(
    "unsupported-node",
    `Cannot replace this file, as its ${name} cannot be kept: error ${errno}`,
    {
      path,
      hint: "run shimctl as root, or remove the attribute from the file",
    },
  );
}
