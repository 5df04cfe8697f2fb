import { type ChildProcess, spawn } from "node:child_process";
import { ShimctlError } from "../error.ts";
import { environmentForCommands } from "./environment.ts";
import { reasonOf } from "./root.ts";
import { isErrno } from "./state.ts";

/** What a child process inherits besides its standard streams. */
export interface Inheritance {
  /** Descriptors, which become 3, 4 … in the child. */
  readonly fds: readonly number[];
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Runs a command on our own standard streams and returns its exit code, 128 + the signal's number when a
 * signal ended it. A stop signal for us is passed on as what it was, and we wait for the command all the same.
 * Throws ShimctlError `usage` when it cannot be started.
 *
 * @param stop its reason is the name of the signal
 */
export function runInheriting(
  command: string,
  args: readonly string[],
  inherited: Inheritance,
  stop: AbortSignal,
): Promise<number> {
  return new Promise((resolve, reject) => {
    let child: ChildProcess;
    try {
      child = spawn(command, args, {
        stdio: ["inherit", "inherit", "inherit", ...inherited.fds],
        env: { ...environmentForCommands(), ...inherited.env },
      });
    } catch (cause) {
      reject(cannotRun(command, cause));
      return;
    }
    const pass = () => child.kill(signalName(stop.reason));
    if (stop.aborted) pass();
    else stop.addEventListener("abort", pass, { once: true });
    child.on("error", (cause) => {
      stop.removeEventListener("abort", pass);
      reject(cannotRun(command, cause));
    });
    child.on("exit", (code, signal) => {
      stop.removeEventListener("abort", pass);
      resolve(code ?? 128 + (signalNumbers[signal ?? ""] ?? 0));
    });
  });
}

function cannotRun(command: string, cause: unknown): ShimctlError {
  const reason = isErrno(cause, "ENOENT") ? "there is no such program" : reasonOf(cause);
  return new ShimctlError("usage", `Cannot run this command, as ${reason}: ${command}`, { cause });
}

function signalName(reason: unknown): "SIGHUP" | "SIGINT" | "SIGTERM" {
  return reason === "SIGHUP" || reason === "SIGINT" ? reason : "SIGTERM";
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
