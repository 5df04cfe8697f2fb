import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import { machineOf } from "./elf.ts";
import { runtimeFor } from "./runtime.ts";
import { scrubEnvironment } from "./scrub.ts";
import { slim } from "./slim.ts";
import { repo, source } from "./source.ts";
import { nativeTarget, type Target } from "./target.ts";

/** Bytecode without esm leaves a broken executable and exit code 0, so they stand together. */
const settings: readonly string[] = [
  "--compile",
  "--minify",
  "--splitting",
  "--bytecode",
  "--format=esm",
  // What runs for 20 ms is not worth compiling at run time.
  "--compile-jit-policy=64",
];

/** Nothing in the folder that it is started in configures, or runs code in, the executable. */
const autoloadOff: readonly string[] = ["dotenv", "bunfig", "tsconfig", "package-json"].map(
  (what) => `--no-compile-autoload-${what}`,
);

/**
 * Compiles a program as releases are: the same bytes on every machine and in every folder. What tests run is
 * made here as well.
 * Throws where the result is not for the target's machine, or is not as expected: see `slim`, `scrubEnvironment`.
 */
export function compile(target: Target, outfile: string, entry = join(repo, "src", "main.ts")): void {
  mkdirSync(dirname(outfile), { recursive: true });
  const folder = mkdtempSync(join(dirname(outfile), ".compile-"));
  try {
    // The name of the file is embedded in it, so it is always the same.
    const made = join(folder, "shimctl");
    compileOnly(target, made, entry);
    const file = slim(readFileSync(made));
    if (machineOf(file) !== target.machine)
      throw new Error(`the executable is for machine ${machineOf(file)}, not for ${target.arch}`);
    scrubEnvironment(file);
    writeFileSync(made, file, { mode: 0o755 });
    renameSync(made, outfile);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The same without what is done to it afterwards: what Bun makes of a program. */
export function compileOnly(target: Target, outfile: string, entry: string): void {
  const runtime = runtimeFor(target);
  const cross =
    target.arch === nativeTarget().arch
      ? []
      : [`--target=bun-linux-${target.arch}`, `--compile-executable-path=${runtime}`];
  const define = `--define=shimctlRevision=${JSON.stringify(source().revision ?? "")}`;
  const result = spawnSync(
    runtimeFor(nativeTarget()),
    // The names of chunks come from the path of the entry, which is to be the same in every folder.
    ["build", ...settings, ...autoloadOff, define, ...cross, relative(repo, entry), `--outfile=${outfile}`],
    // Variables of Bun change what it builds.
    { encoding: "utf8", cwd: repo, env: { PATH: process.env["PATH"] ?? "", HOME: tmpdir() } },
  );
  if (result.status !== 0) throw new Error(`the executable was not built: ${result.stderr}`);
}
