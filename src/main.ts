import { writeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { main } from "./cli/main.ts";

/** Writes all of it: a pipe may take a part only, and may be full for a moment. */
function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "EPIPE") return;
      if (code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => stop.abort());

process.exitCode = await main(process.argv.slice(2), {
  out: (text) => writeAll(1, text),
  err: (text) => writeAll(2, text),
  env: process.env,
  outIsTerminal: isatty(1),
  errIsTerminal: isatty(2),
  signal: stop.signal,
  now: () => new Date(),
});
