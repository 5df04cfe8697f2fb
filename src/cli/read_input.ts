import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { ShimctlError } from "../error.ts";
import { reasonOf } from "../host/root.ts";
import { sleep } from "../host/sleep.ts";
import { isErrno } from "../host/state.ts";

/** No handler file comes near to it. */
const limit = 4 << 20;
/** How long a named pipe may stand without anybody who writes into it. */
const writerMs = 30_000;

interface Source {
  readonly path: string;
  /** How errors call what named it. */
  readonly option: string;
}

/**
 * Reads what `-f` names: a file, or a pipe such as /dev/stdin. A pipe is polled, so that a signal ends the
 * wait for whoever writes into it.
 * Throws ShimctlError: `usage` with the reason; `interrupted` when the signal fires
 */
export async function readInput(path: string, option: string, signal: AbortSignal): Promise<Uint8Array> {
  const source: Source = { path, option };
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    // Deno gives no program this path by itself, whatever it may read; our own standard input is open already.
    if (path !== "/dev/stdin" || !(cause instanceof Error) || cause.name !== "NotCapable")
      throw unreadable(source, reasonOf(cause), cause);
    fd = 0;
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw unreadable(source, "it is a folder");
    if (!stat.isFile() && !stat.isFIFO() && !stat.isCharacterDevice())
      throw unreadable(source, "it is neither a file nor a pipe");
    // One that a shell opened for us has had its writer; one with a name may still wait for it.
    const named = stat.isFIFO() && !/^\/(dev|proc)\//.test(path);
    return await readToEnd(fd, source, named ? performance.now() + writerMs : 0, signal);
  } finally {
    if (fd !== 0) closeSync(fd);
  }
}

async function readToEnd(
  fd: number,
  source: Source,
  writerBy: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(limit + 1);
  let length = 0;
  for (;;) {
    if (signal.aborted)
      throw new ShimctlError("interrupted", "Stopped by a signal", { path: source.path, retryable: true });
    const read = readNow(fd, bytes.subarray(length), source);
    if (read === 0 && (length > 0 || performance.now() >= writerBy)) {
      if (writerBy > 0 && length === 0) throw unreadable(source, "nobody writes into this pipe");
      return bytes.slice(0, length);
    }
    if (read === undefined || read === 0) {
      await sleep(10);
      continue;
    }
    length += read;
    if (length > limit) throw unreadable(source, "it is larger than 4 MiB");
  }
}

/** `undefined` while a pipe has nothing yet. */
function readNow(fd: number, into: Uint8Array, source: Source): number | undefined {
  try {
    return readSync(fd, into);
  } catch (cause) {
    if (isErrno(cause, "EAGAIN")) return undefined;
    throw unreadable(source, reasonOf(cause), cause);
  }
}

function unreadable({ path, option }: Source, reason: string, cause?: unknown): ShimctlError {
  return new ShimctlError("usage", `Cannot read the handler file, as ${reason}`, {
    path,
    hint: path === "-" ? "to read it from a pipe, pass -f /dev/stdin" : `check the path given with ${option}`,
    ...(cause === undefined ? {} : { cause }),
  });
}
