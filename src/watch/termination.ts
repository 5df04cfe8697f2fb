import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs";

/** The kubelet reads that much (terminationMessagePath). */
const limit = 4096;

/** Where a container's last words are read, in the container's own files. */
export const terminationLog = "/dev/termination-log";

/** Leaves there how things stand, where such a file is; the first bytes of what is longer. */
export function leaveWords(path: string, text: string): void {
  let fd: number | undefined;
  try {
    // Never made: without a kubelet nobody reads it.
    fd = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if (!fstatSync(fd).isFile()) return;
    const bytes = Buffer.from(text).subarray(0, limit);
    writeSync(fd, bytes, 0, bytes.length, 0);
    ftruncateSync(fd, bytes.length);
  } catch {
    // Nobody is there to tell.
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
