import { describe, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeSync,
} from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

/** What the other program writes in place, in two parts; the first alone does not parse. */
const heading = "# written by another program\n";
const tail = '\n[debug]\n  level = "in';
const rest = 'fo"\n';
const lines = (heading + tail + rest).split("\n").filter((line) => line !== "");

interface Ended {
  readonly code: number | null;
  readonly out: string;
}

function start(node: Node, args: readonly string[]): ChildProcess {
  return spawn(compiled(), [...args, "--json", ...node.options], { stdio: ["ignore", "pipe", "ignore"] });
}

async function run(node: Node, args: readonly string[]): Promise<Ended> {
  const child = start(node, args);
  let out = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out };
}

describe.each(engineCases)(
  "a program that has the file of $name open for writing while shimctl is killed",
  (engineCase) => {
    const [kata, second, third] = engineCase.handlers;
    const path = engineCase.block("default");

    /** A node on which that file is there, and what it holds. */
    async function prepare(): Promise<{ node: Node; head: string }> {
      const node = Node.of(engineCase);
      if (engineCase.files[path] === undefined) expect((await run(node, ["install", third])).code).toBe(0);
      return { node, head: heading + node.text(path) + tail };
    }

    /** Starts an install while the file is open for writing, and kills it as soon as its version is visible. */
    async function killAfterExchange(node: Node): Promise<void> {
      const real = node.root + path;
      const { ino } = statSync(real);
      const child = start(node, ["install", kata]);
      const ended = once(child, "close");
      while (statSync(real).ino === ino && child.exitCode === null) await sleep(1);
      child.kill("SIGKILL");
      await ended;
      expect([child.signalCode, statSync(real).ino === ino]).toEqual(["SIGKILL", false]);
      expect(temps(node)).toHaveLength(1);
    }

    function temps(node: Node): string[] {
      return readdirSync(node.root + engineCase.tempFolder).filter((name) => name.endsWith(".tmp"));
    }

    /** Every line of the other program is in the file, or in what was kept aside. */
    function assertNothingLost(node: Node, written: readonly string[]): void {
      const folder = `${node.root}/var/lib/shimctl/conflict`;
      const kept = existsSync(folder)
        ? readdirSync(folder).map((name) => readFileSync(`${folder}/${name}`, "utf8"))
        : [];
      const texts = [node.text(path), ...kept];
      expect(written.filter((line) => !texts.some((text) => text.includes(line)))).toEqual([]);
    }

    function assertReadable(node: Node): void {
      for (const loaded of new Set([path, ...node.loaded(engineCase)]))
        expect(() => parse(node.text(loaded))).not.toThrow();
    }

    test("is waited for, and what it wrote comes back once it is done", async () => {
      const prepared = await prepare();
      using node = prepared.node;
      const { head } = prepared;
      const fd = openSync(node.root + path, "r+");
      await killAfterExchange(node);
      assertReadable(node);
      ftruncateSync(fd, 0);
      writeSync(fd, head, 0);

      const refused = await run(node, ["install", second]);
      expect([refused.code, JSON.parse(refused.out).error.retryable]).toEqual([5, true]);
      expect(refused.out).toContain(temps(node)[0] ?? "no temporary file");
      assertReadable(node);

      writeSync(fd, rest, Buffer.byteLength(head));
      closeSync(fd);
      expect((await run(node, ["install", second])).code).toBe(0);
      assertReadable(node);
      assertNothingLost(node, lines);
      expect([node.text(path).includes(second), temps(node)]).toEqual([true, []]);
      expect((await run(node, ["status"])).code).toBe(0);
    });

    test("may finish while the next run waits", async () => {
      const prepared = await prepare();
      using node = prepared.node;
      const { head } = prepared;
      const fd = openSync(node.root + path, "r+");
      await killAfterExchange(node);
      ftruncateSync(fd, 0);
      writeSync(fd, head, 0);
      const next = run(node, ["install", second]);
      await sleep(2_000);
      assertReadable(node);
      writeSync(fd, rest, Buffer.byteLength(head));
      closeSync(fd);
      expect((await next).code).toBe(0);
      assertReadable(node);
      assertNothingLost(node, lines);
      expect(temps(node)).toEqual([]);
    });

    test("may end half-way: its piece is kept aside and never becomes the configuration", async () => {
      const prepared = await prepare();
      using node = prepared.node;
      const { head } = prepared;
      const fd = openSync(node.root + path, "r+");
      await killAfterExchange(node);
      ftruncateSync(fd, 0);
      writeSync(fd, head, 0);
      closeSync(fd);
      const next = await run(node, ["install", second]);
      expect([next.code, next.out]).toEqual([0, expect.stringContaining("kept another program's version")]);
      assertReadable(node);
      assertNothingLost(node, head.split("\n"));
      expect(temps(node)).toEqual([]);
    });

    test("may be killed for, again and again", async () => {
      const prepared = await prepare();
      using node = prepared.node;
      const { head } = prepared;
      const fd = openSync(node.root + path, "r+");
      await killAfterExchange(node);
      ftruncateSync(fd, 0);
      writeSync(fd, head + rest, 0);
      closeSync(fd);
      // The runs that should mend it are killed at any time as well.
      for (let ms = 20; ms <= 400; ms += 20) {
        const child = start(node, ["install", second]);
        const ended = once(child, "close");
        await sleep(ms);
        child.kill("SIGKILL");
        await ended;
        assertReadable(node);
      }
      expect((await run(node, ["install", second])).code).toBe(0);
      assertReadable(node);
      assertNothingLost(node, lines);
      expect([(await run(node, ["status"])).code, temps(node)]).toEqual([0, []]);
    });
  },
);
