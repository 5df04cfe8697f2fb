import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  realpathSync,
  statSync,
} from "node:fs";
import { ShimctlError } from "../error.ts";
import type { HostFiles, Read } from "./host.ts";
import { mountPointsWithin, partsOf } from "./mounts.ts";

/** The node's files, as its own programs see them, behind a root. */
export interface Host extends HostFiles {
  /**
   * The host path behind all symbolic links. What is not there is appended as it stands.
   * Throws ShimctlError `unsupported-node` when the links do not end or lead through a file.
   */
  resolve(path: string): string;
  /** The path outside the root of what `resolve` answers: the one to open. Throws as `resolve` does. */
  real(path: string): string;
  /** Where the symbolic links stand that lead from a path to what `resolve` answers. */
  links(path: string): string[];
  /** Another one when the file behind a path was replaced or written: inode, size and times. */
  stamp(path: string): string | undefined;
}

/** As many as the kernel follows (path_resolution(7)). */
const linkLimit = 40;
/** A file that changes under every read is somebody's log; the last read is as good as any. */
const readAttempts = 5;

/**
 * Opens the node's file system at a folder: `/`, `/host` in a container, any folder for a sandbox. Symbolic
 * links resolve inside it, absolute ones too, and `..` never leads out of it.
 * Throws ShimctlError `usage` where there is no such folder.
 * @param option how errors call what named the folder
 */
export function openHost(root: string, option = "--root"): Host {
  const base = realRoot(root, option).replace(/\/$/, "");
  const outside = (path: string) => (path === "/" ? base || "/" : `${base}${path}`);
  const walkTo = (path: string) => walk(outside, path);
  const resolve = (path: string) => {
    const place = walkTo(path);
    if (place.kind !== "refused") return place.resolved;
    throw new ShimctlError("unsupported-node", `Cannot follow this path, as ${place.reason}`, {
      path,
      ...(place.reason === deniedReason ? { hint: "run as root" } : {}),
    });
  };
  const isOfNode = base === "" ? undefined : partsOf(base, mountPointsWithin(base));
  return {
    root: base || "/",
    resolve,
    ...(isOfNode === undefined
      ? {}
      : {
          unmounted(path: string) {
            const resolved = resolve(path);
            return isOfNode(outside(resolved)) ? undefined : resolved;
          },
        }),
    real: (path) => outside(resolve(path)),
    links(path) {
      const links: string[] = [];
      walk(outside, path, (link) => links.push(link));
      return links;
    },
    stamp(path) {
      const place = walkTo(path);
      if (place.kind !== "there") return undefined;
      const { ino, size, mtimeNs } = place.stat;
      return `${ino}:${size}:${mtimeNs}`;
    },
    read: (path) => readFile(outside, path),
    list(path) {
      const place = walkTo(path);
      if (place.kind !== "there" || !place.stat.isDirectory()) return undefined;
      return listFolder(outside(place.resolved), path);
    },
    isExecutable(path) {
      const place = walkTo(path);
      return place.kind === "there" && place.stat.isFile() && (place.stat.mode & 0o111n) !== 0n;
    },
    exists: (path) => walkTo(path).kind === "there",
  };
}

/** One spelling for each root, the one that /proc/self/mountinfo has. */
function realRoot(root: string, option: string): string {
  let reason = "there is no such folder";
  try {
    const real = realpathSync(root);
    if (statSync(real).isDirectory()) return real;
  } catch (error) {
    if (codeOf(error) !== "ENOENT" && codeOf(error) !== "ENOTDIR") reason = reasonOf(error);
  }
  throw new ShimctlError("usage", `Cannot use ${option}, as ${reason}`, { path: root });
}

type Place =
  | { readonly kind: "there"; readonly resolved: string; readonly stat: BigIntStats }
  | { readonly kind: "absent"; readonly resolved: string; readonly dangling: boolean }
  | { readonly kind: "refused"; readonly reason: string };

function walk(outside: (path: string) => string, path: string, onLink?: (path: string) => void): Place {
  /** What is behind us, without links: "" for the root. */
  let done = knownPart(outside, path);
  const ahead = split(path.slice(done.length));
  let links = 0;
  /** How many names at the end of `ahead` are the path's own; those before them came out of a link. */
  let own = ahead.length;
  let stat: BigIntStats | undefined;
  for (let name = ahead.shift(); name !== undefined; name = ahead.shift()) {
    const fromLink = ahead.length >= own;
    own = Math.min(own, ahead.length);
    if (name === "..") {
      done = done.slice(0, Math.max(0, done.lastIndexOf("/")));
      stat = undefined;
      continue;
    }
    const here = `${done}/${name}`;
    const real = outside(here);
    try {
      stat = lstatSync(real, { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      return { kind: "refused", reason: reasonOf(error) };
    }
    if (stat === undefined)
      return { kind: "absent", resolved: lexical([here, ...ahead].join("/")), dangling: fromLink };
    if (stat.isSymbolicLink()) {
      links += 1;
      onLink?.(here);
      if (links > linkLimit) return { kind: "refused", reason: "its symbolic links do not end" };
      let target: string;
      try {
        target = readlinkSync(real);
      } catch {
        // It was replaced since it was looked at: look again. The limit ends this as well.
        ahead.unshift(name);
        if (!fromLink) own += 1;
        continue;
      }
      // What it leads to is another file, even where nothing follows: a link to the root.
      stat = undefined;
      if (target.startsWith("/")) done = "";
      ahead.unshift(...split(target));
      continue;
    }
    if (ahead.length > 0) {
      if (!stat.isDirectory()) return { kind: "refused", reason: `${here} is not a folder` };
      rememberFolder(real);
    }
    done = here;
  }
  const resolved = done === "" ? "/" : done;
  stat ??= lstatSync(outside(resolved), { bigint: true, throwIfNoEntry: false });
  return stat === undefined
    ? { kind: "absent", resolved, dangling: false }
    : { kind: "there", resolved, stat };
}

/**
 * Folders that were found to be no links at this moment. A command asks for dozens of paths in one go, most of
 * them below the same few folders.
 */
const folders = new Set<string>();

/** The longest part of a path that is known to be a folder without links. Its last name is always looked at. */
function knownPart(outside: (path: string) => string, path: string): string {
  for (let end = path.lastIndexOf("/"); end > 0 && folders.size > 0; end = path.lastIndexOf("/", end - 1)) {
    const part = path.slice(0, end);
    if (folders.has(outside(part))) return part;
  }
  return "";
}

function rememberFolder(real: string): void {
  if (folders.size === 0) queueMicrotask(() => folders.clear());
  folders.add(real);
}

function split(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}

/** What is not there has no links: `..` takes away the name before it, and stops at the root. */
function lexical(path: string): string {
  const kept: string[] = [];
  for (const name of split(path)) {
    if (name === "..") kept.pop();
    else kept.push(name);
  }
  return `/${kept.join("/")}`;
}

function isLink(outside: (path: string) => string, path: string): boolean {
  const names = split(path);
  const name = names.pop();
  const parent = walk(outside, `/${names.join("/")}`);
  if (name === undefined || name === ".." || parent.kind !== "there") return false;
  return (
    lstatSync(outside(`${parent.resolved === "/" ? "" : parent.resolved}/${name}`), {
      throwIfNoEntry: false,
    })?.isSymbolicLink() === true
  );
}

function readFile(outside: (path: string) => string, path: string): Read {
  for (let attempt = 1; ; attempt++) {
    const place = walk(outside, path);
    if (place.kind === "refused") return { kind: "unreadable", path, reason: place.reason };
    if (place.kind === "absent")
      return { kind: "absent", path, resolved: place.resolved, dangling: place.dangling };
    if (place.stat.isDirectory()) {
      return {
        kind: "other",
        path,
        what: "directory",
        ...(isLink(outside, path) ? { linked: true as const } : {}),
      };
    }
    // A device or a pipe may act on being opened, so it is not.
    if (!place.stat.isFile()) return { kind: "other", path, what: "special" };
    let fd: number;
    try {
      fd = openSync(
        outside(place.resolved),
        constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW,
      );
    } catch (error) {
      const moved = codeOf(error) === "ENOENT" || codeOf(error) === "ELOOP";
      if (moved && attempt < readAttempts) continue;
      return { kind: "unreadable", path, reason: reasonOf(error) };
    }
    try {
      const { bytes, stat } = readOpen(fd);
      if (!stat.isFile()) return { kind: "other", path, what: "special" };
      return {
        kind: "file",
        path,
        resolved: place.resolved,
        bytes,
        mode: Number(stat.mode & 0o7777n),
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        nlink: Number(stat.nlink),
        // A file that was moved into place keeps the time at which it was written elsewhere.
        writtenMs: Number(stat.mtimeMs),
        modifiedMs: Math.max(Number(stat.mtimeMs), Number(stat.ctimeMs)),
        ...(isLink(outside, path) ? { linked: true as const } : {}),
      };
    } catch (error) {
      return { kind: "unreadable", path, reason: reasonOf(error) };
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * All bytes of an open file with the facts that belong to them: it is read again while it changes under the
 * read, a few times.
 */
export function readOpen(fd: number): { bytes: Uint8Array; stat: BigIntStats } {
  for (let attempt = 1; ; attempt++) {
    const before = fstatSync(fd, { bigint: true });
    if (!before.isFile()) return { bytes: new Uint8Array(), stat: before };
    const bytes = readToEnd(fd, Number(before.size));
    const after = fstatSync(fd, { bigint: true });
    const steady =
      before.size === after.size &&
      before.mtimeNs === after.mtimeNs &&
      before.ctimeNs === after.ctimeNs &&
      BigInt(bytes.length) === after.size;
    if (steady || attempt === readAttempts) return { bytes, stat: after };
  }
}

function readToEnd(fd: number, expected: number): Uint8Array {
  let bytes = new Uint8Array(expected + 1);
  let length = 0;
  for (;;) {
    const read = readSync(fd, bytes, length, bytes.length - length, length);
    if (read === 0) return bytes.slice(0, length);
    length += read;
    if (length < bytes.length) continue;
    const larger = new Uint8Array(bytes.length * 2);
    larger.set(bytes);
    bytes = larger;
  }
}

function listFolder(real: string, path: string): string[] {
  try {
    return readdirSync(real).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  } catch (cause) {
    throw new ShimctlError("unsupported-node", `Cannot list this folder, as ${reasonOf(cause)}`, {
      path,
      ...(reasonOf(cause) === deniedReason ? { hint: "run as root" } : {}),
      cause,
    });
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

export const deniedReason = "permission is denied";

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "it is not there",
  EISDIR: "it is a folder",
  ENXIO: "it is not a regular file",
  EROFS: "its file system is read-only",
  ENOSPC: "there is no space left",
  EDQUOT: "the disk quota is used up",
  ENOEXEC: "it is no program of this machine",
  ENOMEM: "there is no memory left",
  E2BIG: "its arguments are too long",
  ETXTBSY: "somebody is writing it",
  ETIMEDOUT: "it takes too long",
  EBADF: "it is closed",
  EACCES: deniedReason,
  EPERM: deniedReason,
  EIO: "the device reports an error",
  EINTR: "it was interrupted",
  EMFILE: "too many files are open",
  ENFILE: "too many files are open on the node",
  ELOOP: "its symbolic links do not end",
  ENAMETOOLONG: "its name is too long",
  ENOTDIR: "a part of its path is not a folder",
};

/** Why the system refused something, in words that follow "as". */
export function reasonOf(error: unknown): string {
  const code = codeOf(error);
  return (
    (code === undefined ? undefined : reasons[code]) ??
    (error instanceof Error ? error.message : String(error))
  );
}
