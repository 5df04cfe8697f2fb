import type { Io } from "./io.ts";

export interface Log {
  warn(message: string): void;
  info(message: string): void;
  debug(message: string): void;
}

const levels: Readonly<Record<string, number>> = { silent: -999, error: 0, warn: 1, info: 3, debug: 4 };

/**
 * Logs go to stderr. consola is loaded with the first line that is logged, and its core only: its ready-made
 * instances touch `process.stdout`, which costs 10 ms at start-up.
 */
export function openLog(io: Io, level: string): Log {
  const lowest = levels[level] ?? 3;
  let pending: Promise<void> = Promise.resolve();
  const write = (type: "warn" | "info" | "debug", message: string) => {
    if ((levels[type] ?? 3) > lowest) return;
    pending = pending.then(async () => {
      const { createConsola } = await import("consola/core");
      const log = createConsola({
        level: lowest,
        throttle: 0,
        reporters: [
          {
            log: (entry) =>
              io.err(`${entry.type === "info" ? "" : `${entry.type}: `}${entry.args.join(" ")}\n`),
          },
        ],
      });
      log[type](message);
    });
  };
  flushes.push(() => pending);
  return {
    warn: (message) => write("warn", message),
    info: (message) => write("info", message),
    debug: (message) => write("debug", message),
  };
}

const flushes: (() => Promise<void>)[] = [];

/** Waits until everything that was logged is written. */
export async function flushLogs(): Promise<void> {
  for (const flush of flushes.splice(0)) await flush();
}
