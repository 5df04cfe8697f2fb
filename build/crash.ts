/**
 * `npm run crash:full`: every kill, error, full disk and power loss of test/crash, which takes about an hour, and
 * its result in docs/crash.md. Arguments are passed on to the tests (`-t PATTERN`): the lines of those that did
 * not run stay as they are.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const page = "docs/crash.md";

interface Result {
  readonly kind: string;
  readonly name: string;
  readonly facts: Readonly<Record<string, number>>;
  readonly isFull: boolean;
}

const folder = mkdtempSync(join(tmpdir(), "shimctl-crash-report-"));
const reported = join(folder, "report");
const ran = spawnSync(
  process.execPath,
  ["test", "--timeout=7200000", "./test/crash", ...process.argv.slice(2)],
  {
    env: { SHIMCTL_TEST_CRASH: "full", ...process.env, SHIMCTL_TEST_CRASH_REPORT: reported },
    stdio: "inherit",
  },
);
const results = existsSync(reported)
  ? readFileSync(reported, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Result)
  : [];
rmSync(folder, { recursive: true, force: true });

const today = new Date().toISOString().slice(0, 10);
const rows = new Map<string, string>();
const older = existsSync(page) ? readFileSync(page, "utf8").split("\n") : [];
const add = (row: string) => rows.set(row.split("|").slice(1, 3).join("|"), row);
for (const line of older) if (/^\| (?!What|---)/.test(line)) add(line);
for (const { kind, name, facts, isFull } of results) {
  const found = Object.entries(facts).map(([what, count]) => `${count} ${what}`);
  add(`| ${kind} | ${name} | ${found.join(", ")} | ${isFull ? "all" : "a sample"} | ${today} |`);
}
writeFileSync(
  page,
  `# Crashes, errors, full disks and power losses

Written by \`npm run crash:full\`. Each line is one command on one engine, with the compiled program under
ptrace(2); the real engine judges every configuration that comes of it, and a run after it has to succeed and to
leave nothing behind.

- **killed**: SIGKILL before and after each system call that changes or locks a file, talks to a socket or starts
  a program, on any thread. *live engine*: with a restart and the question on the engine's socket. *with a foreign
  rename*: another program has renamed its version over the file just before the exchange.
- **error**: EIO, ENOSPC, EROFS, EACCES and EINTR at each open, write, fsync, rename and lock. Nothing is lost, the
  exit code is a documented one, and the message names file and cause.
- **full disk**: small file systems of several sizes, for the node, for \`/etc\` and for \`/var/lib/shimctl\`.
- **power loss**: every tree that a file system may leave when the power fails at any step of the run: what was not
  flushed is there, in part, as zeros, or not at all. A program that does not flush files, or folders, fails here.

| What | Command and engine | Found | Points | Date |
| --- | --- | --- | --- | --- |
${[...rows.values()].sort().join("\n")}
`,
);
process.exitCode = ran.status ?? 1;
