import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import type { Case } from "./cases.ts";
import { prepare, run } from "./spawn.ts";

/** How a run fared in a memory control group of its own, without swap. */
export interface Limited {
  readonly succeeded: boolean;
  /** The most that was charged to the group: its own memory, its kernel memory, the files it was first to read. */
  readonly peakKib: number;
}

/**
 * A control group with a memory limit, version 2 or 1. `undefined` where this user may not make one.
 *
 * Pages of the executable that are cached already are charged to whoever read them first, as on a node where a
 * container of the same image ran before: that is "warm cache".
 */
export function limited(each: Case, output: string, limitKib: number): Limited | undefined {
  const kind = kinds.find(({ folder, marker }) => existsSync(`${folder}/${marker}`));
  if (kind === undefined) return undefined;
  const group = `${kind.folder}/shimctl-bench-${process.pid}`;
  try {
    mkdirSync(group);
  } catch {
    return undefined;
  }
  try {
    for (const [name, value] of kind.settings(limitKib * 1024)) writeFileSync(`${group}/${name}`, value);
    each.ready();
    // The shell becomes the command, which is in the group from its first instruction on.
    const inside = `echo $$ > '${group}/cgroup.procs' && exec "$@"`;
    const { status } = run(prepare({ argv: ["/bin/sh", "-c", inside, "sh", ...each.argv] }, output), true);
    const peak = Number(readFileSync(`${group}/${kind.peak}`, "utf8"));
    return { succeeded: status === 0, peakKib: Math.round(peak / 1024) };
  } finally {
    rmdirSync(group);
  }
}

/** The smallest limit, in KiB and to 256 KiB, under which three runs in a row succeed. */
export function smallestLimit(each: Case, output: string): number | undefined {
  const holds = (kib: number) => [1, 2, 3].every(() => limited(each, output, kib)?.succeeded === true);
  let [fails, works] = [0, 65_536];
  if (!holds(works)) return undefined;
  while (works - fails > 256) {
    const middle = Math.round((fails + works) / 512) * 256;
    if (holds(middle)) works = middle;
    else fails = middle;
  }
  return works;
}

const kinds = [
  {
    folder: "/sys/fs/cgroup",
    marker: "memory.peak",
    peak: "memory.peak",
    settings: (bytes: number): [string, string][] => [
      ["memory.max", String(bytes)],
      ["memory.swap.max", "0"],
    ],
  },
  {
    folder: "/sys/fs/cgroup/memory",
    marker: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    // Memory and swap together: the same limit leaves nothing for swap.
    settings: (bytes: number): [string, string][] => [
      ["memory.limit_in_bytes", String(bytes)],
      ["memory.memsw.limit_in_bytes", String(bytes)],
    ],
  },
];
