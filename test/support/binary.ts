import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";

let built: string | undefined;

/** The compiled executable, built once for a test run: what users run, and ten times quicker to start. */
export function compiled(): string {
  if (built !== undefined) return built;
  const outfile = `${mkdtempSync(`${tmpdir()}/shimctl-build-`)}/shimctl`;
  const result = spawnSync(
    process.execPath,
    [
      "build",
      "--compile",
      "--minify",
      "--splitting",
      "--bytecode",
      "--compile-jit-policy=64",
      "--format=esm",
      "--no-compile-autoload-dotenv",
      "--no-compile-autoload-bunfig",
      `${import.meta.dirname}/../../src/main.ts`,
      `--outfile=${outfile}`,
    ],
    { encoding: "utf8" },
  );
  if (result.status !== 0) throw new Error(`the executable was not built: ${result.stderr}`);
  built = outfile;
  process.on("exit", () => spawnSync("rm", ["-rf", outfile.slice(0, outfile.lastIndexOf("/"))]));
  return built;
}
