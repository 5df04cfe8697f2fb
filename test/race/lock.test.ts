import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { ShimctlError } from "../../src/error.ts";
import { lockingProcess } from "../../src/host/holder.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import {
  acquireLock,
  inheritable,
  type LockHolder,
  type LockOptions,
  type NodeLock,
} from "../../src/host/lock.ts";
import { openHost } from "../../src/host/root.ts";

let folder = "";
let root = "";
let runs = 0;
const children: ChildProcess[] = [];
beforeAll(() => {
  folder = mkdtempSync(`${tmpdir()}/shimctl-lock-`);
});
beforeEach(() => {
  root = `${folder}/${++runs}`;
  mkdirSync(root);
});
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

const ours = () => `${root}/run/shimctl/lock`;
const katas = () => `${root}/run/lock/kata-deploy.lock`;
const take = (more: Partial<LockOptions> = {}) =>
  acquireLock(openHost(root), { timeoutMs: 60_000, owner: "default", command: "install kata", ...more });

async function timeout(more: Partial<LockOptions> = {}): Promise<string> {
  try {
    (await take({ timeoutMs: 200, ...more })).release();
    return "it got the lock";
  } catch (error) {
    if (error instanceof ShimctlError && error.code === "lock-timeout") return error.message;
    throw error;
  }
}

/** A child process; resolves with its first line of output. */
async function start(
  command: string,
  args: readonly string[],
  lock?: NodeLock,
): Promise<[ChildProcess, string]> {
  const passed = lock === undefined ? { fds: [], env: {} } : inheritable(lock);
  const child = spawn(command, args, {
    stdio: ["pipe", "pipe", "inherit", ...passed.fds],
    env: { ...process.env, ...passed.env },
  });
  children.push(child);
  if (child.stdout === null) throw new Error("no pipe");
  const [line] = await once(child.stdout, "data");
  return [child, String(line).trim()];
}

const source = (name: string) => JSON.stringify(`${import.meta.dirname}/../../src/host/${name}`);
const script = () => `
  const { acquireLock, inheritable } = await import(${source("lock.ts")});
  const { openHost } = await import(${source("root.ts")});
  const take = (timeoutMs) => acquireLock(openHost(${JSON.stringify(root)}), { timeoutMs, owner: "child", command: "apply" });`;

/** A shimctl that takes the lock, says how, and keeps it until its standard input ends. */
const holder = (lock?: NodeLock, more = "") =>
  start(
    process.execPath,
    [
      "-e",
      `${script()} const lock = await take(60000); ${more} console.log("inherited", lock.inherited); process.stdin.resume(); process.stdin.on("end", () => { lock.release(); process.exit(); });`,
    ],
    lock,
  );
/** A shimctl that tries for a moment. */
const attempt = async (lock?: NodeLock) =>
  (
    await start(
      process.execPath,
      [
        "-e",
        `${script()} try { console.log("inherited", (await take(200)).inherited); } catch (error) { console.log(error.message); }`,
      ],
      lock,
    )
  )[1];
const flock = (path: string) => start("flock", [path, "sh", "-c", "echo locked; read line"]);
const isFree = (path: string) => spawnSync("flock", ["-n", path, "true"]).status === 0;
async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.stdin?.end();
  await ended;
}
async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
const has = (program: string) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;
if (!has("flock")) console.log("skipped: flock(1) is not installed");
if (!has("python3")) console.log("skipped: python3 is not installed");

describe("the node's lock", () => {
  test("is free again after its release", async () => {
    (await take()).release();
    (await take()).release();
  });

  test("keeps a second holder in the same process out", async () => {
    const lock = await take();
    expect(await timeout()).toContain("held by shimctl on");
    lock.release();
  });

  test("keeps another process out, and names it with its command, owner and step", async () => {
    const [child] = await holder(undefined, 'lock.step("verify");');
    expect(await timeout()).toMatch(
      new RegExp(
        `held by shimctl on \\S+ \\(pid ${child.pid}\\), apply for owner child, step verify, for \\d+ s$`,
      ),
    );
    await end(child);
  });

  test("is free as soon as its holder is killed", async () => {
    const [child] = await holder();
    await kill(child);
    (await take({ timeoutMs: 0 })).release();
  });

  test.skipIf(!has("flock"))("is seen by flock(1), on our file and on kata-deploy's", async () => {
    const lock = await take();
    expect([isFree(ours()), isFree(katas())]).toEqual([false, false]);
    lock.release();
    expect([isFree(ours()), isFree(katas())]).toEqual([true, true]);
  });

  test.skipIf(!has("flock"))("waits for flock(1) on our file, and names it", async () => {
    (await take()).release();
    const [child] = await flock(ours());
    expect(await timeout()).toContain(
      `held by another program (pid ${child.pid}, flock), which holds /run/shimctl/lock`,
    );
    await end(child);
  });

  test.skipIf(!has("flock"))("waits for kata-deploy, and names its lock", async () => {
    (await take()).release();
    const [child] = await flock(katas());
    expect(await timeout()).toContain("which holds /run/lock/kata-deploy.lock");
    await end(child);
    (await take()).release();
  });

  test.skipIf(!has("flock"))("keeps its own file while it waits for kata-deploy", async () => {
    (await take()).release();
    const [child] = await flock(katas());
    const waiting = take();
    await sleep(200);
    expect(isFree(ours())).toBe(false);
    expect(await timeout()).toContain("step waiting for kata-deploy");
    await end(child);
    (await waiting).release();
  });

  test.skipIf(!has("python3"))("waits for a POSIX lock, and names its process", async () => {
    (await take()).release();
    const code = `import fcntl; f = open(${JSON.stringify(ours())}, "r+"); fcntl.lockf(f, fcntl.LOCK_EX); print("locked", flush=True); input()`;
    const [child] = await start("python3", ["-c", code]);
    expect(await timeout()).toMatch(
      /held by another program \(pid \d+, python3?.*\), which holds \/run\/shimctl\/lock/,
    );
    await kill(child);
  });

  test.skipIf(!has("flock"))("does not take the line of a killed holder for the present one", async () => {
    const [first] = await holder();
    await kill(first);
    expect(readFileSync(ours(), "utf8")).toContain('"owner":"child"');
    const [second] = await flock(ours());
    expect(await timeout()).toContain("held by another program");
    await end(second);
  });

  test("is one file that is neither cut nor replaced", async () => {
    const first = await take();
    const { ino, size, mode } = statSync(ours());
    first.release();
    const second = await take();
    expect(statSync(ours()).ino).toBe(ino);
    expect([size, mode & 0o7777, statSync(`${root}/run/shimctl`).mode & 0o7777]).toEqual([512, 0o600, 0o700]);
    second.release();
    expect(readFileSync(ours(), "utf8")).toBe(`${" ".repeat(511)}\n`);
  });

  test("is taken on the new file when somebody removed the old one", async () => {
    const lock = await take();
    unlinkSync(ours());
    const second = take();
    unlinkSync(katas());
    (await second).release();
    lock.release();
  });

  test("does not reach children that it is not passed to", async () => {
    const libc = await loadLibc();
    const lock = await take();
    expect(lock.fds.map((fd) => libc.fcntl(fd, 1, 0))).toEqual([1, 1]);
    lock.release();
  });

  test("has a line that fits, whatever the command", async () => {
    const lock = await take({ command: "é".repeat(400), owner: '"'.repeat(300) });
    expect(statSync(ours()).size).toBe(512);
    expect(JSON.parse(readFileSync(ours(), "utf8"))).toMatchObject({ pid: process.pid });
    lock.release();
  });
});

describe("waiting for the lock", () => {
  test("does not stop anything else, and tells who holds it", async () => {
    const lock = await take();
    const stop = new AbortController();
    const told: LockHolder[] = [];
    let ticks = 0;
    const ticking = setInterval(() => {
      if (++ticks > 20 && told.length >= 3) stop.abort();
    }, 10);
    const begin = performance.now();
    const waiting = take({ noticeMs: 100, onWait: (who) => told.push(who), signal: stop.signal });
    await expect(waiting).rejects.toMatchObject({ code: "interrupted" });
    clearInterval(ticking);
    lock.release();
    expect(told.length).toBeLessThanOrEqual((performance.now() - begin) / 100);
    expect(told[0]).toMatchObject({ pid: process.pid, shimctl: true });
  });

  test("ends with the signal", async () => {
    const lock = await take();
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 50);
    await expect(take({ signal: stop.signal })).rejects.toMatchObject({ code: "interrupted" });
    lock.release();
  });

  test("lets eight processes through one after the other", async () => {
    const note = `${root}/notes`;
    writeFileSync(note, "");
    const work = `${script()} const fs = require("fs"); const lock = await take(60000);
      fs.appendFileSync(${JSON.stringify(note)}, "in\\n"); await new Promise((done) => setTimeout(done, 20));
      fs.appendFileSync(${JSON.stringify(note)}, "out\\n"); lock.release(); console.log("done");`;
    await Promise.all(Array.from({ length: 8 }, () => start(process.execPath, ["-e", work])));
    expect(readFileSync(note, "utf8")).toBe("in\nout\n".repeat(8));
  }, 120_000);
});

describe("a lock that is passed on", () => {
  test("counts as held in the child", async () => {
    const lock = await take();
    expect(await attempt(lock)).toBe("inherited true");
    lock.release();
  });

  test("is not held by a child that did not inherit it", async () => {
    const lock = await take();
    expect(await attempt()).toContain("Cannot take the node's lock");
    lock.release();
  });

  test("lets one of two siblings in at a time", async () => {
    const lock = await take();
    const [first, how] = await holder(lock);
    expect(how).toBe("inherited true");
    expect(await attempt(lock)).toContain("held by another command under the same shimctl lock");
    await end(first);
    expect(await attempt(lock)).toBe("inherited true");
    lock.release();
  });

  test("can be passed on again", async () => {
    const lock = await take();
    const pass = `const { spawnSync } = require("child_process"); const { fds, env } = inheritable(lock);
      const child = spawnSync(process.execPath, ["-e", process.env.SCRIPT], { stdio: ["ignore", "pipe", "inherit", ...fds], env: { ...process.env, ...env } });
      console.log(String(child.stdout).trim());`;
    process.env["SCRIPT"] = `${script()} console.log("grandchild", (await take(1000)).inherited);`;
    const [child, line] = await holder(lock, pass);
    expect(line).toStartWith("grandchild true");
    await end(child);
    lock.release();
  });

  test("outlives its holder in the child", async () => {
    const pass = `const { spawn } = require("child_process"); const { fds, env } = inheritable(lock);
      const child = spawn("sleep", ["600"], { stdio: ["ignore", "ignore", "ignore", ...fds], env: { ...process.env, ...env } });
      await new Promise((done) => child.on("spawn", done));
      console.log(child.pid);`;
    const [child, pid] = await holder(undefined, pass);
    await kill(child);
    try {
      expect(await timeout()).toContain(`(pid ${child.pid}, which has ended) started`);
    } finally {
      process.kill(Number.parseInt(pid, 10), "SIGKILL");
    }
    (await take()).release();
  });

  test("stays when a child that inherited it ends", async () => {
    const lock = await take();
    const [child] = await holder(lock);
    await end(child);
    expect(await timeout()).toContain("held by shimctl");
    lock.release();
  });

  for (const value of ["0", "7", "999999", "-1", "x", ""]) {
    test(`is not believed from a variable alone: '${value}'`, async () => {
      const lock = await take();
      process.env["SHIMCTL_LOCK_FD"] = value;
      try {
        expect(await attempt()).toContain("Cannot take the node's lock");
      } finally {
        delete process.env["SHIMCTL_LOCK_FD"];
      }
      lock.release();
    });
  }
});

describe("lock files that are not ours", () => {
  const refused = { code: "unsupported-node" };

  test("are refused when the folder is a link", async () => {
    mkdirSync(`${root}/run`);
    mkdirSync(`${root}/elsewhere`);
    symlinkSync(`${root}/elsewhere`, `${root}/run/shimctl`);
    await expect(take()).rejects.toMatchObject(refused);
  });

  test("are refused when the file is a link", async () => {
    mkdirSync(`${root}/run/shimctl`, { recursive: true });
    symlinkSync(`${root}/elsewhere`, ours());
    await expect(take()).rejects.toMatchObject(refused);
  });

  test("are refused when kata-deploy's is a link", async () => {
    mkdirSync(`${root}/run/lock`, { recursive: true });
    symlinkSync(`${root}/elsewhere`, katas());
    await expect(take()).rejects.toMatchObject(refused);
  });

  test.skipIf(process.geteuid?.() !== 0)("are refused when the folder belongs to somebody else", async () => {
    mkdirSync(`${root}/run/shimctl`, { recursive: true });
    spawnSync("chown", ["4711", `${root}/run/shimctl`]);
    await expect(take()).rejects.toMatchObject(refused);
  });
});

describe("/proc/locks", () => {
  const file = { dev: 0xfe00n, ino: 42n };
  const line = (kind: string, pid: number, place: string) =>
    `1: ${kind}  ADVISORY  WRITE ${pid} ${place} 0 EOF\n`;

  test("names the process that has a lock on the file", () =>
    expect(lockingProcess(line("FLOCK", 7, "fe:00:43") + line("FLOCK", 8, "fe:00:42"), file)).toBe(8));
  test("does not name one that waits", () =>
    expect(lockingProcess("1: -> FLOCK  ADVISORY  WRITE 9 fe:00:42 0 EOF\n", file)).toBeUndefined());
  test("does not name an open file description, or a process out of sight", () =>
    expect(
      lockingProcess(line("OFDLCK", -1, "fe:00:42") + line("FLOCK", 0, "fe:00:42"), file),
    ).toBeUndefined());
  test("does not take a lease for a lock", () =>
    expect(lockingProcess("1: LEASE  ACTIVE    READ 7 fe:00:42 0 EOF\n", file)).toBeUndefined());
});
