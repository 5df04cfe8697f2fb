import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cached, type Facts, factsOf, fill, type Missing, run, say } from "./cache.ts";
import { debianMirror } from "./debian.ts";

/** A Debian root file system with systemd and an engine as its unit, from which nodes are booted. */
export interface BootRoot {
  readonly suite: string;
  readonly engine: "containerd" | "crio";
  /** As the engine's `--version` says. */
  readonly version: string;
  readonly root: string;
}

const suites = ["bookworm", "trixie", "sid"] as const;
/** crun and gVisor as handlers that really run; conmon for a CRI-O. */
const packages = ["systemd", "systemd-sysv", "dbus", "containerd", "runc", "crun", "runsc", "conmon"];

/** Why nothing can be booted here, or undefined. */
export function bootProblem(): string | undefined {
  if (process.platform !== "linux" || process.geteuid?.() !== 0) return "booting a node needs root on Linux";
  const missing = ["debootstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv", "ip"].filter(
    (program) => spawnSync("which", [program]).status !== 0,
  );
  return missing.length > 0 ? `${missing.join(", ")} not installed` : undefined;
}

let brought: Promise<{ roots: BootRoot[]; missing: Missing[] }> | undefined;

/** The roots, oldest first; those that are not in the cache yet are made. Tries once per process. */
export function bringRoots(): Promise<{ roots: BootRoot[]; missing: Missing[] }> {
  brought ??= bringAll();
  return brought;
}

async function bringAll(): Promise<{ roots: BootRoot[]; missing: Missing[] }> {
  const roots: BootRoot[] = [];
  const missing: Missing[] = [];
  for (const suite of suites) {
    const name = `root-${suite}`;
    const problem = await fill(name, (folder) => withContainerd(suite, join(folder, "root")));
    if (problem !== undefined) missing.push(problem);
    const facts = await factsOf(name);
    if (facts === undefined) continue;
    roots.push({ suite, engine: "containerd", version: facts.version, root: cached(name, "root") });
  }
  return { roots, missing };
}

async function withContainerd(suite: string, into: string): Promise<Facts> {
  await debootstrap(suite, packages, into);
  const text = await run(["chroot", into, "containerd", "--version"]);
  const version = /\b(\d+\.\d+\.\d+)/.exec(text)?.[1] ?? "unknown";
  return { version, from: [`Debian ${suite}`, ...packages] };
}

/** A minimal Debian with these packages. */
export async function debootstrap(suite: string, packages: readonly string[], into: string): Promise<void> {
  say(suite, "making a root file system with debootstrap");
  const mirror = await debianMirror();
  await run(["debootstrap", "--variant=minbase", `--include=${packages.join(",")}`, suite, into, mirror]);
  // Without it no sandbox gets a hosts file, and none is started.
  if (!existsSync(join(into, "etc", "hosts")))
    await run(["sh", "-c", 'echo "127.0.0.1 localhost" >"$0"/etc/hosts', into]);
}
