import process from "node:process";
import { ShimctlError } from "../../error.ts";
import { openBun } from "./bun.ts";
import { openDeno } from "./deno.ts";
import type { RawLibc } from "./raw.ts";

/** Error numbers that callers tell apart; the same on every Linux architecture we build for. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENOSYS: 38,
  ENODATA: 61,
  EOPNOTSUPP: 95,
  EDQUOT: 122,
} as const;

/**
 * The C functions that `node:fs` does not have. Every one answers as the kernel does: zero or more on
 * success, the negated error number on failure. None blocks.
 */
export interface Libc {
  /** fcntl(2) with an integer argument. */
  fcntl(fd: number, command: number, value: number): number;
  /** fcntl(2) with a `struct flock`. */
  fcntlLock(fd: number, command: number, lock: Uint8Array): number;
  flock(fd: number, operation: number): number;
  /** renameat2(2) on absolute paths, each ended by a NUL: see `cString`. */
  renameat2(from: Uint8Array, to: Uint8Array, flags: number): number;
  /** linkat(2): gives a file without a name (O_TMPFILE of open(2)) its first one, ended by a NUL. Needs /proc. */
  linkOpenFile(fd: number, to: Uint8Array): number;
  ioctl(fd: number, request: number, data: Uint8Array): number;
  flistxattr(fd: number, names: Uint8Array): number;
  fgetxattr(fd: number, name: Uint8Array, value: Uint8Array): number;
  fsetxattr(fd: number, name: Uint8Array, value: Uint8Array): number;
  fremovexattr(fd: number, name: Uint8Array): number;
}

/** AT_FDCWD of openat(2): the paths are absolute, so it is never used. */
const atCwd = -100;
/** The number of renameat2: glibc before 2.28 and musl before 1.2.4 have no such function, so it is called by number. */
const callNumbers: Readonly<Record<string, { readonly renameat2: number; readonly linkat: number }>> = {
  x64: { renameat2: 316, linkat: 265 },
  arm64: { renameat2: 276, linkat: 37 },
};
/** Follow the symbolic link that /proc shows for a descriptor. */
const symlinkFollow = 0x400;

let loaded: Promise<Libc> | undefined;
let ready: Libc | undefined;

/**
 * Loads the C library, once.
 * Throws ShimctlError `unsupported-node` where that is not possible: without it there is neither lock nor
 * atomic exchange, and going on without them is not an option.
 */
export function loadLibc(): Promise<Libc> {
  loaded ??= load();
  return loaded;
}

/** The library that an earlier `loadLibc` (taking the lock is one) has loaded; for callers that cannot wait. */
export function loadedLibc(): Libc {
  if (ready === undefined)
    throw new ShimctlError("internal", "Cannot call the C library before it is loaded");
  return ready;
}

/** A negative answer, without its sign, as `node:fs` would throw it. */
export function asThrown(errno: number): Error {
  const code = Object.entries(Errno).find(([, number]) => number === errno)?.[0] ?? "EUNKNOWN";
  return Object.assign(new Error(`the kernel answers with error ${errno}`), { code });
}

/** The bytes of a C string. */
export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

async function load(): Promise<Libc> {
  const numbers = callNumbers[process.arch];
  if (numbers === undefined) {
    throw new ShimctlError("unsupported-node", `Cannot run on this processor architecture: ${process.arch}`, {
      hint: "use a node with an x86-64 or arm64 processor",
    });
  }
  ready = describe(await open(), numbers);
  return ready;
}

async function open(): Promise<RawLibc> {
  try {
    return openDeno() ?? (await openBun());
  } catch (cause) {
    // Bun makes call stubs at run time, which W^X policies forbid; its message is the only sign of it.
    const noJit = cause instanceof Error && /requires the JIT/i.test(cause.message);
    throw new ShimctlError(
      "unsupported-node",
      noJit
        ? "Cannot lock the node or replace files safely, as this process may not map executable memory"
        : `Cannot lock the node or replace files safely, as the C library cannot be loaded: ${String(cause)}`,
      {
        hint: noJit
          ? "run shimctl without MemoryDenyWriteExecute= in its systemd unit, without BUN_JSC_useJIT=0, and with execmem allowed by SELinux"
          : "run shimctl where libc.so.6 can be loaded (with Deno: --allow-ffi)",
        cause,
      },
    );
  }
}

function describe(raw: RawLibc, numbers: { renameat2: number; linkat: number }): Libc {
  // errno is read directly after the call, before anything else can run on this thread.
  const answer = (result: number): number => (result === -1 ? -raw.errno() : result);
  return {
    fcntl: (fd, command, value) => answer(raw.fcntlValue(fd, command, value)),
    fcntlLock: (fd, command, lock) => answer(raw.fcntlPointer(fd, command, lock)),
    flock: (fd, operation) => answer(raw.flock(fd, operation)),
    renameat2: (from, to, flags) =>
      answer(raw.syscallPaths(numbers.renameat2, atCwd, from, atCwd, to, flags)),
    linkOpenFile: (fd, to) =>
      answer(
        raw.syscallPaths(numbers.linkat, atCwd, cString(`/proc/self/fd/${fd}`), atCwd, to, symlinkFollow),
      ),
    ioctl: (fd, request, data) => answer(raw.ioctl(fd, request, data)),
    flistxattr: (fd, names) => answer(raw.flistxattr(fd, names, names.length)),
    fgetxattr: (fd, name, value) => answer(raw.fgetxattr(fd, name, value, value.length)),
    fsetxattr: (fd, name, value) => answer(raw.fsetxattr(fd, name, value, value.length, 0)),
    fremovexattr: (fd, name) => answer(raw.fremovexattr(fd, name)),
  };
}
