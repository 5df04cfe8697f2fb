import { spawn } from "node:child_process";
import process from "node:process";
import { ShimctlError } from "../error.ts";

/** What a child process inherits besides its standard streams. */
export interface Inheritance {
  /** Descriptors, which become 3, 4 … in the child. */
  readonly fds: readonly number[];
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Runs a command on our own standard streams and returns its exit code, 128 + the signal's number when a
 * signal ended it. A stop signal for us is passed on, and we wait for the command all the same.
 */
export function runInheriting(
  command: string,
  args: readonly string[],
  inherited: Inheritance,
  stop: AbortSignal,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ["inherit", "inherit", "inherit", ...inherited.fds],
      env: { ...process.env, ...inherited.env },
    });
    const pass = () => child.kill("SIGTERM");
    stop.addEventListener("abort", pass, { once: true });
    child.on("error", (cause) => {
      const missing = "code" in cause && cause.code === "ENOENT";
      reject(
        new ShimctlError(
          "usage",
          missing
            ? `Cannot run this command, as there is no such program: ${command}`
            : `Cannot run this command: ${command}`,
          { cause },
        ),
      );
    });
    child.on("exit", (code, signal) => {
      stop.removeEventListener("abort", pass);
      resolve(code ?? 128 + (signalNumbers[signal ?? ""] ?? 0));
    });
  });
}

const signalNumbers: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};
