import { readdirSync, readFileSync, statSync } from "node:fs";
import type { Daemon } from "./daemon.ts";
import { mountsAt } from "./mounts.ts";
import type { Wanted } from "./unit_files.ts";

/** Where processes are seen, and the root of those that are the node's own. */
export interface Processes {
  readonly proc: string;
  readonly home: string;
}

/**
 * The node's own processes; `undefined` where none but those of a container are seen, and for users who may not see
 * which ones are in a container.
 */
export function processesOf(root: string): Processes | undefined {
  const proc = root === "/" ? "/proc" : `${root}/proc`;
  // The root itself may be put together from parts, that of the node's first process is not.
  const first = `${proc}/1/root/`;
  const isThere = root === "/" || mountsAt(proc).some(({ type }) => type === "proc");
  if (!isThere || placeOf(first) === undefined) return undefined;
  return { proc, home: root === "/" ? "/" : first };
}

/**
 * The daemons among the running processes. Those of containers on the node are passed over: their root is another one.
 * So are those of users, and all under a user's own service manager.
 * So are all whose root this user may not see.
 */
export function runningDaemons(seen: Processes, wanted: Wanted): Daemon[] {
  const { proc } = seen;
  const home = placeOf(seen.home);
  if (home === undefined) return [];
  const owner = ownerOf(proc);
  const pids = namesIn(proc)
    .filter((name) => /^\d+$/.test(name))
    .sort((one, other) => Number(one) - Number(other));
  const found = new Map<string, Daemon>();
  for (const pid of pids) {
    const folder = `${proc}/${pid}`;
    const argv = listOf(`${folder}/cmdline`);
    if (argv.length === 0) continue;
    const process: Daemon = { unit: undefined, argv, environment: {}, active: true, source: `/proc/${pid}` };
    // Most are ruled out by their command alone. Any user may call a program what they like.
    if (!wanted.isOne(process) || placeOf(`${folder}/root/`) !== home || ownerOf(folder) !== owner) continue;
    const cgroup = textOf(`${folder}/cgroup`);
    // A user's own, which no kubelet of the node uses; its units are no units of the system.
    if (/\/user@\d+\.service(?:\/|$)/m.test(cgroup)) continue;
    const unit = unitIn(cgroup);
    const environment = Object.fromEntries(
      listOf(`${folder}/environ`).map((entry) => {
        const equals = entry.indexOf("=");
        return [entry.slice(0, equals), entry.slice(equals + 1)];
      }),
    );
    const daemon = { ...process, unit, environment };
    if (wanted.isOne(daemon)) found.set(pid, daemon);
  }
  const isOwn = ([pid]: readonly [string, Daemon]) => !hasAbove(proc, pid, found);
  return [...found].filter(isOwn).map(([pid, daemon]) => {
    const startedOne = [...found].find(([other]) => above(proc, other).includes(pid))?.[1].argv;
    return startedOne === undefined ? daemon : { ...daemon, startedOne };
  });
}

/** Whether another of these has started it, or Docker: k3s and dockerd run a containerd of their own. */
function hasAbove(proc: string, pid: string, found: ReadonlyMap<string, Daemon>): boolean {
  return above(proc, pid).some(
    (each) => found.has(each) || textOf(`${proc}/${each}/comm`).trim() === "dockerd",
  );
}

/** Who has started it, and who has started that, up to the first process. */
function above(proc: string, pid: string): string[] {
  const parent = parentOf(proc, pid);
  return parent === undefined ? [] : [parent, ...above(proc, parent)];
}

/** A program's name may hold anything, parentheses too (proc_pid_stat(5)). */
function parentOf(proc: string, pid: string): string | undefined {
  const stat = textOf(`${proc}/${pid}/stat`);
  const parent = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
  return parent === undefined || parent === "0" ? undefined : parent;
}

/** The innermost service that a control group belongs to: `0::/system.slice/k3s.service` (proc_pid_cgroup(5)). */
export function unitIn(cgroup: string): string | undefined {
  for (const line of cgroup.split("\n")) {
    const [, controllers = "", ...path] = line.split(":");
    if (controllers !== "" && controllers !== "name=systemd") continue;
    const unit = path
      .join(":")
      .split("/")
      .findLast((part) => part.endsWith(".service"));
    if (unit !== undefined) return unit;
  }
  return undefined;
}

/** What only one folder has: its file system and its number there. */
function placeOf(folder: string): string | undefined {
  try {
    const { dev, ino } = statSync(folder, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

function ownerOf(folder: string): number | undefined {
  try {
    return statSync(folder).uid;
  } catch {
    return undefined;
  }
}

function listOf(path: string): string[] {
  return textOf(path)
    .split("\0")
    .filter((entry, at, all) => entry !== "" || at < all.length - 1);
}

/** A process may end while it is looked at. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
