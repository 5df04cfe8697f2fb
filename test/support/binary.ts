import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { compile } from "../../build/compile.ts";
import { nativeTarget } from "../../build/target.ts";
import { atEnd } from "./at_end.ts";
import { denoExecutable, underDeno } from "./deno.ts";

let built: string | undefined;
let builtToWatch: string | undefined;

/** The executable as releases have it, built once for a test run: what users run, and ten times quicker to start. */
export function compiled(): string {
  if (underDeno) return denoExecutable();
  built ??= make();
  return built;
}

/** The same, whose looks may follow each other at once: see `watch_program.ts`. */
export function compiledToWatch(): string {
  builtToWatch ??= make(join(import.meta.dirname, "watch_program.ts"));
  return builtToWatch;
}

function make(entry?: string): string {
  const outfile = join(mkdtempSync(join(tmpdir(), "shimctl-build-")), "shimctl");
  compile(nativeTarget(), outfile, entry);
  atEnd(() => rmSync(dirname(outfile), { recursive: true, force: true }));
  return outfile;
}
