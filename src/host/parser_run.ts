import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { ShimctlError } from "../error.ts";
import { reasonOf } from "./root.ts";

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
 * Throws `usage` when the program cannot be run, `unsupported-node` when there is no place for the copies.
 */
export function complaintOf(
  binary: string,
  stage: (folder: string) => Copies,
  option = "--prove-with",
): string | undefined {
  const folder = privateFolder();
  try {
    const { files, args } = stage(folder);
    for (const file of files) {
      mkdirSync(dirname(file.path), { recursive: true });
      writeFileSync(file.path, file.bytes, { mode: 0o600 });
    }
    // Most runs name no parser, and need not load what runs one.
    const { spawnSync } = process.getBuiltinModule("node:child_process");
    const result = spawnSync(binary, [...args], {
      encoding: "utf8",
      timeout: limitMs,
      maxBuffer: 64 << 20,
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (result.error !== undefined) {
      throw new ShimctlError("usage", `Cannot run the engine's own parser, as ${reasonOf(result.error)}`, {
        path: binary,
        hint: `check the path given with ${option}`,
        cause: result.error,
      });
    }
    if (result.status === 0) return undefined;
    const how = result.status === null ? `ended by ${result.signal}` : `exit code ${result.status}`;
    return result.stderr.trim().split("\n").at(-1) || `it said nothing (${how})`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function privateFolder(): string {
  const { tmpdir } = process.getBuiltinModule("node:os");
  try {
    return mkdtempSync(`${tmpdir()}/shimctl-prove-`);
  } catch (cause) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot make a folder for the engine's parser here, as ${reasonOf(cause)}`,
      { path: tmpdir(), hint: "let TMPDIR name a folder that you may write", cause },
    );
  }
}
