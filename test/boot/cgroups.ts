import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Control groups of one node's own, below those of this process: one for each hierarchy of this machine. */
export interface Cgroups {
  /** What a process writes 0 into to be in them. */
  readonly doors: readonly string[];
  /** Removes them with all below, once their processes are gone. Harmless when repeated. */
  remove(): Promise<void>;
}

const prefix = "shimctl-boot-";

/**
 * systemd-nspawn makes the groups `payload` and `supervisor` where it stands. Two nodes that stood in one place
 * would take each other's units for their own, as both would be `payload/system.slice/containerd.service`.
 */
export function makeCgroups(): Cgroups {
  const parents = ownCgroups();
  for (const parent of parents) sweep(parent);
  const name = `${prefix}${process.pid}-${crypto.randomUUID().slice(0, 8)}`;
  const folders = parents.map((parent) => join(parent, name));
  for (const [index, folder] of folders.entries()) {
    mkdirSync(folder);
    // In version 1 a group has no processors and no memory, and so no processes, before it is given some.
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      const from = join(parents[index] ?? "", file);
      if (existsSync(join(folder, file)) && existsSync(from))
        writeFileSync(join(folder, file), readFileSync(from));
    }
    const inherits = join(folder, "cgroup.clone_children");
    if (existsSync(inherits)) writeFileSync(inherits, "1");
  }
  return {
    doors: folders.map((folder) => join(folder, "cgroup.procs")),
    async remove() {
      // A group is busy until the kernel has buried the last of its dead.
      for (let tries = 0; tries < 100; tries++) {
        if (folders.map(removeTree).every((gone) => gone)) return;
        await sleep(50);
      }
    },
  };
}

/** Where this process stands in every hierarchy (cgroups(7)), as folders. */
function ownCgroups(): string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "));
  return readFileSync("/proc/self/cgroup", "utf8")
    .split("\n")
    .flatMap((line) => {
      const [, id, controllers, path] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
      if (controllers === undefined || path === undefined) return [];
      const mount = mounts.find(([, , type, options]) =>
        id === "0"
          ? type === "cgroup2"
          : type === "cgroup" && controllers.split(",").every((each) => options?.split(",").includes(each)),
      );
      return mount?.[1] === undefined ? [] : [join(mount[1], path)];
    });
}

/** What test runs that were killed have left. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = name.startsWith(prefix) ? /^\d+/.exec(name.slice(prefix.length))?.[0] : undefined;
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeTree(join(parent, name));
  }
}

function removeTree(folder: string): boolean {
  if (!existsSync(folder)) return true;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(folder, entry.name));
    rmdirSync(folder);
    return true;
  } catch {
    return false;
  }
}
