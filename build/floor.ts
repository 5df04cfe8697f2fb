import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileOnly } from "./compile.ts";
import type { Target } from "./target.ts";

/** What sizes are compared with: a program that does nothing, as Bun compiles it with the same settings. */
export function emptyExecutable(target: Target): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-floor-"));
  try {
    writeFileSync(join(folder, "empty.ts"), "");
    compileOnly(target, join(folder, "empty"), join(folder, "empty.ts"));
    return readFileSync(join(folder, "empty"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
