import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  type Stats,
} from "node:fs";
import process from "node:process";
import { ShimctlError } from "../error.ts";
import { inWords } from "./failure.ts";
import {
  describeHolder,
  describeOther,
  describeSelf,
  type HolderLine,
  type LockHolder,
  readHolder,
  writeHolder,
} from "./holder.ts";
import { asThrown, Errno, type Libc, loadLibc } from "./libc/libc.ts";
import type { Inheritance } from "./process.ts";
import { type Host, reasonOf } from "./root.ts";
import { sleep } from "./sleep.ts";
import { isErrno } from "./state.ts";

export type { LockHolder } from "./holder.ts";

/** Ours. Never unlinked: whoever waits has it open, and would lock a file that nobody else finds. */
export const lockPath = "/run/shimctl/lock";
/** kata-deploy 4.1 and later takes flock(2) on this one (kata-containers#13609). Always taken second. */
export const kataLockPath = "/run/lock/kata-deploy.lock";

/** The bytes that a top-level holder locks; a nested one locks a byte behind them, one further at each level. */
const rangeLength = 2 ** 30;
const levelLimit = 64;

const noticeMs = 10_000;

export interface LockOptions {
  /** How long to wait, in ms. */
  readonly timeoutMs: number;
  /** Shown to whoever waits for us. Short words, no secrets. */
  readonly owner: string;
  readonly command: string;
  readonly signal?: AbortSignal | undefined;
  /** Called every 10 s while waiting, or as often as `noticeMs` says. */
  readonly onWait?: (holder: LockHolder) => void;
  readonly noticeMs?: number;
}

export interface NodeLock {
  /** Whether an ancestor, `shimctl lock`, holds the node's lock and passed it on. */
  readonly inherited: boolean;
  /** How long it was waited for, by a clock that nobody sets; 0 where it was free. */
  readonly waitedMs: number;
  /** Tells those who wait what we are at. */
  step(name: string): void;
  /** Gives the lock up, once. A child that inherited it and still runs keeps it until it ends. */
  release(): void;
  /** The lock file, kata-deploy's, then one for each level of nesting. */
  readonly fds: readonly number[];
}

/**
 * Takes the lock of the whole node. It is polled with jitter and never blocks the event loop, and it is gone
 * with the process, however that ends.
 *
 * Two locks stand on our own file: an open-file-description lock, which a container and the host share and
 * which is not lost by closing another descriptor (fcntl(2)), and flock(2), for shell scripts that use
 * flock(1). Network file systems are not promised anything: /run is a tmpfs.
 *
 * Throws ShimctlError: `lock-timeout` with who holds it; `interrupted` when the signal fires;
 * `unsupported-node` when the lock files are not ours or cannot be made
 */
export async function acquireLock(host: Host, options: LockOptions): Promise<NodeLock> {
  const libc = await loadLibc();
  const begin = performance.now();
  let waits = 0;
  const patience = waiting(options);
  const wait: Wait = (holder) => {
    waits++;
    return patience(holder);
  };
  const folder = lockFolder(host);
  const inherited = inheritedFrom(libc, `${folder}/lock`, () => kataFile(host));
  const lock =
    inherited === undefined
      ? await takeTop(libc, host, folder, options, wait)
      : await takeNested(libc, host, folder, inherited, options, wait);
  return { ...lock, waitedMs: waits === 0 ? 0 : Math.round(performance.now() - begin) };
}

/** What a child process must inherit so that it counts as the holder, and keeps the lock should we be killed. */
export function inheritable(lock: NodeLock): Inheritance {
  return {
    fds: [...lock.fds],
    env: { SHIMCTL_LOCK_FD: "3", SHIMCTL_LOCK_LEVEL: String(lock.fds.length - 2) },
  };
}

type Taken = Omit<NodeLock, "waitedMs">;

type Wait = (holder: () => LockHolder) => Promise<void>;

async function takeTop(
  libc: Libc,
  host: Host,
  folder: string,
  options: LockOptions,
  wait: Wait,
): Promise<Taken> {
  const first = await takeOwn(libc, `${folder}/lock`, wait);
  try {
    const holder = { line: describeSelf(options.owner, options.command) };
    writeHolder(first, holder.line);
    let waited = false;
    const second = await takeKata(libc, host, (other) => {
      if (!waited) writeHolder(first, { ...holder.line, step: "waiting for kata-deploy" });
      waited = true;
      return wait(other);
    });
    if (waited) writeHolder(first, holder.line);
    return heldLock([first, second], [first, second], false, first, holder);
  } catch (error) {
    writeHolder(first, undefined);
    closeSync(first);
    throw error;
  }
}

async function takeNested(
  libc: Libc,
  host: Host,
  folder: string,
  inherited: Inherited,
  options: LockOptions,
  wait: Wait,
): Promise<Taken> {
  const own = openLock(`${folder}/lock`);
  const closing = [own];
  try {
    const lock = lockRange(rangeLength + inherited.level, 1);
    while (!granted(libc.fcntlLock(own, setOwn, lock), lockPath)) {
      await wait(() => ({
        text: "another command under the same shimctl lock",
        pid: undefined,
        shimctl: true,
      }));
    }
    // Our ancestor passes kata-deploy's lock on; where that got lost, it is taken as usual.
    let kata = inherited.kata;
    if (kata === undefined) {
      kata = await takeKata(libc, host, wait);
      closing.push(kata);
    }
    const holder = { line: describeSelf(options.owner, options.command) };
    return heldLock([inherited.fd, kata, ...inherited.levels, own], closing, true, inherited.fd, holder);
  } catch (error) {
    for (const fd of closing) closeSync(fd);
    throw error;
  }
}

function heldLock(
  fds: readonly number[],
  closing: readonly number[],
  inherited: boolean,
  file: number,
  holder: { line: HolderLine },
): Taken {
  let held = true;
  return {
    inherited,
    fds,
    step(name) {
      // The line belongs to whoever took the lock; a nested command would hide it.
      if (!held || inherited) return;
      holder.line = { ...holder.line, step: name };
      writeHolder(file, holder.line);
    },
    release() {
      if (!held) return;
      held = false;
      if (!inherited) writeHolder(file, undefined);
      // Closed, not unlocked: a child that inherited the descriptor shares the lock itself.
      for (const fd of [...closing].reverse()) closeSync(fd);
    },
  };
}

/** F_OFD_SETLK and F_OFD_GETLK of fcntl(2). */
const setOwn = 37;
const getOwn = 36;
const writeLock = 1;
const unlocked = 2;
/** LOCK_EX | LOCK_NB of flock(2). */
const exclusiveNow = 6;

/** `struct flock` of 64-bit Linux; its process must be 0 for an open-file-description lock. */
function lockRange(start: number, length: number, type: number = writeLock): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setInt16(0, type, true);
  view.setBigInt64(8, BigInt(start), true);
  view.setBigInt64(16, BigInt(length), true);
  return bytes;
}

function granted(result: number, path: string): boolean {
  if (result >= 0) return true;
  // After an interruption it is asked again, like after somebody else's lock.
  if ([Errno.EAGAIN, Errno.EACCES, Errno.EINTR].some((errno) => errno === -result)) return false;
  throw inWords(
    asThrown(-result),
    "Cannot lock the node",
    path,
    "mount a local file system, such as tmpfs, at /run",
  );
}

async function takeOwn(libc: Libc, real: string, wait: Wait): Promise<number> {
  for (;;) {
    const fd = openLock(real);
    try {
      while (!granted(libc.fcntlLock(fd, setOwn, lockRange(0, rangeLength)), lockPath)) {
        await wait(() => ownHolder(libc, fd));
      }
      // We have what every shimctl takes first, so whoever has this one is none.
      while (!granted(libc.flock(fd, exclusiveNow), lockPath)) await wait(() => describeOther(fd, lockPath));
      if (stillThere(real, fd)) return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    // Somebody removed the file while we waited: those who come now lock the new one.
    closeSync(fd);
    await wait(() => replacer(lockPath));
  }
}

/** A shimctl locks exactly its range; the line in the file is only its own then. */
function ownHolder(libc: Libc, fd: number): LockHolder {
  const lock = lockRange(0, rangeLength);
  libc.fcntlLock(fd, getOwn, lock);
  const view = new DataView(lock.buffer);
  const isShimctl =
    view.getInt16(0, true) !== unlocked &&
    view.getInt32(24, true) === -1 &&
    view.getBigInt64(8, true) === 0n &&
    view.getBigInt64(16, true) === BigInt(rangeLength);
  return isShimctl ? describeHolder(readHolder(fd)) : describeOther(fd, lockPath);
}

async function takeKata(libc: Libc, host: Host, wait: Wait): Promise<number> {
  for (;;) {
    const real = kataFile(host);
    const fd = openKata(real);
    try {
      refuseIrregular(fstatSync(fd), kataLockPath);
      while (!granted(libc.flock(fd, exclusiveNow), kataLockPath))
        await wait(() => describeOther(fd, kataLockPath));
      if (stillThere(real, fd)) return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    closeSync(fd);
    await wait(() => replacer(kataLockPath));
  }
}

/** Whoever keeps putting another file in the place of the one that we locked. */
function replacer(path: string): LockHolder {
  return { text: `another program, which keeps replacing ${path}`, pid: undefined, shimctl: false };
}

/** Sleeps a little, until the deadline or the signal ends it with an error. */
function waiting(options: LockOptions): Wait {
  const begin = performance.now();
  const every = options.noticeMs ?? noticeMs;
  let notice = begin + every;
  return async (holder) => {
    refuseStopped(options.signal);
    const now = performance.now();
    const left = begin + options.timeoutMs - now;
    if (left <= 0) {
      throw new ShimctlError(
        "lock-timeout",
        `Cannot take the node's lock within ${Math.round(options.timeoutMs / 10) / 100} s, as it is held by ${holder().text}`,
        { path: lockPath, hint: "wait for it to end, or pass a longer --lock-timeout" },
      );
    }
    if (now >= notice) {
      notice = now + every;
      options.onWait?.(holder());
    }
    await sleep(Math.min(left, 20 + Math.random() * 60), options.signal);
    refuseStopped(options.signal);
  };
}

function refuseStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new ShimctlError("interrupted", "Stopped by a signal while waiting for the node's lock", {
    hint: "run the same command again",
    retryable: true,
  });
}

interface Inherited {
  readonly fd: number;
  readonly kata: number | undefined;
  /** Descriptors of the locks that our ancestors hold among their siblings. */
  readonly levels: readonly number[];
  readonly level: number;
}

/**
 * The lock that an ancestor passed on. The variables alone prove nothing: the descriptor must be the lock
 * file, and must be able to lock what is locked, which only the very same open file description can.
 */
function inheritedFrom(libc: Libc, real: string, kataReal: () => string): Inherited | undefined {
  const fd = number(process.env["SHIMCTL_LOCK_FD"]);
  if (fd === undefined || fd < 3 || !stillThere(real, fd)) return undefined;
  if (libc.fcntlLock(fd, setOwn, lockRange(0, rangeLength)) < 0) return undefined;
  if (libc.flock(fd, exclusiveNow) < 0) {
    // Some other program's descriptor of our file: what was locked on it just now would only lock us out.
    libc.fcntlLock(fd, setOwn, lockRange(0, rangeLength, unlocked));
    return undefined;
  }
  const level = Math.min(number(process.env["SHIMCTL_LOCK_LEVEL"]) ?? 0, levelLimit);
  // One that a program in between has closed is stood in for, so that those behind it keep their places.
  const levels = Array.from({ length: level }, (_, index) => {
    const other = fd + 2 + index;
    return stillThere(real, other) ? other : fd;
  });
  const kata = stillThere(kataReal(), fd + 1) && libc.flock(fd + 1, exclusiveNow) >= 0 ? fd + 1 : undefined;
  return { fd, kata, levels, level };
}

function number(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : undefined;
}

function isOpenFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile();
  } catch {
    return false;
  }
}

/** Whether a path still leads to the file that a descriptor holds. */
function stillThere(real: string, fd: number): boolean {
  const there = lstatSync(real, { bigint: true, throwIfNoEntry: false });
  if (there === undefined || !isOpenFile(fd)) return false;
  const held = fstatSync(fd, { bigint: true });
  return there.ino === held.ino && there.dev === held.dev;
}

/** The real path of our folder in /run: made when it is missing, refused when it is not ours alone. */
function lockFolder(host: Host): string {
  refuseHiddenRun(host);
  const run = host.real("/run");
  makeFolder(run, "/run", 0o755);
  const folder = `${run}/shimctl`;
  makeFolder(folder, "/run/shimctl", 0o700);
  const stat = lstatSync(folder);
  if (stat.isSymbolicLink() || !stat.isDirectory())
    throw foreign("/run/shimctl", stat.isSymbolicLink() ? "this is a link" : "this is not a folder");
  refuseForeign(stat, "/run/shimctl");
  if ((stat.mode & 0o7777) !== 0o700) chmodSync(folder, 0o700);
  return folder;
}

/**
 * In a container, the root is put together from mounts. Where the folders of the locks are not among them, a
 * lock there would lock nobody out.
 */
function refuseHiddenRun(host: Host): void {
  for (const path of [lockPath, kataLockPath].map((file) => file.slice(0, file.lastIndexOf("/")))) {
    if (host.unmounted?.(path) === undefined) continue;
    throw new ShimctlError(
      "unsupported-node",
      `Cannot lock the node, as its ${path} is not mounted under the root`,
      {
        path,
        hint: `mount the node's ${path} at ${host.root}${path}, or its /run as a whole`,
      },
    );
  }
}

function makeFolder(real: string, path: string, mode: number): void {
  // What it is, where it is there, is for others to judge.
  if (lstatSync(real, { throwIfNoEntry: false }) !== undefined) return;
  try {
    mkdirSync(real, { mode });
  } catch (cause) {
    if (isErrno(cause, "EEXIST")) return;
    throw cannotMake(path, cause);
  }
  try {
    const fd = openSync(real, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      // The umask is our caller's; /run/lock is for every program on the node.
      fchmodSync(fd, mode);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw cannotMake(path, cause);
  }
}

function openLock(real: string): number {
  let fd: number;
  try {
    fd = openSync(
      real,
      constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      0o600,
    );
  } catch (cause) {
    if (isErrno(cause, "ELOOP")) throw foreign(lockPath, "this is a link");
    if (isErrno(cause, "EISDIR")) throw foreign(lockPath, "this is a folder");
    throw cannotMake(lockPath, cause);
  }
  const stat = fstatSync(fd);
  try {
    refuseIrregular(stat, lockPath);
    refuseForeign(stat, lockPath);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

function kataFile(host: Host): string {
  makeFolder(host.real("/run/lock"), "/run/lock", 0o755);
  return `${host.real("/run/lock")}/kata-deploy.lock`;
}

/**
 * /run/lock may be writable for everybody (1777 on Debian). The file is opened for reading only, which is
 * enough for flock(2), never through a link, and not created over somebody's (sysctl fs.protected_regular).
 */
function openKata(real: string): number {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  for (let attempt = 1; ; attempt++) {
    try {
      return openSync(real, flags);
    } catch (cause) {
      if (isErrno(cause, "ELOOP")) throw foreign(kataLockPath, "this is a link");
      if (!isErrno(cause, "ENOENT")) throw cannotMake(kataLockPath, cause);
    }
    try {
      return openSync(real, flags | constants.O_CREAT | constants.O_EXCL, 0o644);
    } catch (cause) {
      if (!isErrno(cause, "EEXIST") || attempt === 10) throw cannotMake(kataLockPath, cause);
    }
  }
}

/** What is neither a file nor stays the same file cannot be locked: a pipe, a folder, a device. */
function refuseIrregular(stat: Stats, path: string): void {
  if (!stat.isFile())
    throw foreign(path, stat.isDirectory() ? "this is a folder" : "this is not a regular file");
}

function refuseForeign(stat: Stats, path: string): void {
  const user = process.geteuid?.();
  if (stat.uid === user) return;
  throw new ShimctlError(
    "unsupported-node",
    `Cannot lock the node, as its lock belongs to user ${stat.uid} and you are ${user ?? "nobody"}`,
    { path, hint: user === 0 ? "find out who put it there, and remove it" : "run as root" },
  );
}

function foreign(path: string, reason: string): ShimctlError {
  return new ShimctlError("unsupported-node", `Cannot lock the node, as ${reason}`, {
    path,
    hint: "find out who put it there, and remove it",
  });
}

function cannotMake(path: string, cause: unknown): ShimctlError {
  return new ShimctlError(
    "unsupported-node",
    `Cannot lock the node, as its lock file cannot be opened: ${reasonOf(cause)}`,
    {
      path,
      hint: "run shimctl as root, with the node's /run mounted writable",
      cause,
    },
  );
}
