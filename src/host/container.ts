import { readFileSync, statSync } from "node:fs";
import process from "node:process";
import { allMounts, type Mount } from "./mounts.ts";

/** What tells a container from a machine, as one process sees it. */
export interface Surroundings {
  /** Whether the environment is that of a pod: the kubelet sets KUBERNETES_SERVICE_HOST in every one. */
  readonly inPod: boolean;
  readonly mounts: readonly Mount[];
  /** Whether a service manager has booted here: sd_booted(3), and what OpenRC leaves. */
  readonly isBooted: boolean;
  /** What the first process is called; `undefined` where that is this very process. */
  readonly first: string | undefined;
  /** Whether it has the root that this process has; `undefined` for users who may not see that. */
  readonly sharesRoot: boolean | undefined;
  /** Whether the kernel's own threads are seen, as they are outside of PID namespaces only. */
  readonly seesKernel: boolean;
}

/**
 * Whether `/` is a container's, and its files those of an image.
 *
 * Something must say so: the environment of a pod, or an overlay as root. That alone is not enough, as a shell that a
 * pod opens on its host (nsenter) has the pod's environment, and live and read-only systems have an overlay as root.
 * So nothing may speak for a machine, and each of these does: a service manager that has booted here (systemd in kind's
 * nodes and in nspawn machines too); a first process with this root that is an init by its name (system containers
 * with any other init); or one with this root, whatever it is called, while the kernel's threads are seen. The last is
 * so on every machine and in no container, as those that see the node's processes (`hostPID`) have another root than
 * its first one.
 */
export function isContainer(around: Surroundings): boolean {
  const { inPod, isBooted, first, sharesRoot, seesKernel } = around;
  const root = around.mounts.findLast(({ point }) => point === "/");
  if (!inPod && root?.type !== "overlay") return false;
  if (isBooted || first === undefined) return !isBooted;
  // Who may not see it is no root in a pod, or a user on a machine.
  if (sharesRoot === undefined) return inPod || !seesKernel;
  return !(sharesRoot && (seesKernel || inits.has(first)));
}

const inits: ReadonlySet<string> = new Set(["systemd", "init", "openrc-init", "runit", "dinit", "procd"]);

/** Looks around. */
export function surroundings(inPod: boolean): Surroundings {
  const here = placeOf("/");
  const there = placeOf("/proc/1/root/");
  return {
    inPod,
    mounts: allMounts(),
    isBooted: ["/run/systemd/system", "/run/openrc/softlevel"].some((path) => placeOf(path) !== undefined),
    first: process.pid === 1 ? undefined : (nameOf(1) ?? ""),
    sharesRoot: there === undefined ? undefined : there === here,
    seesKernel: nameOf(2) === "kthreadd",
  };
}

function nameOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}

function placeOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
