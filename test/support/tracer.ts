import { dlopen, ptr } from "bun:ffi";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/**
 * Runs a program under ptrace(2), on all its threads and children, and lets a test look at each system call that
 * changes something before it is carried out and after: to record it, to do something as another program at
 * that very instant, to let it fail, or to end the program there. Exact where `strace --inject` counts.
 * x86-64 only; the test itself is the tracer, and waits.
 */
export function trace(argv: readonly string[], watch: Watch, env: NodeJS.ProcessEnv = process.env): Traced {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-traced-"));
  const output = join(folder, "output");
  writeFileSync(output, "");
  try {
    const leader = spawnStopped(argv, output, env);
    const ended = follow(leader, output, watch);
    return { ...ended, output: readFileSync(output, "utf8") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What to do with a call: nothing, end the program, or let the call fail without being carried out. */
export type Verdict = "kill" | { readonly errno: number } | undefined;

export interface Watch {
  enter?(call: Call): Verdict;
  /** @param result as the kernel answers: a negated error number where the call failed */
  exit?(call: Call, result: number): "kill" | undefined;
}

export interface Call {
  readonly name: string;
  /** What it is about: the path, or what its descriptor leads to; `stdout` for the program's own output. */
  readonly subject: string;
  /** The second path of a rename or link. */
  readonly second: string | undefined;
  readonly args: readonly number[];
  /** The bytes of a write. */
  bytes(): Uint8Array;
}

export interface Traced {
  /** The exit code; `null` when a signal ended it. */
  readonly code: number | null;
  /** Standard output and errors. */
  readonly output: string;
}

/** How a call names what it is about: which argument is a path, which one a descriptor. */
interface Shape {
  readonly name: string;
  readonly path?: number;
  readonly second?: number;
  readonly fd?: number;
}

const shapes = new Map<number, Shape>([
  [1, { name: "write", fd: 0 }],
  [2, { name: "open", path: 0 }],
  [18, { name: "pwrite64", fd: 0 }],
  [20, { name: "writev", fd: 0 }],
  [40, { name: "sendfile", fd: 0 }],
  [41, { name: "socket" }],
  [42, { name: "connect", fd: 0 }],
  [44, { name: "sendto", fd: 0 }],
  [45, { name: "recvfrom", fd: 0 }],
  [46, { name: "sendmsg", fd: 0 }],
  [47, { name: "recvmsg", fd: 0 }],
  [56, { name: "clone" }],
  [57, { name: "fork" }],
  [58, { name: "vfork" }],
  [59, { name: "execve", path: 0 }],
  [72, { name: "fcntl", fd: 0 }],
  [73, { name: "flock", fd: 0 }],
  [74, { name: "fsync", fd: 0 }],
  [75, { name: "fdatasync", fd: 0 }],
  [76, { name: "truncate", path: 0 }],
  [77, { name: "ftruncate", fd: 0 }],
  [82, { name: "rename", path: 0, second: 1 }],
  [83, { name: "mkdir", path: 0 }],
  [84, { name: "rmdir", path: 0 }],
  [85, { name: "creat", path: 0 }],
  [86, { name: "link", path: 0, second: 1 }],
  [87, { name: "unlink", path: 0 }],
  [88, { name: "symlink", path: 1 }],
  [90, { name: "chmod", path: 0 }],
  [91, { name: "fchmod", fd: 0 }],
  [92, { name: "chown", path: 0 }],
  [93, { name: "fchown", fd: 0 }],
  [190, { name: "fsetxattr", fd: 0 }],
  [199, { name: "fremovexattr", fd: 0 }],
  [257, { name: "openat", path: 1 }],
  [258, { name: "mkdirat", path: 1 }],
  [263, { name: "unlinkat", path: 1 }],
  [264, { name: "renameat", path: 1, second: 3 }],
  [265, { name: "linkat", path: 1, second: 3 }],
  [266, { name: "symlinkat", path: 2 }],
  [268, { name: "fchmodat", path: 1 }],
  [280, { name: "utimensat", path: 1 }],
  [285, { name: "fallocate", fd: 0 }],
  [296, { name: "pwritev", fd: 0 }],
  [307, { name: "sendmmsg", fd: 0 }],
  [316, { name: "renameat2", path: 1, second: 3 }],
  [326, { name: "copy_file_range", fd: 2 }],
  [328, { name: "pwritev2", fd: 0 }],
  [426, { name: "io_uring_enter" }],
  [435, { name: "clone3" }],
  [437, { name: "openat2", path: 1 }],
]);

const { symbols: libc } = dlopen("libc.so.6", {
  // Addresses are passed as numbers: some are the program's, not ours.
  ptrace: { args: ["i64", "i32", "u64", "u64"], returns: "i64" },
  waitpid: { args: ["i32", "ptr", "i32"], returns: "i32" },
  kill: { args: ["i32", "i32"], returns: "i32" },
  posix_spawn: { args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" },
});

/** ptrace(2). */
const request = {
  getRegisters: 12n,
  setRegisters: 13n,
  resume: 24n,
  seize: 0x4206n,
  listen: 0x4208n,
  callInfo: 0x420en,
} as const;
/** Tell system calls, forks, threads and programs; and end the program should the test be ended. */
const options = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000;
const callStop = constants.signals.SIGTRAP | 0x80;
const [eventExec, eventStop] = [4, 128];
const stopSignals: readonly number[] = [
  constants.signals.SIGSTOP,
  constants.signals.SIGTSTP,
  constants.signals.SIGTTIN,
  constants.signals.SIGTTOU,
];
/** Places in `struct user_regs_struct` of x86-64. */
const [rax, originalRax] = [10, 15];

/** A process of ours that waits to be traced, and then becomes the program. Bun does not know of it. */
function spawnStopped(argv: readonly string[], output: string, env: NodeJS.ProcessEnv): number {
  const script = `kill -STOP $$; exec "$@" >${output} 2>&1 </dev/null`;
  const keep: Uint8Array[] = [];
  const strings = (texts: readonly string[]) => {
    const bytes = texts.map((text) => Buffer.from(`${text}\0`));
    keep.push(...bytes);
    return new BigUint64Array([...bytes.map((each) => BigInt(ptr(each))), 0n]);
  };
  const pid = new Int32Array(1);
  const path = Buffer.from("/bin/sh\0");
  const args = strings(["sh", "-c", script, "sh", ...argv]);
  const variables = strings(Object.entries(env).map(([key, value]) => `${key}=${value ?? ""}`));
  const failed = libc.posix_spawn(ptr(pid), ptr(path), null, null, ptr(args), ptr(variables));
  const leader = pid[0] ?? 0;
  if (failed !== 0) throw new Error(`cannot start a program to trace: error ${failed}`);
  const status = new Int32Array(1);
  const untraced = 2;
  libc.waitpid(leader, ptr(status), untraced);
  if (libc.ptrace(request.seize, leader, 0n, BigInt(options)) !== 0n) {
    libc.kill(leader, constants.signals.SIGKILL);
    throw new Error("cannot trace a program: ptrace(2) is forbidden here");
  }
  libc.kill(leader, constants.signals.SIGCONT);
  return leader;
}

function follow(leader: number, output: string, watch: Watch): { code: number | null } {
  const status = new Int32Array(1);
  const info = new DataView(new ArrayBuffer(128));
  const pending = new Map<number, { readonly call: Call | undefined; readonly errno: number }>();
  /** The shell's own calls, before it becomes the program, are nobody's business. */
  let begun = false;
  const allThreads = 0x40000000;
  const alive = new Set<number>([leader]);
  let ended: { code: number | null } | undefined;
  const end = () => libc.kill(leader, constants.signals.SIGKILL);
  const atCall = (tid: number): void => {
    libc.ptrace(request.callInfo, tid, 128n, BigInt(ptr(info.buffer as ArrayBuffer)));
    if (info.getUint8(0) === 1) {
      const call = begun ? callOf(tid, info, output) : undefined;
      const verdict = call === undefined ? undefined : watch.enter?.(call);
      if (verdict === "kill") end();
      const errno = typeof verdict === "object" ? verdict.errno : 0;
      // A call with no number is none.
      if (errno !== 0) setRegister(tid, originalRax, -1n);
      pending.set(tid, { call, errno });
      return;
    }
    const { call, errno } = pending.get(tid) ?? { call: undefined, errno: 0 };
    pending.delete(tid);
    if (errno !== 0) setRegister(tid, rax, BigInt(-errno));
    if (call === undefined) return;
    const result = errno !== 0 ? -errno : Number(info.getBigInt64(24, true));
    if (watch.exit?.(call, result) === "kill") end();
  };
  for (;;) {
    const tid = libc.waitpid(-1, ptr(status), allThreads);
    const how = status[0] ?? 0;
    if (tid < 0) return ended ?? { code: null };
    if ((how & 0xff) !== 0x7f) {
      alive.delete(tid);
      if (tid === leader) ended = { code: (how & 0x7f) === 0 ? (how >> 8) & 0xff : null };
      // What it started may outlive it, and does its work.
      if (ended !== undefined && alive.size === 0) return ended;
      continue;
    }
    alive.add(tid);
    const signal = (how >> 8) & 0xff;
    const event = how >> 16;
    if (signal === callStop) atCall(tid);
    if (event === eventExec && tid === leader) begun = true;
    const isStopped = event === eventStop && stopSignals.includes(signal);
    const passed = event === 0 && signal !== callStop ? signal : 0;
    libc.ptrace(isStopped ? request.listen : request.resume, tid, 0n, BigInt(passed));
  }
}

function callOf(tid: number, info: DataView, output: string): Call | undefined {
  const shape = shapes.get(Number(info.getBigUint64(24, true)));
  if (shape === undefined) return undefined;
  const args = Array.from({ length: 6 }, (_, index) => Number(info.getBigInt64(32 + 8 * index, true)));
  const at = (index: number | undefined) =>
    index === undefined ? undefined : readString(tid, args[index] ?? 0);
  let subject = at(shape.path);
  if (shape.fd !== undefined) subject = behind(tid, args[shape.fd] ?? -1);
  return {
    name: shape.name,
    subject: subject === output ? "stdout" : (subject ?? ""),
    second: at(shape.second),
    args,
    bytes: () => readMemory(tid, args[1] ?? 0, args[2] ?? 0),
  };
}

/** A descriptor is one of 32 bits, whatever stands above them in the register. */
function behind(tid: number, fd: number): string {
  try {
    return readlinkSync(`/proc/${tid}/fd/${fd | 0}`);
  } catch {
    return `descriptor ${fd | 0}`;
  }
}

function readString(tid: number, address: number): string {
  for (const length of [256, 4096]) {
    const bytes = readMemory(tid, address, length);
    const end = bytes.indexOf(0);
    if (end >= 0) return new TextDecoder().decode(bytes.subarray(0, end));
  }
  return "";
}

function readMemory(tid: number, address: number, length: number): Uint8Array {
  const fd = openSync(`/proc/${tid}/mem`, "r");
  try {
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, readSync(fd, bytes, 0, length, address));
  } catch {
    // Not all of it is mapped: a path may stand at the end of a page.
    return length > 256
      ? readMemory(tid, address, 256)
      : length > 16
        ? readMemory(tid, address, 16)
        : new Uint8Array();
  } finally {
    closeSync(fd);
  }
}

function setRegister(tid: number, place: number, value: bigint): void {
  const registers = new BigInt64Array(27);
  const address = BigInt(ptr(registers));
  libc.ptrace(request.getRegisters, tid, 0n, address);
  registers[place] = value;
  libc.ptrace(request.setRegisters, tid, 0n, address);
}
