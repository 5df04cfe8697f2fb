import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Case } from "./cases.ts";

/** What one run asked of the kernel. */
export interface Counts {
  readonly syscalls: number;
  /** fsync, fdatasync, syncfs and sync_file_range together. */
  readonly fsyncs: number;
  /** Bytes written to files below the case's node; not to pipes, events or the output. */
  readonly bytesWritten: number;
}

/** Counts by strace(1) in a run of its own, which is not timed. `undefined` where there is no strace. */
export function count({ argv, ready, root }: Case, log: string): Counts | undefined {
  ready();
  const flags = ["-f", "-qq", "-y", "-s", "0", "-o", log];
  const result = spawnSync("strace", [...flags, ...argv], { stdio: "ignore", env: plain });
  if (result.error !== undefined) return undefined;
  if (result.status !== 0) throw new Error(`${argv.join(" ")} ended with ${result.status} under strace`);
  return countLines(readFileSync(log, "utf8"), root);
}

export const plain = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", HOME: "/root", LC_ALL: "C" };

const syncs = new Set(["fsync", "fdatasync", "syncfs", "sync_file_range"]);
const writes = new Set(["write", "pwrite64", "writev", "pwritev", "pwritev2"]);

/** A call that another thread interrupts stands on two lines: its arguments on the first, its answer on the second. */
export function countLines(text: string, root: string): Counts {
  let [syscalls, fsyncs, bytesWritten] = [0, 0, 0];
  const waiting = new Map<string, boolean>();
  for (const line of text.split("\n")) {
    const [, thread = "", rest = ""] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const resumed = /^<\.\.\. (\w+) resumed>/.exec(rest);
    const [, name, args = ""] = /^(\w+)\((.*)$/.exec(rest) ?? [];
    const answer = Number(/ = (\d+)(?: |<|$)/.exec(rest)?.[1] ?? 0);
    if (resumed !== null) {
      if (waiting.get(thread) === true) bytesWritten += answer;
      waiting.delete(thread);
      continue;
    }
    if (name === undefined) continue;
    syscalls += 1;
    if (syncs.has(name)) fsyncs += 1;
    if (!writes.has(name) || !new RegExp(`^\\d+<${root}/`).test(args)) continue;
    if (rest.endsWith("<unfinished ...>")) waiting.set(thread, true);
    else bytesWritten += answer;
  }
  return { syscalls, fsyncs, bytesWritten };
}
