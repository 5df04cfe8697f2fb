import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { atEnd } from "./at_end.ts";

const project = join(import.meta.dirname, "..", "..");

/** What the command line needs of Deno, and no more: the README lists the same. */
export const permissions = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-ffi",
  "--allow-run",
  "--allow-sys=hostname,uid,statfs",
] as const;

/** Whether the command line's tests run it under Deno. */
export const underDeno = process.env["SHIMCTL_TEST_RUNTIME"] === "deno";

let made: string | undefined;

/** An executable that is the same source under Deno, made once for a test run. Nothing is downloaded for it. */
export function denoExecutable(): string {
  if (made !== undefined) return made;
  made = join(mkdtempSync(join(tmpdir(), "shimctl-deno-")), "shimctl");
  const deno = join(project, "node_modules", "deno", "deno");
  const flags = ["--no-prompt", "--no-remote", "--cached-only", "--quiet", ...permissions].join(" ");
  const script = `#!/bin/sh\nexec ${deno} run ${flags} ${project}/src/main.ts "$@"\n`;
  writeFileSync(made, script);
  chmodSync(made, 0o755);
  const folder = dirname(made);
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  return made;
}

export function runDeno(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): { code: number; out: string; err: string } {
  const { PATH = "", HOME = "" } = process.env;
  const ran = spawnSync(denoExecutable(), args, {
    encoding: "utf8",
    env: { PATH, HOME, NO_COLOR: "1", ...env },
  });
  return { code: ran.status ?? -1, out: ran.stdout, err: ran.stderr };
}
