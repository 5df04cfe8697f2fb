import { type StatsFs, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { ShimctlError } from "../error.ts";
import type { Host } from "./root.ts";

/** Bytes and files that shall be written into a folder, which may be missing. */
export interface Room {
  /** Host path. */
  readonly folder: string;
  readonly bytes: number;
  readonly files: number;
}

/** For what nobody can foresee: another program's writes, the file system's own blocks, a second try. */
const spareBytes = 64 << 10;
const spareFiles = 4;

/**
 * Refuses, before anything is written, what would not fit. Quotas and what others write meanwhile cannot be
 * foreseen; a write that fails then undoes itself.
 * Throws ShimctlError `unsupported-node`, retryable
 */
export function refuseFull(host: Host, rooms: readonly Room[]): void {
  const needs = new Map<number, { folder: string; real: string; bytes: number; files: number }>();
  for (const room of rooms) {
    let { folder } = room;
    while (folder !== "/" && !host.exists(folder)) folder = dirname(folder);
    const real = host.real(folder);
    const { dev } = statSync(real);
    const known = needs.get(dev) ?? { folder, real, bytes: spareBytes, files: spareFiles };
    needs.set(dev, { ...known, bytes: known.bytes + room.bytes, files: known.files + room.files });
  }
  for (const { folder, real, bytes, files } of needs.values()) {
    const free = freeIn(real);
    if (free === undefined) continue;
    const { bavail, bsize, blocks, files: allFiles, ffree } = free;
    // A file system that counts neither blocks nor files says zero of all.
    const lacksBytes = blocks > 0 && bavail * bsize < bytes;
    const lacksFiles = allFiles > 0 && ffree < files;
    if (!lacksBytes && !lacksFiles) continue;
    const what = lacksBytes ? `${Math.ceil(bytes / 1024)} KiB` : `${files} new files`;
    throw new ShimctlError("unsupported-node", `Cannot begin, as the file system has no room for ${what}`, {
      path: folder,
      hint: "free some space there, then run the same command again",
      retryable: true,
    });
  }
}

/** `undefined` where nobody tells, as Deno does not without --allow-sys=statfs: then a write finds out. */
function freeIn(real: string): StatsFs | undefined {
  try {
    return statfsSync(real);
  } catch {
    return undefined;
  }
}
