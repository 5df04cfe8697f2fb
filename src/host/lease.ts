import { fstatSync } from "node:fs";
import { Errno, type Libc } from "./libc/libc.ts";
import { readOpen } from "./root.ts";
import { sleep } from "./sleep.ts";

/** fcntl(2). */
const setSignal = 10;
const setLease = 1024;
const getLease = 1025;
const readLease = 0;
const noLease = 2;
/**
 * What the kernel sends when somebody opens the leased file for writing. By default that is SIGIO, which
 * kills; SIGURG is ignored unless somebody asks for it (signal(7)).
 */
const sigurg = 23;

/** How long content must stay the same where there are no leases (NFS and others), in ms. */
const stableMs = 100;
/**
 * How long a lease is kept before the file counts as settled, in ms. A writer that looked the path up just
 * before the exchange opens the displaced file a moment after it; the kernel makes it wait for the lease,
 * and `leaseHolds` then answers no. It is never cut short: a writer that a processor limit has stopped in the
 * middle of open(2) counts as runnable nowhere.
 */
export const graceMs = 5;

/**
 * Takes a read lease: from now on nobody has the file open for writing, and whoever tries waits for
 * `dropLease` (fcntl(2), Leases). `busy`: somebody has it open for writing, or mapped. The descriptor must be
 * read-only. `unsupported`: this file system, or this user, has no leases.
 */
export function takeLease(libc: Libc, fd: number): "leased" | "busy" | "unsupported" {
  if (libc.fcntl(fd, setSignal, sigurg) < 0) return "unsupported";
  const result = libc.fcntl(fd, setLease, readLease);
  if (result >= 0) return "leased";
  return -result === Errno.EAGAIN ? "busy" : "unsupported";
}

/** Whether the lease is still whole: nobody has come to write since it was taken. */
export function leaseHolds(libc: Libc, fd: number): boolean {
  return libc.fcntl(fd, getLease, 0) === readLease;
}

/** Gives a lease back; whoever waits for it goes on. Closing the last copy of the descriptor does the same. */
export function dropLease(libc: Libc, fd: number): void {
  libc.fcntl(fd, setLease, noLease);
}

/**
 * Waits until nobody has the open file open for writing, and returns its bytes: with the lease still held
 * (`leased`), or, where there are no leases, after its content stayed the same for 100 ms. `undefined` when
 * somebody still has it open at the deadline.
 *
 * @param deadline in ms, of `performance.now()`
 * @param known the bytes, when the caller holds the lease already
 */
export async function settle(
  libc: Libc,
  fd: number,
  deadline: number,
  known?: Uint8Array,
): Promise<{ bytes: Uint8Array; leased: boolean } | undefined> {
  let bytes = known;
  for (let wait = 1; ; ) {
    const lease = bytes === undefined ? takeLease(libc, fd) : "leased";
    if (lease === "unsupported") {
      const stable = await untilStable(fd, deadline);
      return stable === undefined ? undefined : { bytes: stable, leased: false };
    }
    if (lease === "leased") {
      bytes ??= readOpen(fd).bytes;
      await sleep(graceMs);
      if (leaseHolds(libc, fd)) return { bytes, leased: true };
      dropLease(libc, fd);
      bytes = undefined;
      wait = 1;
    }
    if (performance.now() >= deadline) return undefined;
    await sleep(wait);
    wait = Math.min(wait + 1, 10);
  }
}

async function untilStable(fd: number, deadline: number): Promise<Uint8Array | undefined> {
  let last = readOpen(fd);
  let since = performance.now();
  while (performance.now() - since < stableMs) {
    if (performance.now() >= deadline) return undefined;
    await sleep(10);
    const { mtimeNs, ctimeNs, size } = fstatSync(fd, { bigint: true });
    // The link count changes ctime, so content decides.
    if (mtimeNs === last.stat.mtimeNs && ctimeNs === last.stat.ctimeNs && size === last.stat.size) continue;
    const next = readOpen(fd);
    if (Buffer.compare(next.bytes, last.bytes) !== 0) since = performance.now();
    last = next;
  }
  return last.bytes;
}
