import { fstatSync, writeSync } from "node:fs";
import process from "node:process";
import { main } from "./cli/main.ts";
import { ExitCode } from "./error.ts";
import { reasonOf } from "./host/root.ts";

/** Why the system would not take what was written, where it is not the reader who left. */
function writeAll(fd: number, text: string): string | undefined {
  const bytes = Buffer.from(text);
  // A pipe may take a part only, and may be full for a moment.
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "EPIPE") return undefined;
      if (code !== "EAGAIN") return reasonOf(error);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
  return undefined;
}

/** Only a device can be one: to load `node:tty` takes as long as all the rest of `shimctl version`. */
function isTerminal(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice() && process.getBuiltinModule("node:tty").isatty(fd);
  } catch {
    return false;
  }
}

let unprinted: string | undefined;

const stop = new AbortController();
const signals = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
for (const name of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.on(name, () => stop.abort(name));

const code = await main(process.argv.slice(2), {
  out: (text) => {
    unprinted ??= writeAll(1, text);
  },
  err: (text) => {
    writeAll(2, text);
  },
  env: process.env,
  get outIsTerminal() {
    return isTerminal(1);
  },
  get errIsTerminal() {
    return isTerminal(2);
  },
  signal: stop.signal,
  now: () => new Date(),
});

// What a shell and a kubelet expect of a program that a signal ended before it was done.
const ended = Object.entries(signals).find(([name]) => name === stop.signal.reason);
process.exitCode = code === ExitCode.internal && ended !== undefined ? 128 + ended[1] : code;

if (unprinted !== undefined) {
  const done = code === ExitCode.done ? "the command was carried out, but its" : "the command's";
  writeAll(2, `shimctl: ${done} result could not be printed: ${unprinted}\n`);
  if (code === ExitCode.done) process.exitCode = ExitCode.internal;
}
