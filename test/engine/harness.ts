import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, type TomlTable, type TomlValue } from "smol-toml";
import type { Engine } from "../../build/engines.ts";

/**
 * Real engines as judges. An engine runs in a jail: private mount and PID namespaces (a daemon also gets its
 * own network), this machine's programs read-only, the sandbox's top-level folders in their places. So an
 * absolute import leads into the sandbox, and nothing of this machine or of the sandbox is ever written.
 */

export interface Output {
  readonly rc: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Plugin {
  readonly type: string;
  readonly id: string;
  readonly status: string;
}

export interface Daemon {
  /** The process id on this machine; the namespaces live exactly as long as it does. */
  readonly pid: number;
  /** The gRPC socket as this machine reaches it, through /proc. */
  readonly socket: string;
  /** Runs `ctr` in the jail, connected to this daemon. */
  ctr(...args: string[]): Output;
  /** What `ctr plugins ls` reports. */
  plugins(): Plugin[];
  /** Whether the kubelet would be served: every plugin that makes up CRI in this version is "ok". */
  criLoaded(): boolean;
  /** Everything the daemon has said so far; still there after `stop`. */
  log(): string;
  /** Kills it with all that it started, and waits until they are gone. Harmless when repeated. */
  stop(): Promise<void>;
}

export const defaultConfigPath = "/etc/containerd/config.toml";

/**
 * What `containerd --config <configPath> config dump` says on a node whose root is `root`. The sandbox is
 * mounted read-only.
 * On 1.x a file that does not exist is rc 1, though the daemon would start without it.
 */
export function dump(engine: Engine, root: string, configPath = defaultConfigPath): Output {
  return runInJail(
    programsOf(engine),
    root,
    `/engine/bin/containerd --config ${quote(configPath)} config dump`,
  );
}

/** What a jail has besides this machine's programs and the sandbox. */
export interface Programs {
  /** The folder of the engine's own programs: `/engine/bin` in the jail, and first in PATH. */
  readonly bin: string;
  /** The folder of its runc, where that is another one. */
  readonly runc?: string;
  /** A tree (`usr/…`) to lay over the machine's. */
  readonly libraries?: string;
}

function programsOf(engine: Engine): Programs {
  const bin = dirname(engine.containerd);
  return {
    bin,
    ...(engine.runc === undefined || dirname(engine.runc) === bin ? {} : { runc: dirname(engine.runc) }),
    ...(engine.libraries === undefined ? {} : { libraries: engine.libraries }),
  };
}

/**
 * Runs a line of shell in a jail of its own, in which nothing can be written. It has a /proc only on request,
 * as some machines do not let a user namespace mount one.
 */
export function runInJail(
  programs: Programs,
  root: string,
  command: string,
  options: { readonly proc?: boolean } = {},
): Output {
  return onMountPoint((jail) => {
    const proc = quote(join(jail, "proc"));
    const script = [
      ...buildJail(programs, root, jail, "read-only"),
      ...(options.proc === true ? [`mkdir ${proc}`, `mount -t proc -o ro proc ${proc}`] : []),
      `exec chroot ${quote(jail)} ${command}`,
    ];
    return run(["unshare", ...unshareFlags(), "--kill-child", "sh", "-euc", script.join("\n")], 20_000);
  });
}

/**
 * The meaning of a dump: two configurations are the same to the engine when these are equal. Without
 * `imports` (1.x lists the files it read, 2.x the patterns), and with the lists that are unions over all
 * files in one order, as theirs depends only on which file was loaded first.
 */
export function normalise(dumpToml: string): TomlTable {
  const { imports: _, ...rest } = parse(dumpToml, { integersAsBigInt: true });
  for (const key of ["disabled_plugins", "required_plugins"]) {
    const list = rest[key];
    if (Array.isArray(list)) rest[key] = [...new Set(list.map(String))].sort();
  }
  return rest;
}

/** The handlers that the engine would serve, from its dump, by the plugin that its version looks at. */
export function handlersOf(dumpToml: string, engineVersion: string): Record<string, TomlTable> {
  const id = engineVersion.startsWith("1.") ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
  const dumped = parse(dumpToml, { integersAsBigInt: true });
  const handlers: Record<string, TomlTable> = {};
  const runtimes = at(dumped, "plugins", id, "containerd", "runtimes");
  if (!isTable(runtimes)) return handlers;
  for (const [name, handler] of Object.entries(runtimes)) if (isTable(handler)) handlers[name] = handler;
  return handlers;
}

/** A file of the shared corpus, or of the fixtures where the corpus is not at hand. */
export function corpusFile(name: string): Uint8Array {
  return readFileSync(join(existsSync(join(corpus, name)) ? corpus : fixtures, name));
}

const repo = join(import.meta.dirname, "..", "..");
const fixtures = join(repo, "test", "fixtures");

/** Where the shared corpus is when this repository has it beside itself. */
export const corpus = join(repo, "..", "shared", "corpus");

/**
 * Creates an empty file for every literal import that leads nowhere, as engines refuse those; returns the
 * paths as the node sees them. A configuration that does not parse has none.
 */
export function placeMissingImports(
  root: string,
  toml: string | Uint8Array,
  configPath = defaultConfigPath,
): string[] {
  const imports = importsIn(typeof toml === "string" ? toml : new TextDecoder().decode(toml));
  const placed: string[] = [];
  for (const text of imports.filter((each) => !each.includes("*"))) {
    const path = posix.resolve("/", dirname(configPath), text);
    if (existsSync(join(root, path))) continue;
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), "");
    placed.push(path);
  }
  return placed;
}

function importsIn(toml: string): string[] {
  try {
    const { imports } = parse(toml, { integersAsBigInt: true });
    return Array.isArray(imports) ? imports.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}

/** Why engines cannot be run here, or undefined: they need Linux and the right to make namespaces. */
export function jailProblem(): string | undefined {
  try {
    unshareFlags();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Why a daemon cannot be run here, or undefined: it needs root, for its storage and cgroups. */
export function daemonProblem(): string | undefined {
  const problem = jailProblem();
  if (problem !== undefined) return problem;
  return unshareFlags().includes("--map-root-user") ? "a daemon needs root" : undefined;
}

/**
 * A real containerd on the node whose root is `root`, started as its unit would: the default path only
 * counts where a file is. What it writes, anywhere, is in memory and vanishes with it; a change that a test
 * makes in the sandbox counts for the next start.
 * Throws with the daemon's last words when it gives up, or does not answer within 20 s.
 */
export async function startDaemon(
  engine: Engine,
  root: string,
  configPath = defaultConfigPath,
): Promise<Daemon> {
  const { dataFolder, address } = whereItLives(engine, root, configPath);
  const explicit = configPath === defaultConfigPath ? "" : `--config ${quote(configPath)}`;
  const ctrIn = (jailed: Jailed, ...args: string[]): Output =>
    jailed.run("/engine/bin/ctr", "--address", address, ...args);
  const jailed = await startInJail(programsOf(engine), root, {
    name: "containerd",
    version: engine.version,
    inside: [
      // The data folder may be reached by an absolute symbolic link, so it is made inside the jail only.
      `mkdir -p ${quote(dataFolder)}`,
      `mount -t tmpfs tmpfs ${quote(dataFolder)}`,
      `exec env -i PATH=${jailPath} HOME=/root /engine/bin/containerd ${explicit}`,
    ],
    isUp: (it) => existsSync(it.reach(address)) && ctrIn(it, "version").rc === 0,
  });
  const plugins = (): Plugin[] => {
    const { rc, stdout, stderr } = ctrIn(jailed, "plugins", "ls");
    if (rc !== 0) throw new Error(`ctr plugins ls ended with ${rc}: ${stderr.trim()}`);
    return stdout.split("\n").slice(1).flatMap(readPlugin);
  };
  return {
    pid: jailed.pid,
    socket: jailed.reach(address),
    ctr: (...args) => ctrIn(jailed, ...args),
    plugins,
    criLoaded: () => criIsLoaded(plugins(), engine.version),
    log: jailed.log,
    stop: jailed.stop,
  };
}

/** A daemon in its jail, whichever it is. */
export interface Jailed {
  /** The process id on this machine, 0 before there is one; the namespaces live exactly as long as it does. */
  readonly pid: number;
  /** A path in the jail as this machine reaches it, through /proc. */
  reach(path: string): string;
  /** Runs a program in the jail. */
  run(...argv: string[]): Output;
  /** Everything the daemon has said so far; still there after `stop`. */
  log(): string;
  /** Kills it with all that it started, and waits until they are gone. Harmless when repeated. */
  stop(): Promise<void>;
}

/** How one kind of daemon starts: the last line of `inside` replaces the shell, and runs in the jail. */
export interface Start {
  readonly name: string;
  readonly version: string;
  readonly inside: readonly string[];
  isUp(jailed: Jailed): boolean;
}

/**
 * Starts a daemon on the node whose root is `root`. What it writes, anywhere, is in memory.
 * Throws with the daemon's last words when it gives up, or is not up within 20 s.
 */
export async function startInJail(programs: Programs, root: string, start: Start): Promise<Jailed> {
  const problem = daemonProblem();
  if (problem !== undefined) throw new Error(`cannot start ${start.name} ${start.version}: ${problem}`);
  const folder = mkdtempSync(join(tmpdir(), "shimctl-daemon-"));
  const jail = join(folder, "jail");
  const logPath = join(folder, "log");
  const pidPath = join(folder, "pid");
  mkdirSync(jail);

  const inside = [
    "ip link set lo up",
    // A node has a default route: CRI looks for one where stream_server_address is empty (minikube's file).
    "ip address add 192.0.2.1/24 dev lo",
    "ip route add default dev lo",
    ...start.inside,
  ];
  const script = [
    // /proc is still the machine's here, so this is the number that the machine knows this process by.
    "read -r pid _ </proc/self/stat",
    `echo "$pid" >${quote(pidPath)}`,
    ...buildJail(programs, root, jail, "scratch"),
    `mount -t proc proc ${quote(join(jail, "proc"))}`,
    `mount --rbind /dev ${quote(join(jail, "dev"))}`,
    `mount --rbind /sys ${quote(join(jail, "sys"))}`,
    // A daemon that made or removed a cgroup would do so on this machine.
    `while read -r _ at _; do case $at in ${quote(join(jail, "sys"))}*) mount -o remount,bind,ro "$at";; esac; done </proc/self/mounts`,
    `exec chroot ${quote(jail)} /bin/sh -euc ${quote(inside.join("\n"))}`,
  ];
  const log = openSync(logPath, "w");
  // The first link of the chain is what ends all of them when this very process is killed.
  const argv = [
    "--pdeathsig",
    "KILL",
    "unshare",
    ...unshareFlags(),
    "--net",
    "--kill-child",
    "sh",
    "-euc",
    script.join("\n"),
  ];
  const child = spawn("setpriv", argv, { stdio: ["ignore", log, log] });
  closeSync(log);
  let ended: string | undefined;
  const gone = new Promise<void>((done) => {
    const end = (how: string): void => {
      ended ??= how;
      done();
    };
    child.on("exit", (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`));
    child.on("error", (error) => end(error.message));
  });

  let lastLog = "";
  let stopped = false;
  let pid = 0;
  const readLog = (): string => (stopped ? lastLog : readFileSync(logPath, "utf8"));
  const readPid = (): number => {
    if (pid === 0 && existsSync(pidPath)) pid = Number(readFileSync(pidPath, "utf8"));
    return pid;
  };
  const stop = async (): Promise<void> => {
    killNow();
    await gone;
    if (stopped) return;
    lastLog = readLog();
    stopped = true;
    rmSync(folder, { recursive: true, force: true });
  };
  // The daemon is the first process of its PID namespace: the kernel ends the others with it, and
  // `unshare` returns only after that.
  const killNow = (): void => {
    if (ended !== undefined) return;
    try {
      if (readPid() > 0) process.kill(readPid(), "SIGKILL");
      else child.kill("SIGKILL");
    } catch {
      // It ended by itself a moment ago.
    }
  };
  const enter = (): string[] => [
    "nsenter",
    "--target",
    String(readPid()),
    "--mount",
    "--net",
    "--pid",
    "--root",
    "--wd",
  ];
  const jailed: Jailed = {
    get pid() {
      return readPid();
    },
    reach: (path) => `/proc/${readPid()}/root${path}`,
    run: (...argv) => {
      if (ended !== undefined) return { rc: 255, stdout: "", stderr: `${start.name} ended with ${ended}` };
      return run([...enter(), ...argv], 20_000);
    },
    log: readLog,
    stop,
  };

  const deadline = Date.now() + 20_000;
  while (readPid() === 0 || !start.isUp(jailed)) {
    const late = Date.now() > deadline;
    if (ended !== undefined || late) {
      const what = ended === undefined ? "did not answer within 20 s" : `gave up with ${ended}`;
      await stop();
      throw new Error(
        `${start.name} ${start.version} ${what}:\n${lastLog.trim().split("\n").slice(-20).join("\n")}`,
      );
    }
    await sleep(25);
  }
  return jailed;
}

function readPlugin(line: string): Plugin[] {
  const [type, id, , status] = line.trim().split(/\s+/);
  return type === undefined || id === undefined || status === undefined ? [] : [{ type, id, status }];
}

function criIsLoaded(plugins: readonly Plugin[], version: string): boolean {
  const ok = (type: string, id: string): boolean =>
    plugins.some((each) => each.type === type && each.id === id && each.status === "ok");
  if (!ok("io.containerd.grpc.v1", "cri")) return false;
  return (
    version.startsWith("1.") ||
    (ok("io.containerd.cri.v1", "runtime") && ok("io.containerd.cri.v1", "images"))
  );
}

/** Where the daemon keeps its data and answers: its own defaults where the configuration does not dump. */
function whereItLives(
  engine: Engine,
  root: string,
  configPath: string,
): { dataFolder: string; address: string } {
  const { rc, stdout } = dump(engine, root, configPath);
  const dumped = rc === 0 ? parse(stdout, { integersAsBigInt: true }) : {};
  const text = (fallback: string, ...path: string[]): string => {
    const value = at(dumped, ...path);
    return typeof value === "string" && value !== "" ? value : fallback;
  };
  // From 2.3 on the server is a plugin, and the top-level table is empty.
  const old = text("/run/containerd/containerd.sock", "grpc", "address");
  return {
    dataFolder: text("/var/lib/containerd", "root"),
    address: text(old, "plugins", "io.containerd.server.v1.grpc", "address"),
  };
}

/** PATH for whatever runs in a jail. */
export const jailPath =
  "/engine/bin:/engine/runc:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const machineFolders = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const kernelFolders = ["proc", "sys", "dev"];

/**
 * Shell lines that build the jail. "read-only" binds the sandbox's folders as they are; "scratch" lays
 * memory over them, as a daemon writes wherever its configuration says (and CRI makes /etc/cni).
 */
function buildJail(programs: Programs, root: string, jail: string, kind: "read-only" | "scratch"): string[] {
  const folders = new Set<string>(["engine/bin", "tmp"]);
  const links: string[] = [];
  const mounts: string[] = [];
  const bind = (from: string, to: string): void => {
    folders.add(to);
    // Without nosuid and nodev, a user namespace may not remount what was mounted with them.
    mounts.push(`mount -o rbind,ro,nosuid,nodev ${quote(from)} ${quote(join(jail, to))}`);
  };
  const link = (from: string, to: string): void => {
    links.push(`ln -s ${quote(readlinkSync(from))} ${quote(join(jail, to))}`);
  };
  const overlay = (to: string, lower: readonly string[], upper = ""): void => {
    folders.add(to);
    const lowers = lower.map((path) => path.replaceAll(/[\\:,]/g, "\\$&")).join(":");
    mounts.push(
      `mount -t overlay -o ${quote(`lowerdir=${lowers}${upper}`)} overlay ${quote(join(jail, to))}`,
    );
  };

  for (const name of machineFolders) {
    const kindOfMachine = kindOf(join("/", name));
    const layers = [join(programs.libraries ?? "", name), join("/", name), join(root, name)];
    if (programs.libraries === undefined) layers.shift();
    const present = layers.filter((path) => kindOf(path) === "folder");
    if (kindOfMachine === "link") link(join("/", name), name);
    else if (present.length > 1) overlay(name, present);
    else if (kindOfMachine === "folder") bind(join("/", name), name);
  }
  for (const name of existsSync(root) ? readdirSync(root) : []) {
    if (machineFolders.includes(name) || kernelFolders.includes(name)) continue;
    const from = join(root, name);
    if (kindOf(from) === "link") link(from, name);
    if (kindOf(from) !== "folder") continue;
    if (kind === "read-only") bind(from, name);
    else {
      for (const part of ["upper", "work"]) folders.add(`engine/scratch/${name}/${part}`);
      const scratch = join(jail, "engine", "scratch", name);
      overlay(name, [from], `,upperdir=${join(scratch, "upper")},workdir=${join(scratch, "work")}`);
    }
  }
  bind(programs.bin, "engine/bin");
  if (programs.runc !== undefined) bind(programs.runc, "engine/runc");
  if (kind === "scratch") for (const name of kernelFolders) folders.add(name);
  return [
    `mount -t tmpfs -o mode=755 tmpfs ${quote(jail)}`,
    `mkdir -p ${[...folders].map((name) => quote(join(jail, name))).join(" ")}`,
    ...links,
    ...mounts,
  ];
}

function kindOf(path: string): "folder" | "link" | undefined {
  const facts = lstatSync(path, { throwIfNoEntry: false });
  if (facts?.isSymbolicLink()) return "link";
  return facts?.isDirectory() ? "folder" : undefined;
}

let flags: readonly string[] | undefined;

/** Namespaces as root, or in a user namespace of our own where that is allowed. */
function unshareFlags(): readonly string[] {
  if (flags !== undefined) return flags;
  const wanted = ["--mount", "--pid", "--fork"];
  const tries = [wanted, ["--map-root-user", ...wanted]];
  let why = "";
  for (const each of process.geteuid?.() === 0 ? tries : tries.slice(1)) {
    const probe = (folder: string): Output =>
      run(["unshare", ...each, "--", "sh", "-c", `mount -t tmpfs tmpfs ${quote(folder)}`], 5_000);
    const { rc, stderr } = onMountPoint(probe);
    if (rc === 0) {
      flags = each;
      return each;
    }
    why = stderr.trim();
  }
  throw new Error(`namespaces cannot be made here: ${why}`);
}

/** Lends an empty folder to mount on. What is mounted there is seen in a private namespace only. */
function onMountPoint<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-jail-"));
  try {
    return use(folder);
  } finally {
    rmdirSync(folder);
  }
}

function run(argv: readonly string[], timeout: number): Output {
  const [command = "", ...args] = argv;
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    env: { PATH: process.env["PATH"], LC_ALL: "C.UTF-8" },
    encoding: "utf8",
    timeout,
    killSignal: "SIGKILL",
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "pipe"],
  });
  return {
    rc: status ?? 255,
    stdout: stdout ?? "",
    stderr: `${stderr ?? ""}${error === undefined ? "" : error.message}`,
  };
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The value at a path of keys, or undefined. */
export function at(table: TomlTable, ...path: string[]): TomlValue | undefined {
  let value: TomlValue | undefined = table;
  for (const key of path) {
    if (!isTable(value)) return undefined;
    value = value[key];
  }
  return value;
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
