/**
 * Runs groups of tests and ends with one line, `N passed, N failed`. `npm test` runs what needs no engine and no
 * privileges, with short races; `--all` runs everything. `--rest COUNT` runs what `--all` has more than the first,
 * and adds that one's last line to its own: CI runs one after the other. `--fuzz` runs the longest of all.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import process from "node:process";
import { text } from "node:stream/consumers";

interface Group {
  readonly name: string;
  readonly folder: string;
  /** Only these files of it. */
  readonly files?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Of each test: what would never end is ended, and a machine that is busy gets its time. */
  readonly timeoutMs: number;
  /** Runs at the same time as the group before it: one of the two mostly waits. */
  readonly beside?: true;
}

const quick: readonly Group[] = [
  { name: "unit", folder: "test/unit", timeoutMs: 180_000 },
  { name: "property", folder: "test/property", timeoutMs: 180_000 },
  { name: "end to end", folder: "test/e2e", timeoutMs: 300_000 },
  { name: "build", folder: "test/build", timeoutMs: 300_000 },
  { name: "race (short)", folder: "test/race", env: { SHIMCTL_TEST_RACE_SECONDS: "4" }, timeoutMs: 600_000 },
];
const rest: readonly Group[] = [
  { name: "race", folder: "test/race", env: { SHIMCTL_TEST_RACE_SECONDS: "60" }, timeoutMs: 900_000 },
  {
    name: "command line under Deno",
    folder: "test/e2e",
    files: ["cli", "robust", "unreadable", "update-presets"].map((name) => `test/e2e/${name}.test.ts`),
    env: { SHIMCTL_TEST_RUNTIME: "deno" },
    timeoutMs: 300_000,
  },
  {
    // All 100,000 take longer than a gate may: `npm run fuzz:full`.
    name: "broken inputs",
    folder: "test/property",
    files: ["test/property/fuzz.test.ts"],
    env: { SHIMCTL_TEST_INPUTS: "15000" },
    timeoutMs: 1_200_000,
  },
  { name: "crash", folder: "test/crash", timeoutMs: 900_000 },
  { name: "booted nodes", folder: "test/boot", timeoutMs: 600_000, beside: true },
  { name: "image", folder: "test/image", timeoutMs: 600_000 },
  { name: "real engines", folder: "test/engine", timeoutMs: 1_200_000 },
];

/** More than a gate may take. */
const fuzz: Group = {
  name: "100,000 broken inputs",
  folder: "test/property",
  files: ["test/property/fuzz.test.ts"],
  env: { SHIMCTL_TEST_INPUTS: "100000" },
  timeoutMs: 7_200_000,
};

const before = process.argv.indexOf("--rest");
const counted =
  before < 0 ? ["0", "0"] : /^(\d+) passed, (\d+) failed$/.exec(process.argv[before + 1] ?? "")?.slice(1);
if (counted === undefined) throw new Error("--rest takes the last line of `npm test`");
const wanted = process.argv.includes("--fuzz")
  ? [fuzz]
  : before >= 0
    ? rest
    : process.argv.includes("--all")
      ? [...quick.slice(0, -1), ...rest]
      : quick;
let [passed = 0, failed = 0] = counted.map(Number);
const skipped: string[] = [];
/** What failed is told once more at the end: of a log, often the end alone is kept. */
const failures: string[] = [];

interface Ran {
  readonly group: Group;
  readonly out: string;
  readonly err: string;
  readonly failed: boolean;
  readonly seconds: number;
}

/** @param alone what it prints is seen at once; else after it ended, not mixed with another's */
async function runGroup(group: Group, alone: boolean): Promise<Ran> {
  const started = Date.now();
  const child = spawn(
    process.execPath,
    ["test", `--timeout=${group.timeoutMs}`, ...(group.files ?? [group.folder]).map((path) => `./${path}`)],
    { env: { ...process.env, ...group.env }, stdio: ["ignore", alone ? "inherit" : "pipe", "pipe"] },
  );
  const ended = new Promise<boolean>((resolve) => child.on("close", (code) => resolve(code !== 0)));
  const [out, err, failed] = await Promise.all([
    child.stdout === null ? "" : text(child.stdout),
    child.stderr === null ? "" : text(child.stderr),
    ended,
  ]);
  return { group, out, err, failed, seconds: (Date.now() - started) / 1000 };
}

/** What each test that failed has printed, from the end of the test before it. */
function failuresOf(lines: readonly string[]): string[] {
  const found: string[] = [];
  let since = 0;
  for (const [index, line] of lines.entries()) {
    // Here the list begins that repeats their names.
    if (/^\d+ tests? (skipped|failed):$/.test(line)) break;
    if (line.startsWith("(fail)")) found.push(...lines.slice(Math.max(since, index - 60), index + 1));
    if (/^(\(pass\)|\(skip\)|\(fail\)|.*\.test\.ts:$)/.test(line)) since = index + 1;
  }
  return found;
}

function tell({ group, out, err, failed: hasFailed, seconds }: Ran): void {
  const lines = err.split("\n");
  const noise = /^\(pass\)/;
  if (out !== "") console.log(`== ${group.name}, which is done\n${out.trimEnd()}`);
  console.log(
    lines
      .filter((line) => !noise.test(line))
      .join("\n")
      .trim(),
  );
  const count = (word: string) =>
    Number(
      lines
        .findLast((line) => new RegExp(`^ *\\d+ ${word}$`).test(line))
        ?.trim()
        .split(" ")[0] ?? 0,
    );
  passed += count("pass");
  failed += count("fail") + (hasFailed && count("fail") === 0 ? 1 : 0);
  skipped.push(...lines.filter((line) => line.startsWith("(skip)")));
  const told = failuresOf(lines);
  if (hasFailed) failures.push(`== failed in ${group.name}`, ...(told.length > 0 ? told : lines.slice(-60)));
  console.log(`   ${group.name}: ${seconds.toFixed(0)} s\n`);
}

const present = wanted.filter(
  ({ folder }) => existsSync(folder) && readdirSync(folder).some((name) => name.endsWith(".test.ts")),
);
for (const [index, group] of present.entries()) {
  if (group.beside) continue;
  const next = present[index + 1];
  const together = next?.beside ? [group, next] : [group];
  console.log(`== ${together.map(({ name }) => name).join(" and ")}`);
  for (const ran of await Promise.all(together.map((each) => runGroup(each, together.length === 1))))
    tell(ran);
}
for (const line of [...skipped, ...failures]) console.log(line);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
