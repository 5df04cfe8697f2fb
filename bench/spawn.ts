import { dlopen, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";

/** A program to run. Its output goes to one file that is emptied before each run. */
export interface Command {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** How one process ran, from wait4(2): the kernel's own account of it and of the children that it waited for. */
export interface Ran {
  readonly status: number;
  /** From just before posix_spawn(3) until wait4(2) returned. */
  readonly wallMs: number;
  readonly cpuMs: number;
}

/** A command with everything made that the call needs, so that the timed part is two system calls. */
export interface Prepared {
  readonly start: () => number;
  readonly output: string;
  readonly words: string;
}

const { symbols: libc } = dlopen("libc.so.6", {
  posix_spawn: { args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" },
  posix_spawn_file_actions_init: { args: ["ptr"], returns: "i32" },
  posix_spawn_file_actions_addopen: { args: ["ptr", "i32", "ptr", "i32", "u32"], returns: "i32" },
  wait4: { args: ["i32", "ptr", "i32", "ptr"], returns: "i32" },
});

/** O_WRONLY | O_CREAT | O_TRUNC. */
const emptied = 0o1101;
/** More than `posix_spawn_file_actions_t` is in any C library. */
const actionsSize = 512;
const base = { PATH: "/usr/bin:/bin", HOME: "/root", LC_ALL: "C" };

/**
 * posix_spawn(3) shares the parent's memory until the child is another program, so this process's size costs
 * nothing. Its peak memory is never looked at: it would begin with ours.
 */
export function prepare({ argv, env }: Command, output: string): Prepared {
  const actions = new Uint8Array(actionsSize);
  const variables = Object.entries({ ...base, ...env }).map(([name, value]) => `${name}=${value}`);
  const [path, none, log] = [cString(argv[0] ?? ""), cString("/dev/null"), cString(output)];
  const [args, environment] = [cStrings(argv), cStrings(variables)];
  libc.posix_spawn_file_actions_init(ptr(actions));
  libc.posix_spawn_file_actions_addopen(ptr(actions), 0, ptr(none), 0, 0);
  libc.posix_spawn_file_actions_addopen(ptr(actions), 1, ptr(log), emptied, 0o600);
  libc.posix_spawn_file_actions_addopen(ptr(actions), 2, ptr(log), emptied, 0o600);
  const pid = new Int32Array(1);
  const start = () => {
    const failed = libc.posix_spawn(
      ptr(pid),
      ptr(path),
      ptr(actions),
      null,
      ptr(args.pointers),
      ptr(environment.pointers),
    );
    if (failed !== 0) throw new Error(`cannot start ${argv[0] ?? ""}: error ${failed}`);
    return pid[0] ?? 0;
  };
  // The pointers lead to these: they live as long as the function.
  const kept = { none, log, args, environment };
  return { start: () => (kept === undefined ? 0 : start()), output, words: argv.join(" ") };
}

/** Runs one command to its end. Throws with its output when it fails and may not. */
export function run(prepared: Prepared, mayFail = false): Ran {
  const begin = performance.now();
  const pid = prepared.start();
  const { status, cpuMs } = wait(pid);
  const wallMs = performance.now() - begin;
  if (status !== 0 && !mayFail) throw failed(prepared, status);
  return { status, wallMs, cpuMs };
}

/** Starts all of them at once and waits for the last: how long that takes, in ms. */
export function runTogether(all: readonly Prepared[]): { readonly wallMs: number; readonly cpuMs: number } {
  const begin = performance.now();
  const started = new Map(all.map((prepared) => [prepared.start(), prepared]));
  let cpuMs = 0;
  let broken: Error | undefined;
  for (let left = started.size; left > 0; left--) {
    const ended = wait(-1);
    cpuMs += ended.cpuMs;
    const prepared = started.get(ended.pid);
    if (ended.status !== 0 && prepared !== undefined) broken ??= failed(prepared, ended.status);
  }
  if (broken !== undefined) throw broken;
  return { wallMs: performance.now() - begin, cpuMs };
}

const status = new Int32Array(1);
const usage = new BigInt64Array(18);

function wait(pid: number): { pid: number; status: number; cpuMs: number } {
  const ended = libc.wait4(pid, ptr(status), 0, ptr(usage));
  if (ended < 0) throw new Error("wait4 failed: somebody else has waited for this process");
  const code = status[0] ?? 0;
  const [userS = 0n, userUs = 0n, systemS = 0n, systemUs = 0n] = usage;
  return {
    pid: ended,
    // As a shell has it: 128 and the signal's number for one that a signal ended.
    status: (code & 0x7f) === 0 ? (code >> 8) & 0xff : 128 + (code & 0x7f),
    cpuMs: Number((userS + systemS) * 1_000_000n + userUs + systemUs) / 1000,
  };
}

function failed({ words, output }: Prepared, code: number): Error {
  return new Error(`${words} ended with ${code}:\n${readFileSync(output, "utf8")}`);
}

function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

function cStrings(texts: readonly string[]): { pointers: BigUint64Array; texts: Uint8Array[] } {
  const bytes = texts.map(cString);
  return { pointers: BigUint64Array.from([...bytes.map((each) => BigInt(ptr(each))), 0n]), texts: bytes };
}
