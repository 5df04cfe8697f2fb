import { ShimctlError } from "../error.ts";
import { reasonOf } from "./root.ts";

/** What to do about it, by the error's name (errno(3)), and whether the same command may succeed by itself. */
const remedies: Readonly<Record<string, readonly [hint: string, retryable: boolean]>> = {
  EROFS: ["mount it writable, then run the same command again", false],
  EACCES: ["run as root", false],
  EPERM: ["see lsattr for its flags, and run shimctl as root", false],
  ENOSPC: ["free some space, then run the same command again", true],
  EDQUOT: ["free some space, then run the same command again", true],
  EIO: ["see the kernel's log (dmesg), check the disk, then run the same command again", false],
  EINTR: ["run the same command again", true],
};

/**
 * A failed system call as an error that names the file, the cause and the next step. What is none, or is in
 * words already, stays as it is.
 *
 * @param what cannot be done, without the reason
 * @param path as the node names it
 */
export function inWords(thrown: unknown, what: string, path: string | undefined, hint?: string): unknown {
  const code = errorName(thrown);
  if (code === undefined) return thrown;
  const [remedy, retryable] = remedies[code] ?? ["see errno(3) for its meaning", false];
  // What `node:fs` says itself goes on with the path, as we open it.
  const [why] = reasonOf(thrown).split(", ");
  return new ShimctlError("unsupported-node", `${what}, as ${why}`, {
    ...(path === undefined ? {} : { path }),
    hint: hint ?? remedy,
    retryable,
    cause: thrown,
  });
}

/** The file that a failed system call was about, as the node names it: without its root. */
export function pathOf(thrown: unknown, root: string): string | undefined {
  const real: unknown = thrown instanceof Error && "path" in thrown ? thrown.path : undefined;
  return typeof real === "string" ? withoutRoot(real, root) : undefined;
}

function withoutRoot(path: string, root: string): string {
  return root !== "/" && path.startsWith(`${root}/`) ? path.slice(root.length) : path;
}

/** An error about a file by the path that we open, as one about the node's file. */
export function onNode(error: ShimctlError, root: string): ShimctlError {
  const { path } = error.facts;
  if (path === undefined || withoutRoot(path, root) === path) return error;
  return new ShimctlError(error.code, error.message, { ...error.facts, path: withoutRoot(path, root) });
}

/** `EIO` and the like; `undefined` for everything but a failed system call. */
function errorName(thrown: unknown): string | undefined {
  if (thrown instanceof ShimctlError || !(thrown instanceof Error) || !("code" in thrown)) return undefined;
  return typeof thrown.code === "string" && /^E[A-Z0-9]+$/.test(thrown.code) ? thrown.code : undefined;
}
