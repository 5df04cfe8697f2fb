import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { type Cgroups, makeCgroups } from "./cgroups.ts";

/** A systemd-nspawn in namespaces and control groups of its own: it neither sees others nor is seen. */
export interface Launched {
  /** Its first process, systemd, as this machine numbers it; 0 before there is one, and after the end. */
  leader(): number;
  /** Kills all that runs in it, and waits until it is gone. Harmless when repeated. */
  stop(): Promise<void>;
}

/**
 * The node has a loopback only, with the default route that CRI looks for.
 *
 * @param root what its root file system is at first; it stays as it is, changes are in memory
 * @param folder an empty one, where only the node sees anything
 * @param options for systemd-nspawn
 */
export function launch(
  root: string,
  folder: string,
  options: readonly string[],
  env: Readonly<Record<string, string>>,
): Launched {
  const cgroups = makeCgroups();
  const lower = root.replaceAll(/[\\:,]/g, "\\$&");
  const script = [
    ...cgroups.doors.map((door) => `echo 0 >'${door}'`),
    "mount -t proc proc /proc",
    // systemd-nspawn keeps its locks there.
    "mkdir -p /run/systemd",
    "mount -t tmpfs tmpfs /run/systemd",
    "ip link set lo up",
    "ip address add 192.0.2.1/24 dev lo",
    "ip route add default dev lo",
    "root=$1 folder=$2",
    "shift 2",
    'mount -t tmpfs -o mode=755 tmpfs "$folder"',
    'mkdir "$folder/upper" "$folder/work" "$folder/root"',
    // systemd-nspawn's own overlay would hide the root itself, from which programs are bound.
    'mount -t overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"',
    // With 133 it asks to be started again, as the node wants to reboot.
    'while :; do systemd-nspawn --directory="$folder/root" "$@" && exit || [ $? = 133 ] || exit; done',
  ];
  // The first link of the chain is what ends all of them when this very process is killed.
  const argv = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"];
  const child = spawn(
    "setpriv",
    [...argv, "sh", "-euc", script.join("\n"), "sh", lower, folder, ...options],
    {
      stdio: "ignore",
      env: { ...process.env, ...env },
    },
  );
  return { leader: () => leaderOf(child), stop: () => stop(child, cgroups) };
}

/** `unshare` has the shell as its child, that has systemd-nspawn, and that has the node's systemd. */
function leaderOf(child: ChildProcess): number {
  const found = childOf(childOf(childOf(child.pid ?? 0)));
  const path = `/proc/${found}/status`;
  // systemd-nspawn forks twice; the second is the one whose own number is 1.
  return found > 0 && existsSync(path) && /^NSpid:(\t\d+){2}\t1$/m.test(readFileSync(path, "utf8"))
    ? found
    : 0;
}

function childOf(pid: number): number {
  const path = `/proc/${pid}/task/${pid}/children`;
  return pid > 0 && existsSync(path) ? Number(readFileSync(path, "utf8").split(" ")[0] ?? 0) : 0;
}

async function stop(child: ChildProcess, cgroups: Cgroups): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const gone = new Promise((done) => child.once("exit", done));
    const first = childOf(child.pid ?? 0);
    // The kernel ends a namespace with its first process, and `unshare` returns only after that.
    if (first > 0) process.kill(first, "SIGKILL");
    else child.kill("SIGKILL");
    await gone;
  }
  await cgroups.remove();
}
