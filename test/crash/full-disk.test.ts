import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { ExitCode } from "../../src/error.ts";
import { type Verdicts, verdictsOf } from "../engine/verdict.ts";
import {
  assertWhole,
  configurationOf,
  crashCases,
  isFull,
  opensToChange,
  report,
  Stage,
} from "../support/crash.ts";
import { whyNot } from "../support/needs.ts";
import { trace } from "../support/tracer.ts";

const cannot = whyNot("full disks", { root: true, programs: ["unshare", "nsenter", "mount"] });

/** A small file system of its own in a private mount namespace, which ends with it. */
class Disk {
  readonly #folder = mkdtempSync(`${tmpdir()}/shimctl-disk-`);
  readonly #pid: number;

  constructor(bytes: number, mode: string) {
    const mount = `mount -t tmpfs -o size=${bytes},mode=${mode} tmpfs ${this.#folder} && touch ${this.#folder}/.mounted`;
    // No child of ours: whoever traces a program waits for all of its children.
    const line = `unshare -m --propagation private sh -c '${mount} && exec sleep 600' </dev/null >/dev/null 2>&1 & echo $!`;
    this.#pid = Number(spawnSync("sh", ["-c", line], { encoding: "utf8" }).stdout);
    const deadline = Date.now() + 60_000;
    while (!existsSync(`${this.outside}/.mounted`)) {
      if (Date.now() > deadline) throw new Error("no small file system could be mounted");
      Bun.sleepSync(2);
    }
    rmSync(`${this.outside}/.mounted`);
  }

  /** Where programs inside the namespace find it, and where this one does. */
  get inside(): string {
    return this.#folder;
  }
  get outside(): string {
    return `/proc/${this.#pid}/root${this.#folder}`;
  }

  /** What a program is started by to see it. */
  get within(): string[] {
    return ["nsenter", "-m", "-t", String(this.#pid)];
  }

  run(...argv: string[]): { code: number | null; said: string } {
    const [program = "", ...args] = [...this.within, ...argv];
    const ran = spawnSync(program, args, { encoding: "utf8" });
    return { code: ran.status, said: ran.stdout + ran.stderr };
  }

  resize(bytes: number): void {
    expect(this.run("mount", "-o", `remount,size=${bytes}`, this.#folder).code).toBe(0);
  }

  /** Bytes in use. */
  get used(): number {
    const { said } = this.run("df", "--output=used", "-B1", this.#folder);
    return Number(said.split("\n")[1]);
  }

  [Symbol.dispose](): void {
    process.kill(this.#pid, "SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const page = 4096;
const roomy = 16 << 20;
/** Where the small disk is: the whole node, what the engine reads, or what shimctl keeps. */
const places = ["/", "/etc", "/var/lib/shimctl"] as const;
const causes = /there is no space left|file system is full/;

async function fill(stage: Stage, verdicts: Verdicts, place: string, pages: number): Promise<number | null> {
  using copy = stage.copy();
  using disk = new Disk(roomy, place === "/var/lib/shimctl" ? "700" : "755");
  const at = `${copy.root}${place}`;
  mkdirSync(at, { recursive: true, mode: 0o700 });
  // The node as it is, with that part of it on the small disk.
  cpSync(at, disk.outside, { recursive: true, preserveTimestamps: true });
  const root = place === "/" ? disk.inside : copy.root;
  if (place !== "/") {
    // A root that is put together from mounts must have /run among them.
    expect(disk.run("mount", "--bind", root, root).code).toBe(0);
    expect(disk.run("mount", "--bind", disk.inside, at).code).toBe(0);
  }
  let isFilled = false;
  const { code, output: said } = trace([...disk.within, ...stage.argv(root)], {
    enter(call) {
      // There was room when it looked; by the first line of the journal another program has used it up.
      const begins = call.subject === `${root}/var/lib/shimctl/journal` && opensToChange(call);
      if (begins && !isFilled) disk.resize(disk.used + pages * page);
      isFilled ||= begins;
      return undefined;
    },
  });

  // The engine, and the runs after it, find it on a disk with room.
  using after = stage.copy();
  const found = after.root;
  const part = place === "/" ? found : `${found}${place}`;
  rmSync(found, { recursive: true });
  if (place !== "/") cpSync(root, found, { recursive: true, preserveTimestamps: true });
  rmSync(part, { recursive: true, force: true });
  cpSync(disk.outside, part, { recursive: true, preserveTimestamps: true });
  assertWhole(found, stage);
  expect(stage.served).toContain(verdicts.of(found).join(" "));
  if (code === 0) expect(configurationOf(found)).toEqual(stage.new);
  else {
    expect([code, said]).toEqual([ExitCode.unsupported, said]);
    expect(said).toMatch(causes);
    expect(said).toMatch(/^ {2}at: \/(etc|run|var)\b/m);
  }
  await stage.assertConverges(after.root);
  return code;
}

describe.skipIf(cannot !== undefined)("a disk that is full at any step of a run", () => {
  for (const crashCase of crashCases) {
    test(crashCase.name, async () => {
      const verdicts = await verdictsOf(crashCase.engineCase);
      using stage = new Stage(crashCase);
      stage.learn(verdicts);
      let [sizes, failed] = [0, 0];
      for (const place of places) {
        let code: number | null = null;
        const sizesHere = isFull
          ? Array.from({ length: 24 }, (_, pages) => pages)
          : [0, 1, 2, 3, 5, 8, 12, 20];
        for (const pages of sizesHere) {
          try {
            code = await fill(stage, verdicts, place, pages);
          } catch (cause) {
            throw new Error(`${pages} free pages at ${place}: ${cause}`, { cause });
          }
          sizes += 1;
          if (code !== 0) failed += 1;
          if (code === 0 && !isFull) break;
        }
        expect([place, code]).toEqual([place, 0]);
      }
      report("full disk", crashCase.name, { disks: sizes, "too small": failed });
      expect(failed).toBeGreaterThan(2);
    });
  }
});
