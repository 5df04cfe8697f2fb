import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { BootRoot } from "../../build/boot.ts";
import { compiled } from "../support/binary.ts";
import { type Launched, launch } from "./launch.ts";
import { runtimeBinds } from "./runtimes.ts";

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Boot {
  /** Paths of this machine, read-only at a path of the node. */
  readonly binds?: readonly (readonly [from: string, to: string])[];
  /** For the node's systemd, as on a kernel command line. */
  readonly commandLine?: readonly string[];
  readonly unit?: string;
}

/**
 * A node that was really booted: systemd as its first process, the engine as its unit, in namespaces of its own.
 * What happens on it happens in memory, over a root file system that stays as it is.
 */
export class BootedNode {
  readonly unit: string;
  /** Where the engine's CRI is, as the node sees it. */
  readonly socket: string;
  private readonly launched: Launched;
  private readonly folder: string;
  private leader = 0;

  private constructor(root: BootRoot, boot: Boot) {
    this.unit = boot.unit ?? `${root.engine}.service`;
    this.socket = root.engine === "crio" ? "/run/crio/crio.sock" : "/run/containerd/containerd.sock";
    this.folder = mkdtempSync(`${tmpdir()}/shimctl-boot-`);
    const binds = [
      [compiled(), "/usr/local/bin/shimctl"] as const,
      ...runtimeBinds(root),
      ...(boot.binds ?? []),
    ];
    const options = [
      "--quiet",
      // Overlays do not stack on overlays: what containers are made of stands beside.
      "--tmpfs=/var/lib/containerd:mode=0755",
      "--tmpfs=/var/lib/containers:mode=0755",
      `--machine=${this.folder.slice(this.folder.lastIndexOf("/") + 1)}`,
      "--boot",
      "--register=no",
      "--keep-unit",
      "--capability=all",
      "--system-call-filter=@keyring bpf",
      "--console=pipe",
      "--kill-signal=SIGRTMIN+3",
      ...binds.map(([from, to]) => `--bind-ro=${from}:${to}`),
      ...(boot.commandLine ?? []),
    ];
    // Newer systemds start under version 2 of control groups only, which this machine may not be on.
    const unified = root.suite === "bookworm" ? "0" : "1";
    this.launched = launch(root.root, this.folder, options, {
      SYSTEMD_NSPAWN_API_VFS_WRITABLE: "1",
      SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: unified,
    });
  }

  /** Throws when the engine does not run within a minute. */
  static async start(root: BootRoot, boot: Boot = {}): Promise<BootedNode> {
    const node = new BootedNode(root, boot);
    for (let tries = 0; tries < 600; tries++) {
      await sleep(100);
      if (node.leader === 0) node.leader = node.launched.leader();
      if (node.leader === 0 || node.unitState()["ActiveState"] !== "active") continue;
      node.openCgroups();
      return node;
    }
    const said = node.leader === 0 ? "" : node.run(["journalctl", "-b", "--no-pager", "-n", "30"]).out;
    await node.stop();
    throw new Error(`no booted ${root.suite}: ${said}`);
  }

  /** In version 1 systemd-nspawn leaves the controllers read-only, though they are the node's own. */
  private openCgroups(): void {
    const script = `awk '$3 == "cgroup" { print $2 }' /proc/mounts | xargs -r -n 1 mount -o remount,bind,rw`;
    const { code, err } = this.run(["sh", "-c", script]);
    if (code !== 0) throw new Error(`the control groups stay read-only: ${err}`);
  }

  run(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const ran = spawnSync("nsenter", [...this.inside(), ...variables, ...argv], {
      encoding: "utf8",
      timeout: 400_000,
      maxBuffer: 64 << 20,
    });
    return { code: ran.status, out: ran.stdout, err: ran.stderr };
  }

  /** The same without waiting for it. */
  spawn(
    argv: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): ChildProcess & { ended: Promise<Ran> } {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const child = spawn("nsenter", [...this.inside(), ...variables, ...argv], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    const ended = new Promise<Ran>((resolve) => child.on("close", (code) => resolve({ code, out, err })));
    return Object.assign(child, { ended });
  }

  private inside(): string[] {
    const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    return ["-t", String(this.leader), "-m", "-p", "-n", "-u", "-i", "--", "env", "-i", path];
  }

  shimctl(...args: string[]): Ran {
    return this.run(["/usr/local/bin/shimctl", ...args]);
  }

  json(...args: string[]): Record<string, unknown> & { code: number | null } {
    const { code, out, err } = this.shimctl(...args, "--json");
    if (out === "") throw new Error(`no document: ${code} ${err}`);
    return { ...(JSON.parse(out) as Record<string, unknown>), code };
  }

  unitState(): Record<string, string> {
    const { out } = this.run([
      "systemctl",
      "show",
      this.unit,
      "-p",
      "ActiveState,SubState,InvocationID,Result",
    ]);
    return Object.fromEntries(out.split("\n").map((line) => line.split("=", 2) as [string, string]));
  }

  /** How often the engine was started since the node was booted. */
  starts(): number {
    const { out } = this.run(["journalctl", "-b", "-u", this.unit, "-o", "cat", "--no-pager"]);
    return out.split("\n").filter((line) => line.startsWith(`Starting ${this.unit}`)).length;
  }

  place(path: string, text: string, mode = "644"): void {
    const script = `mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1" && chmod "$3" "$1"`;
    const ran = this.run(["sh", "-c", script, "sh", path, text, mode]);
    if (ran.code !== 0) throw new Error(`cannot place ${path}: ${ran.err}`);
  }

  placeBytes(path: string, bytes: Uint8Array): void {
    const ran = spawnSync("nsenter", [...this.inside(), "sh", "-c", 'cat >"$0"', path], { input: bytes });
    if (ran.status !== 0) throw new Error(`cannot place ${path}: ${ran.stderr}`);
  }

  text(path: string): string {
    return this.run(["cat", path]).out;
  }

  /** Every file, link and folder of the engines' configuration, with bytes, mode and owner. */
  tree(): string {
    const script =
      'find /etc/containerd /etc/crio -printf "%p %y %m %U:%G %l\\n" 2>/dev/null | sort; find /etc/containerd /etc/crio -type f -exec sha256sum {} + 2>/dev/null | sort';
    return this.run(["sh", "-c", script]).out;
  }

  /** The node as another mount namespace reaches it: for those who mount parts of it, as a pod does. */
  get outside(): string {
    return `/proc/${this.leader}/root`;
  }

  /** What is on disk stays, except what the engine keeps of images and containers; everything else begins anew. */
  async reboot(): Promise<void> {
    const before = this.leader;
    // SIGRTMIN+5 is `systemctl reboot` (systemd(1)).
    this.run(["sh", "-c", "kill -39 1"]);
    for (let tries = 0; tries < 600; tries++) {
      await sleep(100);
      const leader = this.launched.leader();
      if (leader === 0 || leader === before) continue;
      this.leader = leader;
      if (this.unitState()["ActiveState"] !== "active") continue;
      this.openCgroups();
      return;
    }
    throw new Error("the node did not come back");
  }

  /** Kills all that runs on it. Harmless when repeated. */
  async stop(): Promise<void> {
    await this.launched.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
