import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { FileEdit } from "../../src/engine/backend.ts";
import { ShimctlError } from "../../src/error.ts";
import { cString, type Libc, loadLibc } from "../../src/host/libc/libc.ts";
import { openHost } from "../../src/host/root.ts";
import { commitFile } from "../../src/transaction/commit.ts";

const seconds = Math.min(15, Number(process.env["SHIMCTL_TEST_RACE_SECONDS"] ?? "4"));
const writers = {
  "a program that reads, appends a line and renames": ["rename"],
  "programs that open to append, hold it open, and write": ["append", "append"],
  "both, taking turns under a mutex of their own": ["rename mutex", "append mutex"],
} as const;
type Writers = keyof typeof writers;

const base =
  'version = 2\n[plugins]\n  [plugins."cri"]\n    sandbox_image = "pause"\n[debug]\n  level = "info"\n';
const block = (text: string) => `# begin shimctl\n${text}# end shimctl\n`;
const strip = (text: string) => text.replace(/# begin shimctl\n[\s\S]*?# end shimctl\n/g, "");
const withBlock = (text: string, turn: number) =>
  turn % 3 === 2 ? strip(text) : strip(text).replace("[debug]\n", `${block(`turn = ${turn}\n`)}[debug]\n`);

type Strategy = (target: string, folder: string, turn: number) => Promise<string>;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(`${tmpdir()}/shimctl-race-`);
});
afterAll(() => rmSync(folder, { recursive: true }));

let libc: Libc;
beforeAll(async () => {
  libc = await loadLibc();
});

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (content: Uint8Array | null) => new TextDecoder().decode(content ?? new Uint8Array());

const ours: Strategy = async (target, root, turn) => {
  const host = openHost(root);
  const path = target.slice(root.length);
  const read = host.read(path);
  if (read.kind !== "file") throw new Error(`the target is ${read.kind}`);
  const edit = (content: Uint8Array | null) => bytes(withBlock(text(content), turn));
  const planned: FileEdit = {
    path,
    before: read.bytes,
    after: edit(read.bytes),
    edit,
    bare: (content) => (content === null ? null : bytes(strip(text(content)))),
  };
  try {
    const { stale, contended } = await commitFile(host, planned, {
      journal: () => undefined,
      retries: 100,
      onKept: (content, why) => {
        writeFileSync(`${target}.kept`, content, { flag: "a" });
        return why;
      },
    });
    return stale ? "stale" : contended ? "contended" : "clean";
  } catch (error) {
    if (error instanceof ShimctlError && error.code === "conflict") return `conflict: ${error.message}`;
    throw error;
  }
};

const weak =
  (swap: (temp: string, target: string) => void): Strategy =>
  async (target, _root, turn) => {
    const before = readFileSync(target, "utf8");
    const temp = `${target}.shimctl`;
    const fd = openSync(temp, "w");
    writeSync(fd, withBlock(before, turn));
    fsyncSync(fd);
    closeSync(fd);
    if (readFileSync(target, "utf8") !== before) {
      unlinkSync(temp);
      await sleep(0);
      return "stale";
    }
    swap(temp, target);
    await sleep(0);
    return "clean";
  };

const compareAndRename = weak(renameSync);
const exchangeAlone = weak((temp, target) => {
  const result = libc.renameat2(cString(temp), cString(target), 2);
  if (result < 0) throw new Error(`renameat2 answers ${result}`);
  unlinkSync(temp);
});

interface Score {
  readonly written: number;
  readonly lost: string[];
  readonly leftovers: string[];
  readonly outcomes: Record<string, number>;
}

let runs = 0;

async function race(strategy: Strategy, who: Writers, duration: number): Promise<Score> {
  const root = `${folder}/${++runs}`;
  const target = `${root}/config.toml`;
  const stop = `${root}.stop`;
  const mutex = `${root}.mutex`;
  mkdirSync(root);
  writeFileSync(target, base);
  const children: ChildProcess[] = [];
  const notes: string[] = [];
  for (const [index, way] of writers[who].entries()) {
    const note = `${root}.notes${index}`;
    notes.push(note);
    writeFileSync(note, "");
    const [kind = "", guarded] = way.split(" ");
    const name = `writer${index}`;
    const args = [`${import.meta.dirname}/writer.ts`, kind, target, `${target}.${name}`, name, note, stop];
    children.push(
      spawn(process.execPath, guarded === undefined ? args : [...args, mutex], { stdio: "inherit" }),
    );
  }
  const ended = children.map((child) => once(child, "exit"));
  const outcomes: Record<string, number> = {};
  const linesIn = (note: string) => readFileSync(note, "utf8").split("\n").slice(0, -1);
  while (!notes.every((note) => linesIn(note).length > 0)) await sleep(10);
  const begin = performance.now();
  try {
    for (let turn = 1; performance.now() - begin < duration * 1000; turn++) {
      const outcome = await strategy(target, root, turn);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
  } finally {
    writeFileSync(stop, "");
    await Promise.all(ended);
  }
  const present = new Set(readFileSync(target, "utf8").split("\n"));
  const lines = notes.flatMap(linesIn);
  return {
    written: lines.length,
    lost: lines.filter((line) => !present.has(line)),
    leftovers: readdirSync(root).filter((name) => name !== "config.toml"),
    outcomes,
  };
}

const table = new Map<string, string>();
const remember = (strategy: string, who: string, score: Score) =>
  table.set(
    `${strategy.padEnd(20)} ${who}`,
    `lost ${score.lost.length} of ${score.written}, ${JSON.stringify(score.outcomes)}`,
  );
afterAll(() => {
  for (const [key, value] of table) console.log(`${key}: ${value}`);
});

describe("a commit among programs that take no lock", () => {
  for (const who of Object.keys(writers) as Writers[]) {
    test(
      `loses no line of ${who}`,
      async () => {
        const score = await race(ours, who, seconds);
        remember("shimctl", who, score);
        expect(score.lost).toEqual([]);
        expect(score.written).toBeGreaterThan(10);
        expect(score.leftovers).toEqual([]);
        expect((score.outcomes["clean"] ?? 0) + (score.outcomes["contended"] ?? 0)).toBeGreaterThan(0);
      },
      seconds * 1000 + 60_000,
    );
  }
});

describe("the race is real, as a weaker strategy loses lines in it", () => {
  for (const [name, strategy] of Object.entries({
    "compare and rename": compareAndRename,
    "exchange alone": exchangeAlone,
  })) {
    test(
      name,
      async () => {
        let lost = 0;
        for (let round = 0; round < 5 && lost === 0; round++) {
          for (const who of Object.keys(writers) as Writers[]) {
            const score = await race(strategy, who, seconds / 2);
            remember(name, who, score);
            lost += score.lost.length;
          }
        }
        expect(lost).toBeGreaterThan(0);
      },
      seconds * 10_000 + 60_000,
    );
  }
});
