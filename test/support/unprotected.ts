import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { atEnd } from "./at_end.ts";

let built: string | undefined;

/**
 * The executable as Bun makes it, with every kind of file that it can load by itself: what an attack on the real one
 * is tried on first, as an attack that works nowhere proves no protection.
 */
export function unprotected(): string {
  if (built !== undefined) return built;
  const outfile = join(mkdtempSync(join(tmpdir(), "shimctl-unprotected-")), "shimctl");
  const autoload = ["dotenv", "bunfig", "tsconfig", "package-json"].map(
    (what) => `--compile-autoload-${what}`,
  );
  const { status, stderr } = spawnSync(
    process.execPath,
    ["build", "--compile", "--format=esm", ...autoload, "src/main.ts", `--outfile=${outfile}`],
    { encoding: "utf8", cwd: join(import.meta.dirname, "..", "..") },
  );
  if (status !== 0) throw new Error(`the executable was not built: ${stderr}`);
  built = outfile;
  atEnd(() => rmSync(dirname(outfile), { recursive: true, force: true }));
  return built;
}
