import { readFileSync } from "node:fs";
import process from "node:process";

/** This very program, as another process of it is started: under Bun or Deno, the script and its flags stand before the arguments. */
export function ownCommand(): { readonly program: string; readonly args: readonly string[] } {
  const program = process.execPath;
  try {
    const given = readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
    return { program, args: given.slice(1, given.length - (process.argv.length - 2)) };
  } catch {
    // Deno shows /proc only to who may do everything: these are the rights that the command line needs.
    return { program, args: ["run", "--no-prompt", "--quiet", ...rights, process.argv[1] ?? ""] };
  }
}

const rights = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-ffi",
  "--allow-run",
  "--allow-sys=hostname,uid,statfs",
];

/** Who has started this process; another one once that has ended. proc_pid_stat(5): the name may hold anything. */
export function ownParent(): number {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return process.ppid;
  }
}

/** What this process holds for itself alone, and all that it shows, in bytes; `undefined` where the kernel does not say. */
export function ownMemory(): { readonly own: number; readonly total: number } | undefined {
  try {
    const text = readFileSync("/proc/self/smaps_rollup", "utf8");
    const bytes = (key: string) =>
      Number(new RegExp(`^${key}: *(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) * 1024;
    return { own: bytes("Anonymous"), total: bytes("Rss") };
  } catch {
    return undefined;
  }
}

/** What Bun can be told besides; Deno knows nothing of it. */
interface Runtime {
  gc(now: boolean): void;
  readonly unsafe: { setJITPolicy?(scale: number): void };
}

function runtime(): Runtime | undefined {
  return (globalThis as { readonly Bun?: Runtime }).Bun;
}

/**
 * For a process that does little, for months: what it does over and over is not compiled to machine code, where the
 * runtime can be told. The code and what the compilers note of it would take 2 MB within some thousand rounds, for work
 * that takes a moment a minute. <https://bun.com/reference/bun/unsafe/setJITPolicy>
 */
export function staySmall(): void {
  runtime()?.unsafe.setJITPolicy?.(1_000_000);
}

/**
 * Gives back what is not used any more, where the runtime can be told: by itself it waits until much more has gathered,
 * as most programs are not about to sleep for a minute.
 */
export function giveBackMemory(): void {
  runtime()?.gc(true);
}
