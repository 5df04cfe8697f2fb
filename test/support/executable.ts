import { expect } from "bun:test";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import process from "node:process";
import { compiled } from "./binary.ts";
import type { Node } from "./node.ts";

export interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly cwd?: string;
}

/** What would wait for ever is ended; a machine that is busy, and a runtime that is slow to start, get their time. */
const timeoutMs = 60_000;

/** Runs the executable, which must end by itself. */
export function run(node: Node, args: readonly string[], setting: Setting = {}): SpawnSyncReturns<string> {
  const ran = spawnSync(compiled(), args, {
    env: { ...process.env, ...node.env, ...setting.env },
    encoding: "utf8",
    timeout: timeoutMs,
    killSignal: "SIGKILL",
    ...(setting.input === undefined ? {} : { input: setting.input }),
    ...(setting.cwd === undefined ? {} : { cwd: setting.cwd }),
  });
  expect(ran.signal).toBeNull();
  return ran;
}

/** Runs a shell line in which `$SHIMCTL` is the executable. */
export function shell(node: Node, line: string): SpawnSyncReturns<string> {
  return spawnSync("sh", ["-c", line], {
    env: { ...process.env, SHIMCTL: compiled(), ...node.env },
    encoding: "utf8",
    timeout: timeoutMs,
  });
}

export function fifo(path: string): void {
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
}
