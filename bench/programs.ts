import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";

/** The executable as it is released, and a program without a line of code, compiled in the same way. */
export interface Programs {
  readonly shimctl: string;
  readonly empty: string;
}

export function compilePrograms(folder: string): Programs {
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/empty.ts`, "export {};\n");
  return {
    shimctl: compile(`${import.meta.dirname}/../src/main.ts`, `${folder}/shimctl`),
    empty: compile(`${folder}/empty.ts`, `${folder}/empty`),
  };
}

/**
 * In chunks, as in one piece every command would load the runtime's modules for HTTP/2 and TLS that only the CRI
 * client uses; and with the thresholds of the just-in-time compiler raised, as what runs for 20 ms is not worth
 * compiling.
 */
function compile(source: string, outfile: string): string {
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
      source,
      `--outfile=${outfile}`,
    ],
    { encoding: "utf8" },
  );
  if (result.status !== 0) throw new Error(`${source} was not compiled: ${result.stderr}`);
  return outfile;
}
