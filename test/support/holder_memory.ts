import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import type { Node } from "./node.ts";

/** What the executable that holds a node keeps for itself, in bytes. */
export interface Held {
  readonly looks: number;
  readonly own: number;
  readonly total: number;
  /** Machine code that was made at run time; a part of its own. */
  readonly code: number;
}

/**
 * Lets the executable hold a node with looks that follow each other at once, and tells its memory after so many of
 * them, ascending.
 */
export async function memoryAfter(program: string, node: Node, counts: readonly number[]): Promise<Held[]> {
  const holder = startHolder(program, node, ["--interval", "1ms", "--log-level", "debug"]);
  try {
    const held: Held[] = [];
    for (const looks of counts) {
      while (holder.looks() < looks) {
        if (holder.isOver()) throw new Error("the holder has ended");
        await Bun.sleep(5);
      }
      held.push({ looks, ...memoryOf(holder.pid), code: codeOf(holder.pid) });
    }
    return held;
  } finally {
    holder.end();
  }
}

/** Its memory, and how often it wakes up in a second, once it has nothing to do. */
export async function idle(
  program: string,
  node: Node,
  settleMs: number,
  spanMs: number,
): Promise<{ readonly own: number; readonly total: number; readonly wakeUps: number }> {
  const holder = startHolder(program, node, ["--interval", "1h"]);
  try {
    await Bun.sleep(settleMs);
    const before = switchesOf(holder.pid);
    await Bun.sleep(spanMs);
    // Threads that have ended meanwhile wake up no more.
    const woken = [...switchesOf(holder.pid)].map(([thread, count]) => count - (before.get(thread) ?? 0));
    const wakeUps = woken.reduce((sum, count) => sum + count, 0) / (spanMs / 1000);
    return { ...memoryOf(holder.pid), wakeUps };
  } finally {
    holder.end();
  }
}

function startHolder(program: string, node: Node, more: readonly string[]) {
  const args = ["watch", "kata-qemu", "--listen", "127.0.0.1:0", ...more];
  const child = spawn(program, args, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...node.env, SHIMCTL_TEST_LOOK_DISTANCE_MS: "1" },
  });
  let looks = 0;
  child.stderr.on("data", (part: Buffer) => {
    looks += part.toString().split("starting a look").length - 1;
  });
  return {
    pid: child.pid ?? 0,
    looks: () => looks,
    isOver: () => child.exitCode !== null,
    end: () => child.kill("SIGKILL"),
  };
}

/** Anonymous memory: pages of the executable count as dirty until they are written to the disk, and are not its own. */
function memoryOf(pid: number): { readonly own: number; readonly total: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const bytes = (key: string) => Number(new RegExp(`^${key}: *(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) * 1024;
  return { own: bytes("Anonymous"), total: bytes("Rss") };
}

/** Memory that may be written to and run, as far as it was written to. */
function codeOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps`, "utf8");
  const sizes = text.matchAll(/^[0-9a-f]+-[0-9a-f]+ rwx.*\n(?:[A-Z].*\n)*?Anonymous: *(\d+) kB$/gm);
  return [...sizes].reduce((sum, [, kib]) => sum + Number(kib) * 1024, 0);
}

/** How often each of its threads has begun to wait by itself. */
function switchesOf(pid: number): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const thread of new Bun.Glob("*/status").scanSync(`/proc/${pid}/task`)) {
    const text = readFileSync(`/proc/${pid}/task/${thread}`, "utf8");
    counts.set(thread, Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(text)?.[1] ?? 0));
  }
  return counts;
}
