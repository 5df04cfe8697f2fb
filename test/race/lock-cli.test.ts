import { describe, expect, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { compiled } from "../support/binary.ts";
import { Node } from "../support/node.ts";

const config =
  'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n';
const flock = existsSync("/usr/bin/flock");
if (!flock) console.log("(skip) tests with flock(1): it is not installed");

function start(node: Node, ...args: string[]): ChildProcess {
  return spawn(compiled(), args, {
    env: { ...process.env, SHIMCTL_ROOT: node.root, SHIMCTL_ENGINE_VERSION: node.version },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

function run(node: Node, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(compiled(), args, {
    env: { ...process.env, SHIMCTL_ROOT: node.root, SHIMCTL_ENGINE_VERSION: node.version },
    encoding: "utf8",
  });
}

async function until(condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 10) {
    if (waited > 60_000) throw new Error("it did not happen within 60 s");
    await sleep(10);
  }
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.on("close", resolve));
}

describe("the node's lock", () => {
  test.skipIf(!flock)(
    "a foreign flock on kata-deploy's lock file delays shimctl, and the error names its pid",
    async () => {
      using node = new Node("1.7.24", config);
      mkdirSync(`${node.root}/run/lock`, { recursive: true });
      const path = `${node.root}/run/lock/kata-deploy.lock`;
      const holder = spawn("flock", [path, "sleep", "60"], { stdio: "ignore", detached: true });
      await until(() => existsSync(path) && spawnSync("flock", ["-n", path, "true"]).status !== 0);
      const ran = run(node, "install", "kata-qemu", "--lock-timeout", "300ms");
      // Both: flock(1), and the program that it runs under the lock.
      process.kill(-(holder.pid ?? 0), "SIGKILL");
      expect(ran.status).toBe(4);
      expect(ran.stderr).toContain(String(holder.pid));
    },
  );

  test.skipIf(!flock)("shimctl delays flock on kata-deploy's lock file", async () => {
    using node = new Node("1.7.24", config);
    const holder = start(node, "lock", "--", "sleep", "60");
    const path = `${node.root}/run/lock/kata-deploy.lock`;
    await until(() => existsSync(path) && spawnSync("flock", ["-n", path, "true"]).status === 1);
    holder.kill("SIGTERM");
    await ended(holder);
    expect(spawnSync("flock", ["-n", path, "true"]).status).toBe(0);
  });

  test("shimctl delays an fcntl locker on its own file", async () => {
    using node = new Node("1.7.24", config);
    const holder = start(node, "lock", "--", "sleep", "60");
    const path = `${node.root}/run/shimctl/lock`;
    const tryLock = () =>
      spawnSync("python3", [
        "-c",
        `import fcntl;f=open(${JSON.stringify(path)},"r+");fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)`,
      ]).status;
    await until(() => existsSync(path) && tryLock() === 1);
    holder.kill("SIGTERM");
    await ended(holder);
    expect(tryLock()).toBe(0);
  });

  test("a killed holder frees it at once", async () => {
    using node = new Node("1.7.24", config);
    const pid = `${node.root}/pid`;
    const holder = start(
      node,
      "lock",
      "--",
      "sh",
      "-c",
      `echo $$ >${pid}.new && mv ${pid}.new ${pid} && exec sleep 60`,
    );
    await until(() => existsSync(pid));
    expect(run(node, "install", "kata-qemu", "--lock-timeout", "0").status).toBe(4);
    // Its pipes stay open in the command: "close" would wait for that too.
    const killed = once(holder, "exit");
    holder.kill("SIGKILL");
    await killed;
    // The command under the lock holds it too, until it ends.
    expect(run(node, "install", "kata-qemu", "--lock-timeout", "0").status).toBe(4);
    process.kill(Number(readFileSync(pid, "utf8")), "SIGKILL");
    expect(run(node, "install", "kata-qemu", "--lock-timeout", "5s").status).toBe(0);
  });

  test("the time-out names a shimctl holder with host, pid, command, step and age", async () => {
    using node = new Node("1.7.24", config);
    const holder = start(node, "lock", "--", "sleep", "60");
    await until(
      () =>
        existsSync(`${node.root}/run/shimctl/lock`) &&
        readFileSync(`${node.root}/run/shimctl/lock`, "utf8").includes("lock"),
    );
    const ran = run(node, "install", "kata-qemu", "--lock-timeout", "200ms", "--json");
    const { error } = JSON.parse(ran.stdout) as {
      error: { code: string; message: string; retryable: boolean };
    };
    expect([ran.status, error.code, error.retryable]).toEqual([4, "lock-timeout", true]);
    expect(error.message).toContain(String(holder.pid));
    expect(error.message).toContain("lock -- sleep");
    expect(error.message).toMatch(/\d+ ?s/);
    holder.kill("SIGTERM");
    await ended(holder);
  });

  test("a shimctl under `shimctl lock` does not wait for itself", () => {
    using node = new Node("1.7.24", config);
    const ran = run(node, "lock", "--", compiled(), "install", "kata-qemu", "--lock-timeout", "1s");
    expect([ran.status, ran.stderr.includes("time")]).toEqual([0, false]);
    expect(node.text()).toContain("kata-qemu");
  });

  test("two shimctl under one lock still exclude one another", () => {
    using node = new Node("1.7.24", config);
    const script = `${compiled()} install kata-qemu & ${compiled()} install runsc & ${compiled()} install crun & wait`;
    expect(run(node, "lock", "--", "sh", "-c", script).status).toBe(0);
    const status = JSON.parse(run(node, "status", "--json").stdout) as {
      result: string;
      owners: { handlers: string[] }[];
    };
    expect([status.result, status.owners[0]?.handlers.sort()]).toEqual([
      "in sync",
      ["crun", "kata-qemu", "runsc"],
    ]);
  });

  test("the command's exit code is the lock's", () => {
    using node = new Node("1.7.24", config);
    expect(run(node, "lock", "--", "sh", "-c", "exit 42").status).toBe(42);
  });
});

describe.skipIf(!existsSync("/usr/bin/strace"))("an install that has nothing to do", () => {
  test("opens nothing for writing but the locks, and renames nothing", () => {
    using node = new Node("2.1.9", "version = 3\n");
    expect(run(node, "install", "kata-qemu").status).toBe(0);
    const trace = `${node.root}/trace`;
    const ran = spawnSync(
      "strace",
      [
        "-f",
        "-qq",
        "-o",
        trace,
        "-e",
        "trace=openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,truncate,ftruncate",
        compiled(),
        "install",
        "kata-qemu",
        "--root",
        node.root,
        "--engine-version",
        "2.1.9",
      ],
      { encoding: "utf8" },
    );
    expect([ran.status, ran.stdout]).toEqual([0, "unchanged: owner 'default' has kata-qemu\n"]);
    const inNode = readFileSync(trace, "utf8")
      .split("\n")
      .filter((line) => line.includes(node.root));
    // A mkdir of what is there already makes nothing.
    const writes = inNode.filter(
      (line) =>
        /O_WRONLY|O_RDWR|O_CREAT|rename|unlink|mkdir|truncate|creat\(/.test(line) &&
        !line.endsWith("EEXIST (File exists)"),
    );
    expect(
      writes.filter(
        (line) => !line.includes("/run/shimctl/lock") && !line.includes("/run/lock/kata-deploy.lock"),
      ),
    ).toEqual([]);
    expect(inNode.length).toBeGreaterThan(3);
  });
});
