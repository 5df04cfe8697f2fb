import { readFileSync, statfsSync } from "node:fs";

/** The magic number of proc(5) in statfs(2). A container manager may put a file of its own over this one. */
const procMagic = 0x9fa0;

/** `0.20 0.18 0.12 1/80 11206`: the fourth field begins with how many threads can run now (proc_loadavg(5)). */
const runnable = /^\S+ \S+ \S+ (\d+)\//;

/**
 * Whether at this moment no thread of the whole machine runs or could run, but ours. The count is the kernel's,
 * over all processors and all containers; `false` also where it cannot be trusted.
 */
export function runsAlone(): boolean {
  try {
    const path = "/proc/loadavg";
    if (statfsSync(path).type !== procMagic) return false;
    return runnable.exec(readFileSync(path, "latin1"))?.[1] === "1";
  } catch {
    return false;
  }
}
