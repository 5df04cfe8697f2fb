import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import type { Case } from "./cases.ts";
import { plain } from "./counts.ts";

/** The memory of one run, in KiB. */
export interface Memory {
  /** The most that was resident at once, the pages of its executable that every run shares included. */
  readonly peakKib: number;
  /** What it alone had when it ended: memory that one more run costs. */
  readonly privateKib: number;
}

/** How long strace holds the process at its end, in µs: long enough to look at it. */
const pauseUs = 300_000;
/** exit_group(2), which the kernel shows in /proc/PID/syscall while it is held there. */
const exitGroup: Readonly<Record<string, string>> = { x64: "231", arm64: "94" };

/**
 * Looks at a run that strace(1) holds when it has done everything and still has all of its memory. The kernel's
 * account after its end (ru_maxrss) would begin with the memory of whoever started it. `undefined` where there
 * is no strace, or for a command that is many processes.
 */
export async function weigh({ argv, ready }: Case): Promise<Memory | undefined> {
  ready();
  const flags = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=exit_group"];
  const inject = ["-e", `inject=exit_group:delay_enter=${pauseUs}`];
  const child = spawn("strace", [...flags, ...inject, ...argv], { stdio: "ignore", env: plain });
  let ended = false;
  const end = new Promise<void>((resolve) => {
    const done = () => {
      ended = true;
      resolve();
    };
    child.on("error", done);
    child.on("exit", done);
  });
  let memory: Memory | undefined;
  while (!ended && memory === undefined) {
    const pid = tracedBy(child.pid ?? 0);
    if (pid !== undefined && atExit(pid)) memory = look(pid);
    else await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await end;
  return memory;
}

function tracedBy(strace: number): string | undefined {
  const children = read(`/proc/${strace}/task/${strace}/children`);
  return children.split(" ").find((pid) => pid !== "" && pid !== String(strace));
}

/** Any of its threads may be the one that ends the process. */
function atExit(pid: string): boolean {
  let threads: string[] = [];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    // It has ended.
  }
  const number = exitGroup[process.arch] ?? "";
  return threads.some((thread) => read(`/proc/${pid}/task/${thread}/syscall`).split(" ")[0] === number);
}

function look(pid: string): Memory | undefined {
  const field = (text: string, name: string): number => {
    const sum = [...text.matchAll(new RegExp(`^${name}:\\s+(\\d+) kB`, "gm"))].map((match) =>
      Number(match[1]),
    );
    return sum.length === 0 ? Number.NaN : sum.reduce((total, each) => total + each, 0);
  };
  const maps = read(`/proc/${pid}/smaps_rollup`);
  const peakKib = field(read(`/proc/${pid}/status`), "VmHWM");
  // A page of a file that nobody else has mapped right now is not private: it is page cache.
  const privateKib = field(maps, "Anonymous");
  return Number.isNaN(peakKib) || Number.isNaN(privateKib) ? undefined : { peakKib, privateKib };
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
