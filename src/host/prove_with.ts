import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { ShimctlError } from "../error.ts";
import { redactLine } from "../toml/redact.ts";

/** A parser that takes longer hangs. */
const limitMs = 30_000;

/**
 * Lets an engine's own binary parse the candidate, as copies in a private folder that is gone afterwards.
 * Throws `invalid-config` with the engine's words where it refuses.
 */
export function proveWithBinary(
  binary: string,
  stage: (folder: string) => {
    readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
    readonly args: readonly string[];
  },
): void {
  const folder = mkdtempSync(`${tmpdir()}/shimctl-prove-`);
  try {
    const { files, args } = stage(folder);
    for (const file of files) writeFileSync(file.path, file.bytes, { mode: 0o600 });
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
    if (result.status === 0) return;
    const words = result.stderr.trim().split("\n").at(-1) ?? "";
    throw new ShimctlError(
      "invalid-config",
      `The engine's own parser refuses the result: ${redactLine(words)}`,
      { path: binary, hint: "please report this together with the configuration, secrets removed" },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
