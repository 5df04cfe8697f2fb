import { fstatSync, readFileSync, readSync, statSync, writeSync } from "node:fs";
import process from "node:process";

/** Who holds the node's lock, and at what. */
export interface LockHolder {
  /** For people: "shimctl on node-1 (pid 7), install for owner default, step commit, for 12 s". */
  readonly text: string;
  /** In our own process namespace; `undefined` when it cannot be known. */
  readonly pid: number | undefined;
  /** Whether it is a shimctl, by its line in the lock file. */
  readonly shimctl: boolean;
}

/** What a holder writes into the lock file: one JSON line, padded with spaces to a fixed length. */
export interface HolderLine {
  readonly host: string;
  readonly pid: number;
  /** Inode of its process namespace: a pid means nothing in another one. */
  readonly pidns: string;
  readonly boot: string;
  readonly owner: string;
  readonly command: string;
  /** ISO 8601. */
  readonly start: string;
  readonly step: string;
}

/** One pwrite of one fixed length, so that a reader never sees a part of an older line after it. */
const lineLength = 512;

export function describeSelf(owner: string, command: string): HolderLine {
  const { env } = process;
  return {
    host: env["POD_NAME"] || env["HOSTNAME"] || hostName(),
    pid: process.pid,
    pidns: processNamespace(),
    boot: bootId(),
    owner,
    command,
    start: new Date().toISOString(),
    step: "start",
  };
}

/** `undefined` clears the line. It is for those who wait: that it cannot be written is no reason to stop. */
export function writeHolder(fd: number, line: HolderLine | undefined): void {
  try {
    writeSync(fd, render(line), 0, lineLength, 0);
  } catch {
    // A full /run, say. The lock itself needs no byte.
  }
}

/** The line of the one who wrote last: not a holder, unless the lock is known to be held by a shimctl. */
export function readHolder(fd: number): HolderLine | undefined {
  const bytes = new Uint8Array(lineLength);
  const length = readSync(fd, bytes, 0, lineLength, 0);
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(0, length)));
    return isHolderLine(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function describeHolder(line: HolderLine | undefined): LockHolder {
  if (line === undefined) return { text: "a shimctl that has just begun", pid: undefined, shimctl: true };
  // Where /proc cannot be read, as under Deno without all permissions, nobody can tell what became of a process.
  const known = line.pidns !== "" && line.boot !== "";
  const here = known && line.pidns === processNamespace() && line.boot === bootId();
  const ended = here && !isAlive(line.pid);
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(line.start)) / 1000));
  const who = ended
    ? `a command that shimctl on ${line.host} (pid ${line.pid}, which has ended) started`
    : `shimctl on ${line.host} (pid ${line.pid})`;
  return {
    text: `${who}, ${line.command} for owner ${line.owner}, step ${line.step}, for ${seconds} s${here && !ended ? stoppedMark(line.pid) : ""}`,
    pid: here && !ended ? line.pid : undefined,
    shimctl: true,
  };
}

/** Another program that has locked a file, from /proc/locks (proc(5)). @param file host path, for the text */
export function describeOther(fd: number, file: string): LockHolder {
  const pid = lockingProcess(readLocks(), fstatSync(fd, { bigint: true }));
  return {
    text:
      pid === undefined
        ? `another program, which holds ${file}`
        : `another program (pid ${pid}${nameOf(pid)}), which holds ${file}${stoppedMark(pid)}`,
    pid,
    shimctl: false,
  };
}

/**
 * Who has a lock on a file. A waiting one ("->") is no holder; an OFD lock has no process (-1), and a holder
 * in a process namespace that is not ours shows as 0.
 */
export function lockingProcess(locks: string, file: { dev: bigint; ino: bigint }): number | undefined {
  const major = ((file.dev >> 8n) & 0xfffn) | ((file.dev >> 32n) & ~0xfffn);
  const minor = (file.dev & 0xffn) | ((file.dev >> 12n) & ~0xffn);
  const hex = (value: bigint) => value.toString(16).padStart(2, "0");
  const wanted = `${hex(major)}:${hex(minor)}:${file.ino}`;
  for (const line of locks.split("\n")) {
    const [, kind, , , pid, place] = line.split(/\s+/);
    if (place !== wanted || pid === undefined) continue;
    if (kind !== "FLOCK" && kind !== "OFDLCK" && kind !== "POSIX") continue;
    const number = Number(pid);
    if (number > 0 && number !== process.pid) return number;
  }
  return undefined;
}

function render(line: HolderLine | undefined): Uint8Array {
  const bytes = new Uint8Array(lineLength).fill(0x20);
  bytes[lineLength - 1] = 0x0a;
  if (line === undefined) return bytes;
  const encoder = new TextEncoder();
  for (const length of [160, 60, 20, 4]) {
    const short = (text: string) => text.slice(0, length);
    const fitting = {
      ...line,
      host: short(line.host),
      owner: short(line.owner),
      command: short(line.command),
      step: short(line.step),
    };
    const json = encoder.encode(JSON.stringify(fitting));
    if (json.length >= lineLength) continue;
    bytes.set(json);
    break;
  }
  return bytes;
}

function isHolderLine(value: unknown): value is HolderLine {
  if (typeof value !== "object" || value === null) return false;
  const fields = value as Readonly<Record<string, unknown>>;
  const texts = ["host", "pidns", "boot", "owner", "command", "start", "step"];
  return typeof fields["pid"] === "number" && texts.every((name) => typeof fields[name] === "string");
}

export function hostName(): string {
  return readText("/proc/sys/kernel/hostname").trim() || process.getBuiltinModule("node:os").hostname();
}

function processNamespace(): string {
  try {
    return statSync("/proc/self/ns/pid", { bigint: true }).ino.toString();
  } catch {
    return "";
  }
}

function bootId(): string {
  return readText("/proc/sys/kernel/random/boot_id").trim();
}

function readLocks(): string {
  return readText("/proc/locks");
}

function nameOf(pid: number): string {
  const name = readText(`/proc/${pid}/comm`).trim();
  return name === "" ? "" : `, ${name}`;
}

/** One that SIGSTOP or a debugger stopped keeps the lock and does nothing (proc_pid_stat(5), field 3). */
function stoppedMark(pid: number): string {
  return /\) [Tt] [^)]*$/.test(readText(`/proc/${pid}/stat`)) ? " (stopped)" : "";
}

function isAlive(pid: number): boolean {
  return readText(`/proc/${pid}/stat`) !== "";
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
