import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Writes `SHA256SUMS` for the artefacts in a folder, as sha256sum(1) checks them. */
export function writeSums(folder: string): void {
  const names = readdirSync(folder, { withFileTypes: true })
    // `shimctl` is one of the others, for this machine.
    .filter((each) => each.isFile() && each.name !== "SHA256SUMS" && each.name !== "shimctl")
    .map((each) => each.name)
    .sort();
  const lines = names.map((name) => `${sha256(readFileSync(join(folder, name)))}  ${name}\n`);
  writeFileSync(join(folder, "SHA256SUMS"), lines.join(""));
}
