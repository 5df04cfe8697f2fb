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
import { Node } from "../support/node.ts";

const config =
  '# theirs\nversion = 2\n\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n';
const rootFile = "/etc/containerd/config.toml";
/** What the other program writes in place, in two parts; the first alone does not parse. */
const head = `# written by another program\n${config}\n[debug]\n  level = "in`;
const rest = 'fo"\n';
const lines = (head + rest).split("\n").filter((line) => !config.includes(line));

interface Ended {
  readonly code: number | null;
  readonly out: string;
}

function start(node: Node, args: readonly string[]): ChildProcess {
  const options = ["--json", "--root", node.root, "--engine-version", node.version];
  return spawn(compiled(), [...args, ...options], { stdio: ["ignore", "pipe", "ignore"] });
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

/** Starts an install while `fd` is open for writing, and kills it as soon as its version is visible. */
async function killAfterExchange(node: Node): Promise<void> {
  const path = node.root + rootFile;
  const { ino } = statSync(path);
  const child = start(node, ["install", "kata-qemu"]);
  const ended = once(child, "close");
  while (statSync(path).ino === ino && child.exitCode === null) await sleep(1);
  child.kill("SIGKILL");
  await ended;
  expect([child.signalCode, statSync(path).ino === ino]).toEqual(["SIGKILL", false]);
  expect(temps(node)).toHaveLength(1);
}

function temps(node: Node): string[] {
  return readdirSync(`${node.root}/etc/containerd`).filter((name) => name.endsWith(".tmp"));
}

/** Every line of the other program is in the file, or in what was kept aside. */
function assertNothingLost(node: Node, written: readonly string[]): void {
  const folder = `${node.root}/var/lib/shimctl/conflict`;
  const kept = existsSync(folder)
    ? readdirSync(folder).map((name) => readFileSync(`${folder}/${name}`, "utf8"))
    : [];
  const texts = [node.text(), ...kept];
  expect(written.filter((line) => !texts.some((text) => text.includes(line)))).toEqual([]);
}

function assertReadable(node: Node): void {
  expect(() => parse(node.text())).not.toThrow();
}

describe("a program that has the file open for writing while shimctl is killed", () => {
  test("is waited for, and what it wrote comes back once it is done", async () => {
    using node = new Node("1.7.24", config);
    const fd = openSync(node.root + rootFile, "r+");
    await killAfterExchange(node);
    assertReadable(node);
    ftruncateSync(fd, 0);
    writeSync(fd, head, 0);

    const refused = await run(node, ["install", "runsc"]);
    expect([refused.code, JSON.parse(refused.out).error.retryable]).toEqual([5, true]);
    expect(refused.out).toContain(temps(node)[0] ?? "no temporary file");
    assertReadable(node);

    writeSync(fd, rest, Buffer.byteLength(head));
    closeSync(fd);
    expect((await run(node, ["install", "runsc"])).code).toBe(0);
    assertReadable(node);
    assertNothingLost(node, lines);
    expect([node.text().includes("runsc"), temps(node)]).toEqual([true, []]);
    expect((await run(node, ["status"])).code).toBe(0);
  });

  test("may finish while the next run waits", async () => {
    using node = new Node("1.7.24", config);
    const fd = openSync(node.root + rootFile, "r+");
    await killAfterExchange(node);
    ftruncateSync(fd, 0);
    writeSync(fd, head, 0);
    const next = run(node, ["install", "runsc"]);
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
    using node = new Node("1.7.24", config);
    const fd = openSync(node.root + rootFile, "r+");
    await killAfterExchange(node);
    ftruncateSync(fd, 0);
    writeSync(fd, head, 0);
    closeSync(fd);
    const next = await run(node, ["install", "runsc"]);
    expect([next.code, next.out]).toEqual([0, expect.stringContaining("kept another program's version")]);
    assertReadable(node);
    assertNothingLost(node, head.split("\n"));
    expect(temps(node)).toEqual([]);
  });

  test("may be killed for, again and again", async () => {
    using node = new Node("1.7.24", config);
    const fd = openSync(node.root + rootFile, "r+");
    await killAfterExchange(node);
    ftruncateSync(fd, 0);
    writeSync(fd, head + rest, 0);
    closeSync(fd);
    // The runs that should mend it are killed at any time as well.
    for (let ms = 20; ms <= 400; ms += 20) {
      const child = start(node, ["install", "runsc"]);
      const ended = once(child, "close");
      await sleep(ms);
      child.kill("SIGKILL");
      await ended;
      assertReadable(node);
    }
    expect((await run(node, ["install", "runsc"])).code).toBe(0);
    assertReadable(node);
    assertNothingLost(node, lines);
    expect([(await run(node, ["status"])).code, temps(node)]).toEqual([0, []]);
  });
});
