import { describe, expect, test } from "bun:test";
import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync, symlinkSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { openHost } from "../../src/host/root.ts";
import { compiled } from "../support/binary.ts";
import { Node } from "../support/node.ts";

const config = "version = 3\n";

const rootFile = "/etc/containerd/config.toml";
const asRoot = process.geteuid?.() === 0;

interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly cwd?: string;
}

/** Runs the executable, which must end by itself within 10 s. */
function run(node: Node, args: readonly string[], setting: Setting = {}): SpawnSyncReturns<string> {
  const ran = spawnSync(compiled(), args, {
    env: { ...process.env, SHIMCTL_ROOT: node.root, SHIMCTL_ENGINE_VERSION: node.version, ...setting.env },
    encoding: "utf8",
    timeout: 10_000,
    killSignal: "SIGKILL",
    ...(setting.input === undefined ? {} : { input: setting.input }),
    ...(setting.cwd === undefined ? {} : { cwd: setting.cwd }),
  });
  expect(ran.signal).toBeNull();
  return ran;
}

/** Runs a shell line in which `$SHIMCTL` is the executable. */
function shell(node: Node, line: string): SpawnSyncReturns<string> {
  return spawnSync("sh", ["-c", line], {
    env: {
      ...process.env,
      SHIMCTL: compiled(),
      SHIMCTL_ROOT: node.root,
      SHIMCTL_ENGINE_VERSION: node.version,
    },
    encoding: "utf8",
    timeout: 10_000,
  });
}

function fifo(path: string): void {
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
}

describe("the lock files", () => {
  const kata = "/run/lock/kata-deploy.lock";
  const own = "/run/shimctl/lock";

  for (const path of [kata, own])
    for (const what of ["a named pipe", "a folder"])
      test(`${what} at ${path} is refused at once`, () => {
        using node = new Node("2.1.9", config);
        mkdirSync(`${node.root}${path.slice(0, path.lastIndexOf("/"))}`, { recursive: true });
        if (what === "a folder") mkdirSync(node.root + path);
        else fifo(node.root + path);
        const ran = run(node, ["install", "kata-qemu"]);
        expect([ran.status, ran.stderr]).toEqual([
          6,
          `shimctl: Cannot lock the node, as ${what === "a folder" ? "this is a folder" : "this is not a regular file"}\n  at: ${path}\n  state: nothing was written\n  next: find out who put it there, and remove it\n`,
        ]);
      });

  test("/run/lock is open to every program, whatever the umask", () => {
    using node = new Node("2.1.9", config);
    expect(shell(node, "umask 077; $SHIMCTL install kata-qemu").status).toBe(0);
    expect(statSync(`${node.root}/run/lock`).mode & 0o7777).toBe(0o755);
    expect(statSync(`${node.root}/run/shimctl`).mode & 0o7777).toBe(0o700);
  });

  test("a time-out below a second is told as it was given, and a stopped holder is said to be stopped", async () => {
    using node = new Node("2.1.9", config);
    const holder = spawn(compiled(), ["lock", "--", "sleep", "30"], {
      env: { ...process.env, SHIMCTL_ROOT: node.root },
      stdio: "ignore",
    });
    const line = () => (existsSync(node.root + own) ? readFileSync(node.root + own, "utf8") : "");
    while (!line().includes('"start"')) await sleep(10);
    holder.kill("SIGSTOP");
    const ran = run(node, ["install", "kata-qemu", "--lock-timeout", "300ms"]);
    holder.kill("SIGCONT");
    holder.kill("SIGTERM");
    expect(ran.status).toBe(4);
    expect(ran.stderr).toContain("within 0.3 s");
    expect(ran.stderr).toContain(" (stopped)\n");
  });

  test.skipIf(!asRoot)("a lock of another user names both, and says to run as root", () => {
    using node = new Node("2.1.9", config);
    expect(run(node, ["install", "kata-qemu"]).status).toBe(0);
    expect(spawnSync("chmod", ["755", node.root]).status).toBe(0);
    const folder = compiled().slice(0, compiled().lastIndexOf("/"));
    expect(spawnSync("chmod", ["755", folder]).status).toBe(0);
    const ran = shell(node, "setpriv --reuid 65534 --regid 65534 --clear-groups $SHIMCTL install runsc");
    expect(ran.status).toBe(6);
    expect(ran.stderr).toContain("as its lock belongs to user 0 and you are 65534");
    expect(ran.stderr).toContain("next: run as root\n");
  });
});

describe("output that cannot be written", () => {
  test("is told in one line with exit code 1, and the command was carried out", () => {
    using node = new Node("2.1.9", config);
    for (const json of ["", " --json"]) {
      const ran = shell(node, `$SHIMCTL install kata-qemu${json} >/dev/full`);
      expect([ran.status, ran.stderr]).toEqual([
        1,
        "shimctl: the command was carried out, but its result could not be printed: there is no space left\n",
      ]);
    }
    expect(node.text()).toContain("imports");
  });

  test("a command that failed keeps its exit code", () => {
    using node = new Node("2.1.9", config);
    const ran = shell(node, "$SHIMCTL install no-such --json >/dev/full");
    expect([ran.status, ran.stderr]).toEqual([
      2,
      "shimctl: the command's result could not be printed: there is no space left\n",
    ]);
  });

  test("on stderr is nothing to fail for", () => {
    using node = new Node("2.1.9", config);
    const ran = shell(node, "SHIMCTL_BOGUS=1 $SHIMCTL install kata-qemu 2>/dev/full");
    expect([ran.status, ran.stdout.startsWith("installed kata-qemu\n")]).toEqual([0, true]);
    expect(shell(node, "$SHIMCTL install no-such 2>/dev/full >/dev/full").status).toBe(2);
  });
});

describe("--root", () => {
  test("every spelling of one folder is the same node", () => {
    using node = new Node("2.1.9", config);
    symlinkSync(node.root, `${node.root}/link`);
    const name = node.root.slice(node.root.lastIndexOf("/") + 1);
    for (const root of [
      `${node.root}/`,
      `${node.root}/./`,
      `/${node.root}//`,
      `${node.root}/link`,
      `./${name}`,
    ])
      expect(openHost(root.startsWith(".") ? `${node.root}/../${name}` : root).root).toBe(
        realpathSync(node.root),
      );
    const ran = run(node, ["status", "--root", name], { cwd: `${node.root}/..` });
    expect(ran.status).toBe(0);
  });

  test("that is no folder is refused, under the name that it was given by", () => {
    using node = new Node("2.1.9", config);
    for (const root of ["/nowhere", `${node.root}${rootFile}`, `${node.root}${rootFile}/x`]) {
      const ran = run(node, ["install", "kata-qemu", "--root", root]);
      expect([ran.status, ran.stderr]).toEqual([
        2,
        `shimctl: Cannot use --root, as there is no such folder\n  at: ${root}\n  state: nothing was written\n`,
      ]);
    }
    expect(run(node, ["status"], { env: { SHIMCTL_ROOT: "/nowhere" } }).stderr).toContain(
      "Cannot use SHIMCTL_ROOT, as",
    );
    expect(run(node, ["lock", "--root", "/nowhere", "--", "true"]).status).toBe(2);
    expect(existsSync("/nowhere")).toBe(false);
  });
});
