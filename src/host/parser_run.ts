import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { ShimctlError } from "../error.ts";

/** A parser that takes longer hangs. */
const limitMs = 30_000;

/** What an engine's parser is given: copies, and the arguments to read them. */
interface Copies {
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
  readonly args: readonly string[];
}

/**
 * Lets an engine's own binary parse a configuration, as copies in a private folder that is gone afterwards.
 * Returns the last line of its complaint, or `undefined` where it accepts.
 * Throws `usage` when there is no such program.
 */
export function complaintOf(binary: string, stage: (folder: string) => Copies): string | undefined {
  const folder = mkdtempSync(`${tmpdir()}/shimctl-prove-`);
  try {
    const { files, args } = stage(folder);
    for (const file of files) {
      mkdirSync(dirname(file.path), { recursive: true });
      writeFileSync(file.path, file.bytes, { mode: 0o600 });
    }
    const result = spawnSync(binary, [...args], {
      encoding: "utf8",
      timeout: limitMs,
      maxBuffer: 64 << 20,
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (result.error !== undefined) {
      throw new ShimctlError("usage", "Cannot run the engine's own parser", {
        path: binary,
        hint: "check the path given with --prove-with",
        cause: result.error,
      });
    }
    return result.status === 0 ? undefined : (result.stderr.trim().split("\n").at(-1) ?? "it said nothing");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
