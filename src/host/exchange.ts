import { type BigIntStats, closeSync, fstatSync, lstatSync } from "node:fs";
import { dropLease, leaseHolds, settle, takeLease } from "./lease.ts";
import type { Libc } from "./libc/libc.ts";
import {
  armExchange,
  createFrom,
  flushFolders,
  type Identity,
  isAt,
  moveAway,
  nameTemp,
  openToRead,
  openUnnamed,
  type Pending,
  type Swapped,
  type Target,
  unlinkIfThere,
  type Written,
  writeTemp,
} from "./pending.ts";
import { readOpen } from "./root.ts";
import { sleep } from "./sleep.ts";

/** `null`: there is no such file. */
export type Bytes = Uint8Array | null;

/** How long to wait for programs that have the target open for writing before exchanging under them, in ms. */
const lookMs = 2_000;
/** How long to wait for programs that have the displaced file open for writing, in ms. */
const settleMs = 10_000;

/** Where a test may stop the process, or act as another program. Never set in a release. */
export type CommitPoint = "written" | "journaled" | "compared" | "exchanged" | "settled" | "cleaned";

export interface Exchange {
  readonly expected: Bytes;
  readonly next: Bytes;
  readonly mode?: number | undefined;
  readonly labelFrom?: string | undefined;
  /** Whether to hold what was displaced. */
  readonly hold?: boolean;
  /** Awaited when the temporary file is complete and before anything visible changes. @param temp host path */
  readonly announce: (temp: string) => Promise<void>;
  readonly failpoint: (point: CommitPoint) => void;
}

/** Somebody's file that an exchange took out of the way. */
export interface Displaced {
  readonly bytes: Uint8Array;
  /** Where it is now, as a host path; `undefined`: only in memory. */
  readonly temp: Pending | undefined;
  /** Removes it. For callers who have merged or kept its bytes. */
  remove(): void;
}

export type Exchanged =
  /** The target was not what was expected; nothing was written. */
  | { readonly kind: "moved" }
  /** What was displaced is what was expected, and is gone. `held`: where leases are, what was displaced still. */
  | { readonly kind: "clean"; readonly held?: Held }
  /** Somebody wrote between the last look and the exchange. */
  | { readonly kind: "between"; readonly displaced: Displaced; readonly held?: Held }
  /** Somebody keeps the displaced file open for writing: its bytes are not final. */
  | { readonly kind: "open"; readonly displaced: Displaced };

/**
 * A displaced file that has no name any more, and a lease on it. A program that had looked its path up before the
 * exchange may open it to write as long after as the scheduler pleases: the longer it is held, the surer that shows.
 */
export interface Held {
  /** What came of those who have come to write since the last time; `undefined`: nobody did, or nothing was written. */
  late(): Promise<Between | undefined>;
  /** Whoever comes to write later is not noticed. Harmless when repeated. */
  close(): void;
}

/** Somebody's edit is in the file that was displaced. */
export type Between = Extract<Exchanged, { kind: "between" | "open" }>;

/**
 * Replaces a file that is `expected` by `next`, and tells what it displaced. At every instant the target is
 * a complete file. Throws ShimctlError where the node does not allow it; nothing has changed then.
 */
export async function exchangeFile(libc: Libc, target: Target, order: Exchange): Promise<Exchanged> {
  const temp = nameTemp(target);
  try {
    const metadata = await prepare(libc, target, temp, order);
    if (metadata === undefined) return { kind: "moved" };
    order.failpoint("journaled");
    const look = await lookAt(libc, target.real, lookMs);
    try {
      if (!sameBytes(look.bytes, order.expected) || look.metadata !== metadata) return { kind: "moved" };
      const swap = arm(libc, target, temp, order);
      order.failpoint("compared");
      const swapped = swap(look);
      if (swapped === "moved") return { kind: "moved" };
      order.failpoint("exchanged");
      return await judge(libc, target, temp, order, look, swapped);
    } finally {
      look.close();
    }
  } finally {
    temp.discard();
  }
}

/**
 * Puts a displaced file back, if the target still is what displaced it.
 * @returns whether it is back; and, when somebody wrote in between, their version, which is displaced now
 */
export async function giveBack(
  libc: Libc,
  target: Target,
  displaced: Displaced,
  installed: Bytes,
): Promise<{ back: boolean; left?: Displaced }> {
  const { temp } = displaced;
  if (temp === undefined) return { back: false };
  if (installed === null) {
    const back = createFrom(libc, temp, target) !== "moved";
    flushFolders(target);
    return { back };
  }
  const look = await lookAt(libc, target.real, lookMs);
  try {
    if (look.identity === undefined || !sameBytes(look.bytes, installed)) return { back: false };
    const swapped = armExchange(libc, temp, target)(look.identity);
    if (swapped === "moved") return { back: false };
    const result = await judge(
      libc,
      target,
      temp,
      { expected: installed, failpoint: () => {} },
      look,
      swapped,
    );
    return result.kind === "between" || result.kind === "open"
      ? { back: true, left: result.displaced }
      : { back: true };
  } finally {
    look.close();
  }
}

/** What the target holds, and a hold on it. */
export interface Look {
  readonly bytes: Bytes;
  /** Whether nobody has it open for writing. `unknown`: there are no leases here. */
  readonly quiet: "yes" | "no" | "unknown";
  readonly identity: Identity | undefined;
  /** Owner and mode, comparable. */
  readonly metadata: string;
  readonly fd: number | undefined;
  /** Whether the target is another file by now, or was written to since. A look, not a lock. */
  changed(): boolean;
  /** Lets writers go on; the descriptor stays, so that the file's number cannot be given to another file. */
  release(): void;
  close(): void;
  /** The descriptor and its lease, if any, are the caller's from now on: `close` does nothing any more. */
  keep(): void;
}

/**
 * Reads the target while nobody has it open for writing, and keeps it so until `release`: writers that open
 * it wait in the kernel. Waits up to `patience` ms for those who have it open, then reads all the same.
 */
export async function lookAt(libc: Libc, real: string, patience: number): Promise<Look> {
  const deadline = performance.now() + patience;
  for (let wait = 1; ; wait = Math.min(wait + 1, 4)) {
    const fd = openToRead(real);
    if (fd === undefined) {
      const nothing = () => {};
      return {
        bytes: null,
        quiet: "yes",
        identity: undefined,
        metadata: "",
        fd,
        changed: () => lstatSync(real, { throwIfNoEntry: false }) !== undefined,
        release: nothing,
        close: nothing,
        keep: nothing,
      };
    }
    const lease = takeLease(libc, fd);
    if (lease !== "busy" || performance.now() >= deadline) {
      const { bytes, stat } = readOpen(fd);
      if (isAt(real, stat)) return heldLook(libc, fd, real, bytes, lease);
    }
    closeSync(fd);
    await sleep(wait);
  }
}

function heldLook(
  libc: Libc,
  fd: number,
  real: string,
  bytes: Uint8Array,
  lease: ReturnType<typeof takeLease>,
): Look {
  const stat = fstatSync(fd, { bigint: true });
  let open = true;
  return {
    bytes,
    quiet: lease === "leased" ? "yes" : lease === "busy" ? "no" : "unknown",
    identity: { dev: stat.dev, ino: stat.ino },
    metadata: metadataOf(fd),
    fd,
    changed() {
      const now = lstatSync(real, { bigint: true, throwIfNoEntry: false });
      return now === undefined || stampOf(now) !== stampOf(stat);
    },
    release() {
      if (open && lease === "leased") dropLease(libc, fd);
    },
    close() {
      if (open) closeSync(fd);
      open = false;
    },
    keep() {
      open = false;
    },
  };
}

/** How soon a program that comes to write into a displaced file may go on, in ms. */
const letGoMs = 50;

/** @param bytes the file's, as they were when the lease was taken */
function holdDisplaced(libc: Libc, fd: number, bytes: Uint8Array): Held {
  let known = bytes;
  let whole = true;
  let open = true;
  const isWhole = () => {
    if (!whole || leaseHolds(libc, fd)) return whole;
    whole = false;
    dropLease(libc, fd);
    return false;
  };
  // Nobody is kept waiting until a restart is through, or until another file is merged.
  const watching = setInterval(isWhole, letGoMs);
  watching.unref();
  const close = () => {
    clearInterval(watching);
    if (open) closeSync(fd);
    open = false;
  };
  return {
    async late() {
      if (!open || isWhole()) return undefined;
      const settled = await settle(libc, fd, performance.now() + settleMs);
      const displaced = { bytes: settled?.bytes ?? readOpen(fd).bytes, temp: undefined, remove() {} };
      if (settled === undefined) {
        // Whoever has it open for so long is not waited for twice.
        close();
        return { kind: "open", displaced };
      }
      whole = settled.leased;
      if (sameBytes(settled.bytes, known)) return undefined;
      known = settled.bytes;
      return { kind: "between", displaced };
    },
    close,
  };
}

function stampOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(":");
}

export function sameBytes(a: Bytes, b: Bytes): boolean {
  return a === null || b === null ? a === b : Buffer.compare(a, b) === 0;
}

/**
 * Writes the temporary file, announces it, and gives it its name; `undefined` when the target is there and
 * should not be, or the other way round.
 */
async function prepare(
  libc: Libc,
  target: Target,
  temp: Pending,
  order: Exchange,
): Promise<string | undefined> {
  const like = openToRead(target.real);
  let written: Written | undefined;
  try {
    if ((like === undefined) !== (order.expected === null)) return undefined;
    let isAnnounced = false;
    if (order.next !== null) {
      const unnamed = openUnnamed(temp, target.path);
      // A crash leaves behind what has a name from the start: the journal has to know it before.
      if (unnamed === undefined) await order.announce(temp.path);
      isAnnounced = unnamed === undefined;
      written = writeTemp(libc, temp, order.next, { ...order, like }, target.path, unnamed);
    }
    order.failpoint("written");
    if (!isAnnounced) await order.announce(temp.path);
    written?.publish();
    return like === undefined ? "" : metadataOf(like);
  } finally {
    written?.close();
    if (like !== undefined) closeSync(like);
  }
}

function metadataOf(fd: number): string {
  const { mode, uid, gid } = fstatSync(fd);
  return `${mode}:${uid}:${gid}`;
}

function arm(libc: Libc, target: Target, temp: Pending, order: Exchange): (look: Look) => Swapped {
  const { next } = order;
  const exchange = next === null ? undefined : armExchange(libc, temp, target);
  return ({ identity }) => {
    if (identity === undefined) return createFrom(libc, temp, target);
    return exchange === undefined ? moveAway(libc, target, temp, identity) : exchange(identity);
  };
}

/** Waits until what was displaced is final, and compares it with what was expected. */
async function judge(
  libc: Libc,
  target: Target,
  temp: Pending,
  order: Pick<Exchange, "expected" | "hold" | "failpoint">,
  look: Look,
  swapped: Swapped,
): Promise<Exchanged> {
  if (look.fd === undefined || look.identity === undefined) {
    flushFolders(target);
    return { kind: "clean" };
  }
  const named = swapped === "unnamed" ? undefined : temp;
  const remove = () => {
    if (named !== undefined) unlinkIfThere(named.real);
  };
  const isLooked = named === undefined || isAt(named.real, look.identity);
  const fd = isLooked ? look.fd : openToRead(temp.real);
  // Only we know the temporary name; whoever removed the file there has taken it upon themselves.
  if (fd === undefined) return { kind: "clean" };
  let isKept = false;
  const hold = (bytes: Uint8Array) => {
    if (isLooked) look.keep();
    isKept = true;
    return { held: holdDisplaced(libc, fd, bytes) };
  };
  try {
    const whole = isLooked && look.quiet === "yes" && leaseHolds(libc, fd);
    // Somebody came to write meanwhile, and waits for the lease to go.
    if (isLooked && !whole) look.release();
    const known = whole && look.bytes !== null ? look.bytes : undefined;
    const settled = await settle(libc, fd, performance.now() + settleMs, known);
    if (settled === undefined) {
      flushFolders(target);
      return { kind: "open", displaced: { bytes: readOpen(fd).bytes, temp: named, remove } };
    }
    order.failpoint("settled");
    const clean = sameBytes(settled.bytes, order.expected);
    if (clean) remove();
    flushFolders(target);
    if (clean) order.failpoint("cleaned");
    const held = order.hold === true && settled.leased ? hold(settled.bytes) : {};
    if (clean) return { kind: "clean", ...held };
    return { kind: "between", displaced: { bytes: settled.bytes, temp: named, remove }, ...held };
  } finally {
    if (!isLooked && !isKept) closeSync(fd);
  }
}
