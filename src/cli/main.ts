import { ExitCode } from "../error.ts";
import type { Io } from "./io.ts";
import { flushLogs, openLog } from "./log.ts";
import { helpText, isCommand, type Parsed, parseArguments, unknownVariables, wantsJson } from "./options.ts";
import { asShimctlError, errorDocument, errorText, exitOf } from "./output.ts";

/**
 * The whole command line: arguments in, exit code out. It never ends the process, so it runs inside a test.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  let parsed: Parsed | undefined;
  try {
    parsed = parseArguments(argv, io.env);
    return await dispatch(parsed, io);
  } catch (thrown) {
    const error = asShimctlError(thrown, parsed?.options.root);
    if (parsed?.options.json ?? wantsJson(argv, io.env)) {
      io.out(errorDocument(parsed?.command ?? null, error));
    } else io.err(errorText(error));
    if (
      exitOf(error) === ExitCode.internal &&
      error.cause instanceof Error &&
      parsed?.options.logLevel === "debug"
    )
      io.err(`${error.cause.stack ?? ""}\n`);
    return exitOf(error);
  } finally {
    await flushLogs();
  }
}

async function dispatch(parsed: Parsed, io: Io): Promise<number> {
  const { command } = parsed;
  if (parsed.help) {
    const topic = parsed.args[0];
    io.out(
      helpText(topic !== undefined && isCommand(topic) ? topic : command === "version" ? undefined : command),
    );
    return ExitCode.done;
  }
  const log = openLog(io, parsed.options.logLevel);
  for (const name of unknownVariables(io.env)) log.warn(`${name} is no variable of shimctl and was ignored`);
  // Each command is loaded only when it runs: start-up time is what users pay most often.
  switch (command) {
    case "install":
    case "uninstall":
    case "apply":
      return (await import("./change.ts")).change(io, log, parsed, command);
    case "watch":
      return (await import("./watch.ts")).watch(io, log, parsed);
    case "diff":
      return (await import("./diff.ts")).diff(io, log, parsed);
    case "status":
      return (await import("./status.ts")).status(io, parsed);
    case "check":
      return (await import("./check.ts")).check(io, parsed);
    case "log":
      return (await import("./show_log.ts")).showLog(io, parsed);
    case "rollback":
      return (await import("./rollback.ts")).rollback(io, log, parsed);
    case "hold":
    case "release":
      return (await import("./hold.ts")).hold(io, log, parsed, command);
    case "repair":
      return (await import("./repair.ts")).repair(io, log, parsed);
    case "presets":
      return (await import("./presets.ts")).presets(io, parsed);
    case "render":
      return (await import("./render.ts")).render(io, log, parsed);
    case "lock":
      return (await import("./lock.ts")).lock(io, log, parsed);
    case "completion":
      return (await import("./completion.ts")).completion(io, parsed);
    case "man":
      return (await import("./man.ts")).man(io, parsed);
    case "version":
      return (await import("./version.ts")).version(io, parsed);
  }
}
