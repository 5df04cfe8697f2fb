import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile } from "./compile.ts";
import type { Target } from "./target.ts";

/** What sizes are compared with: a program that does nothing, compiled the same way. */
export function emptyExecutable(target: Target): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-floor-"));
  try {
    writeFileSync(join(folder, "empty.ts"), "");
    compile(target, join(folder, "empty"), join(folder, "empty.ts"));
    return readFileSync(join(folder, "empty"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
