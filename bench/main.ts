/**
 * `npm run bench`: measures what shimctl costs, beside an empty executable, nvidia-ctk and a script, and writes
 * docs/bench.md, its plots, and the README's figures. `-- --quick` measures a little and writes nothing.
 */
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { bars, verdict } from "./bars.ts";
import { type Case, type CaseId, cases } from "./cases.ts";
import { count } from "./counts.ts";
import { smallestLimit } from "./limit.ts";
import { describeMachine } from "./machine.ts";
import { type Memory, weigh } from "./memory.ts";
import { nvidiaCtk } from "./nvidia.ts";
import { type Plot, plot } from "./plot.ts";
import { compilePrograms } from "./programs.ts";
import { quoteInReadme } from "./readme.ts";
import { barTable, type Measured, report, shortTable } from "./report.ts";
import { fullSizes, type Scale, scale } from "./scale.ts";
import { median } from "./statistics.ts";
import { time } from "./times.ts";

const home = `${import.meta.dirname}/..`;
const quick = process.argv.includes("--quick");
const rounds = quick ? 10 : 60;
const sizes = quick
  ? { processes: [1, 16, 128], lines: [50, 5000], handlers: [1, 100], rounds: 2 }
  : fullSizes;
/** How often memory is looked at: it hardly differs. */
const weighings = 3;

function tell(what: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r\u001b[Kbench: ${what}` : `bench: ${what}\n`);
}

async function measure(on: string, folder: string, all: readonly Case[]): Promise<Measured> {
  const output = `${folder}/output`;
  const times = time(all, output, rounds, (round) => {
    if (round % 10 === 0) tell(`${on}, round ${round} of ${rounds}`);
  });
  const counts: Measured["counts"] = new Map(
    all.flatMap((each) => {
      const counted = count(each, `${folder}/strace`);
      return counted === undefined ? [] : [[each.id, counted] as const];
    }),
  );
  const memory = new Map<CaseId, Memory>();
  for (const each of all.filter(({ id }) => id !== "script")) {
    tell(`${on}, memory of ${each.id}`);
    const looks: Memory[] = [];
    for (let look = 0; look < weighings; look++) {
      const one = await weigh(each);
      if (one !== undefined) looks.push(one);
    }
    if (looks.length === 0) continue;
    memory.set(each.id, {
      peakKib: median(looks.map(({ peakKib }) => peakKib)),
      privateKib: median(looks.map(({ privateKib }) => privateKib)),
    });
  }
  return { on, cases: all, times, rounds, counts, memory };
}

function plots({ processes, lines, handlers }: Scale): (Plot & { readonly file: string })[] {
  const y = "milliseconds, wall";
  return [
    {
      file: "bench-processes.svg",
      title: "Installs by as many owners on one node",
      x: "processes",
      y,
      series: processes,
    },
    {
      file: "bench-lines.svg",
      title: "One handler, configurations of many lines",
      x: "lines",
      y,
      series: lines,
    },
    { file: "bench-handlers.svg", title: "Many handlers in one install", x: "handlers", y, series: handlers },
  ];
}

/** Asked before anything of ours runs. */
const machine = describeMachine();
const memoryDisk = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
const work = mkdtempSync(`${memoryDisk}/shimctl-bench-`);
mkdirSync(`${home}/.cache/bench`, { recursive: true });
/** As strace shows it, which follows links. */
const disk = realpathSync(`${home}/.cache/bench`);
try {
  tell("compiling");
  const programs = compilePrograms(`${home}/.cache/bench-programs`);
  const peer = await nvidiaCtk();
  process.chdir(work);

  const inMemory = cases(`${work}/cases`, programs, peer);
  const measured = [
    await measure("tmpfs", `${work}/cases`, inMemory),
    await measure("a real disk", disk, cases(disk, programs, peer)),
  ] as const;
  tell("memory limits");
  const install = inMemory.find(({ id }) => id === "install");
  const limit = install === undefined ? undefined : smallestLimit(install, `${work}/output`);
  const grown = scale(`${work}/scale`, programs, peer, sizes, tell);
  const held = bars(measured[0].times, grown, limit);

  const drawn = plots(grown);
  const text = report({ machine, measured, bars: held, plots: drawn });
  process.stderr.write("\n");
  process.stdout.write(`${text}\n`);
  if (!quick) {
    writeFileSync(`${home}/docs/bench.md`, text);
    for (const each of drawn) writeFileSync(`${home}/docs/${each.file}`, plot(each));
    const shown: readonly CaseId[] = [
      "empty",
      "version",
      "status",
      "noop",
      "install",
      "install20",
      "nvidia",
      "script",
    ];
    quoteInReadme(`${home}/README.md`, `\n${shortTable(measured[0], shown)}\n\n${barTable(held)}\n`);
  }
  const broken = held.filter((bar) => verdict(bar) !== "holds");
  process.stdout.write(`${held.length - broken.length} of ${held.length} bars hold\n`);
} finally {
  rmSync(work, { recursive: true, force: true });
  rmSync(disk, { recursive: true, force: true });
}
