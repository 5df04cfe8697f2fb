import { type Bar, verdict } from "./bars.ts";
import type { Case, CaseId } from "./cases.ts";
import { usualLines } from "./configuration.ts";
import type { Counts } from "./counts.ts";
import type { Memory } from "./memory.ts";
import { median, spread } from "./statistics.ts";
import { markdownTable } from "./table.ts";
import type { Times } from "./times.ts";

/** Everything that was measured on one file system. */
export interface Measured {
  /** As people call it: "tmpfs". */
  readonly on: string;
  readonly cases: readonly Case[];
  readonly times: Times;
  readonly rounds: number;
  readonly counts: ReadonlyMap<CaseId, Counts>;
  readonly memory: ReadonlyMap<CaseId, Memory>;
}

export interface Report {
  readonly machine: string;
  readonly measured: readonly Measured[];
  readonly bars: readonly Bar[];
  readonly plots: readonly { readonly file: string; readonly title: string }[];
}

export function report({ machine, measured, bars, plots }: Report): string {
  const parts = [
    "# What it costs",
    "",
    "Made by `npm run bench`: every number here was measured in one run, side by side, on one machine.",
    "",
    machine,
    "",
    `Each round runs every command once, beginning with another one each time, on the same files; the numbers are medians over all rounds. The node's configuration has about ${usualLines} lines, and the page cache is warm. No engine runs: what a restart takes is the engine's. System calls, fsyncs and bytes are counted by strace, and memory is looked at while strace holds the process at its very end, in runs of their own.`,
    "",
    ...measured.flatMap((each) => [`## On ${each.on}, ${each.rounds} rounds`, "", table(each), ""]),
    "Peak memory counts the pages of the executable that are resident, which all runs on a node share and the kernel can drop; private memory is what one more run costs. The empty executable is a program without a line of code, compiled in the same way: below it nothing can go. nvidia-ctk takes no lock, proves nothing, keeps no journal, writes its files in place and flushes none of them. The script stands for the old kata-deploy: one read, change and rewrite of the whole file for each of 120 keys.",
    "",
    "## The bars",
    "",
    barTable(bars),
    "",
    "## How it grows",
    "",
    "On tmpfs; both axes are logarithmic.",
    "",
    ...plots.flatMap(({ file, title }) => [`![${title}](${file})`, ""]),
  ];
  return parts.join("\n");
}

/** The bars alone, as the README quotes them. */
export function barTable(bars: readonly Bar[]): string {
  return markdownTable([
    ["", "measured", "at most", ""],
    ...bars.map((bar) => [
      bar.what,
      bar.measured === undefined ? "-" : `${decimals(bar.measured)} ${bar.unit}`,
      `${bar.most} ${bar.unit}`,
      verdict(bar),
    ]),
  ]);
}

/** The rows that most people ask for. */
export function shortTable({ cases, times, memory, counts }: Measured, ids: readonly CaseId[]): string {
  const rows = cases.filter(({ id }) => ids.includes(id));
  return markdownTable([
    ["", "wall ms", "private MB", "fsyncs"],
    ...rows.map(({ id, label }) => [
      label,
      decimals(median((times.get(id) ?? []).map(({ wallMs }) => wallMs))),
      megabytes(memory.get(id)?.privateKib),
      String(counts.get(id)?.fsyncs ?? "-"),
    ]),
  ]);
}

function table({ cases, times, counts, memory }: Measured): string {
  const walls = (id: CaseId) => (times.get(id) ?? []).map(({ wallMs }) => wallMs);
  const against = (id: CaseId, base: CaseId) =>
    times.has(base) ? decimals(median(walls(id)) / median(walls(base))) : "-";
  return markdownTable([
    [
      "",
      "wall ms",
      "10–90 %",
      "CPU ms",
      "× empty",
      "× nvidia-ctk",
      "peak MB",
      "private MB",
      "system calls",
      "fsyncs",
      "bytes written",
    ],
    ...cases.map(({ id, label }) => [
      label,
      decimals(median(walls(id))),
      spread(walls(id)).map(decimals).join("–"),
      decimals(median((times.get(id) ?? []).map(({ cpuMs }) => cpuMs))),
      against(id, "empty"),
      against(id, "nvidia"),
      megabytes(memory.get(id)?.peakKib),
      megabytes(memory.get(id)?.privateKib),
      String(counts.get(id)?.syscalls ?? "-"),
      String(counts.get(id)?.fsyncs ?? "-"),
      String(counts.get(id)?.bytesWritten ?? "-"),
    ]),
  ]);
}

function megabytes(kib: number | undefined): string {
  return kib === undefined ? "-" : ((kib * 1024) / 1e6).toFixed(1);
}

function decimals(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
