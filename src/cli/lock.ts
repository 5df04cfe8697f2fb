import { ShimctlError } from "../error.ts";
import { acquireLock, inheritable } from "../host/lock.ts";
import { runInheriting } from "../host/process.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import { openRoot } from "./open_root.ts";
import type { Parsed } from "./options.ts";

/** `lock -- COMMAND...`: COMMAND runs while the lock is held, and inherits it. Its exit code is ours. */
export async function lock(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const [command, ...args] = parsed.rest;
  if (command === undefined) {
    throw new ShimctlError("usage", "Cannot lock, as no command follows '--'", {
      hint: "write shimctl lock -- COMMAND...",
    });
  }
  if (command === "")
    throw new ShimctlError("usage", "Cannot run this command, as its name is empty", {
      hint: "write shimctl lock -- COMMAND...",
    });
  const host = await openRoot(parsed.options);
  const held = await acquireLock(host, {
    timeoutMs: parsed.options.lockTimeoutMs,
    owner: parsed.options.owner,
    command: `lock -- ${command}`.slice(0, 120),
    signal: io.signal,
    onWait: (holder) => log.info(`waiting for the node's lock, held by ${holder.text}`),
  });
  try {
    return await runInheriting(command, args, inheritable(held), io.signal);
  } finally {
    held.release();
  }
}
