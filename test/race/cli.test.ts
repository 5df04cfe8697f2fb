import { describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseJournal } from "../../src/transaction/journal.ts";
import { compiled } from "../support/binary.ts";
import { type EngineCase, engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const seconds = Number(process.env["SHIMCTL_TEST_RACE_SECONDS"] ?? "4");
/** Three ways of writing for each engine: together they take as long as three storms. */
const besideSeconds = Math.max(4, seconds / 3);
const owners = ["one", "two"];

interface Ended {
  readonly args: readonly string[];
  readonly code: number | null;
  readonly document: {
    readonly result: string;
    readonly error: { readonly code: string; readonly message: string; readonly retryable: boolean } | null;
  };
}

function collect(child: ChildProcess): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    let out = "";
    let err = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.on("close", (code) => resolve({ code, out, err }));
  });
}

function script(name: string, ...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  return collect(
    spawn(process.execPath, [`${import.meta.dirname}/${name}`, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    }),
  );
}

async function shimctl(node: Node, args: readonly string[]): Promise<Ended> {
  const child = spawn(compiled(), [...args, "--json", ...node.options], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { code, out, err } = await collect(child);
  if (out === "") throw new Error(`no document from ${args.join(" ")}: exit ${code}, ${err}`);
  return { args, code, document: JSON.parse(out) as Ended["document"] };
}

function pick<T>(list: readonly T[]): T {
  const item = list[Math.floor(Math.random() * list.length)];
  if (item === undefined) throw new Error("empty list");
  return item;
}

/** Random installs and uninstalls from so many processes at once, until the time is over. */
async function storm(
  node: Node,
  handlers: readonly string[],
  processes: number,
  forSeconds: number,
): Promise<Ended[]> {
  const end = Date.now() + forSeconds * 1000;
  const ended: Ended[] = [];
  const loop = async () => {
    while (Date.now() < end)
      ended.push(
        await shimctl(node, [pick(["install", "uninstall"]), pick(handlers), "--owner", pick(owners)]),
      );
  };
  await Promise.all(Array.from({ length: processes }, loop));
  return ended;
}

/** The one documented failure of these commands is a conflict: another owner has that handler. */
function isUnexpected(run: Ended): boolean {
  const message = run.document.error?.message ?? "";
  return run.code !== 0 && !/as owner '\w+' has installed it$|as it belongs to owner '\w+'$/.test(message);
}

/** Beside a program that writes the file all the time, a run may give up: it says so, and that it can be repeated. */
function isUnexpectedBesideWriters(run: Ended): boolean {
  return isUnexpected(run) && !(run.code === 5 && run.document.error?.retryable === true);
}

function leftovers(node: Node, { loads }: EngineCase): string[] {
  return loads.flatMap(({ folder }) => {
    try {
      return readdirSync(node.root + folder).filter((name) => name.includes(".tmp"));
    } catch {
      return [];
    }
  });
}

/** Follows the journal: each operation found what the one before it had left. */
function replay(node: Node): Map<string, string[]> {
  const text = ["journal.1", "journal"].map((name) => {
    try {
      return readFileSync(`${node.root}/var/lib/shimctl/${name}`, "utf8");
    } catch {
      return "";
    }
  });
  const model = new Map<string, string[]>();
  for (const line of parseJournal(text.join(""))) {
    if (line.step !== "begin") continue;
    const before = line.previous.map((handler) => handler.name).sort();
    if (model.has(line.owner)) expect(before).toEqual(model.get(line.owner) ?? []);
    model.set(line.owner, line.desired.map((handler) => handler.name).sort());
  }
  return model;
}

describe("any number of shimctl processes", () => {
  for (const engineCase of engineCases) {
    test(`on ${engineCase.name} a reader never sees a torn file, and the end is that of some serial order`, async () => {
      using node = Node.of(engineCase);
      const before = node.tree();
      const reading = script("reader.ts", node.root, engineCase.name, String(seconds + 1));
      const ended = await storm(node, engineCase.handlers, 32, seconds);
      const { code, out, err } = await reading;
      expect([code, out]).toEqual([0, ""]);

      // Only the documented failure: another owner has that handler.
      expect(ended.filter(isUnexpected)).toEqual([]);
      const status = (await node.run(["status", "--json"])).json();
      const found = (status["owners"] as { owner: string; handlers: string[] }[]).map(
        (holding) => [holding.owner, [...holding.handlers].sort()] as const,
      );
      const model = [...replay(node)].filter(([, names]) => names.length > 0).sort();
      expect([...found].sort()).toEqual(model);
      expect(leftovers(node, engineCase)).toEqual([]);

      for (const owner of owners)
        expect((await shimctl(node, ["uninstall", "--all", "--owner", owner])).code).toBe(0);
      expect(node.tree()).toEqual(before);
      console.log(
        `   ${ended.length} operations of 32 processes on ${engineCase.name} in ${seconds} s, ${err.trim()}`,
      );
    });
  }
});

describe.each(engineCases)("on $name beside a program that takes no lock", (engineCase) => {
  const { files } = engineCase;
  /** Our own drop-in, where the engine has them: then it need not be there when the program comes to write it. */
  const contested = engineCase.block("one");
  const cases = [["rename"], ["append"], ["rename", "append"]] as const;
  for (const ways of cases) {
    test(`one that writes by ${ways.join(" and one by ")} loses no line`, async () => {
      using node = Node.of(engineCase);
      // The folder is the administrator's: no program can write into one that is not there.
      mkdirSync(dirname(node.root + contested), { recursive: true });
      const path = node.root + contested;
      const mutex = ways.length > 1 ? [`${node.root}/mutex`] : [];
      const temp = (way: string) => `${node.root}${engineCase.tempFolder}/theirs.${way}`;
      const notes = (way: string) => `${node.root}/notes-${way}`;
      const stop = `${node.root}/stop`;
      const writing = ways.map((way) =>
        script("writer.ts", way, path, temp(way), way, notes(way), stop, ...mutex),
      );
      while (!ways.every((way) => existsSync(notes(way)))) await sleep(10);
      // The writers end with the storm's time: runs that are under way then finish undisturbed.
      const stopping = setTimeout(() => node.place("/stop", ""), besideSeconds * 1000);
      const ended = await storm(node, engineCase.handlers, 8, besideSeconds);
      clearTimeout(stopping);
      node.place("/stop", "");
      for (const { code, err } of await Promise.all(writing)) expect([code, err]).toEqual([0, ""]);

      const text = node.text(contested);
      const written = ways.flatMap((way) => readFileSync(notes(way), "utf8").trimEnd().split("\n"));
      const found = new Set(text.split("\n"));
      const missing = written.filter((line) => !found.has(line));
      // Together, so that a lost line shows with what shimctl said.
      expect({ missing, unexpected: ended.filter(isUnexpectedBesideWriters) }).toEqual({
        missing: [],
        unexpected: [],
      });
      expect(leftovers(node, engineCase)).toEqual([]);

      // They may have overwritten our edit after we reported success; one more install each converges.
      for (const owner of owners)
        expect((await shimctl(node, ["apply", "-f", emptyFile(node), "--owner", owner])).code).toBe(0);
      expect((await node.run(["status"])).code).toBe(0);
      for (const [administrators, content] of Object.entries(files))
        expect(node.text(administrators).startsWith(content)).toBe(true);
      console.log(
        `   ${ended.length} operations of 8 processes on ${engineCase.name} beside ${written.length} lines by ${ways.join(" and ")} in ${besideSeconds} s, 0 lost`,
      );
    });
  }
});

function emptyFile(node: Node): string {
  node.place("/handlers.toml", "format = 1\n[handlers]\n");
  return `${node.root}/handlers.toml`;
}
