import { describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { openHost } from "../../src/host/root.ts";
import { compiled } from "../support/binary.ts";
import { underDeno } from "../support/deno.ts";
import { engineCases } from "../support/engine_case.ts";
import { fifo, run, shell } from "../support/executable.ts";
import { Node } from "../support/node.ts";

const config = "version = 3\n";

const rootFile = "/etc/containerd/config.toml";
const asRoot = process.geteuid?.() === 0;

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
    // Deno shows /proc to no program that does not have every permission.
    expect(ran.stderr.includes(" (stopped)\n")).toBe(!underDeno);
    expect(ran.stderr).not.toContain("has ended");
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

/** Opens a pipe to write once somebody reads it: before, that is ENXIO (fifo(7)). */
async function whenRead(path: string): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENXIO")) throw error;
    }
    await sleep(10);
  }
}

describe("a handler file", () => {
  const handlers = "format = 1\n[handlers.kata-qemu]\n";

  test("comes through a pipe, named or not", () => {
    using node = new Node("2.1.9", config);
    const piped = run(node, ["apply", "--dry-run", "-f", "/dev/stdin"], { input: handlers });
    expect([piped.status, piped.stdout.startsWith("would have installed kata-qemu")]).toEqual([0, true]);
    node.place("/handlers.toml", handlers);
    fifo(`${node.root}/pipe`);
    const named = shell(
      node,
      `(sleep 0.2; cat ${node.root}/handlers.toml >${node.root}/pipe) & $SHIMCTL apply --dry-run -f ${node.root}/pipe`,
    );
    expect([named.status, named.stderr]).toEqual([0, ""]);
  });

  test("that nobody writes is waited for until a signal comes", async () => {
    using node = new Node("2.1.9", config);
    fifo(`${node.root}/pipe`);
    const child = spawn(compiled(), ["apply", "-f", `${node.root}/pipe`], {
      env: { ...process.env, SHIMCTL_ROOT: node.root, SHIMCTL_ENGINE_VERSION: "2.1.9" },
      stdio: "ignore",
    });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    const writer = await whenRead(`${node.root}/pipe`);
    child.kill("SIGTERM");
    expect(await ended).toBe(143);
    closeSync(writer);
  });

  test("that cannot be read is refused with the reason", () => {
    using node = new Node("2.1.9", config);
    node.place("/large.toml", new Uint8Array((4 << 20) + 1).fill(0x23));
    node.place("/missing.toml", "format = 1\n");
    node.place("/flat.toml", 'format = 1\nhandlers = "x"\n');
    node.place("/inner.toml", "format = 1\nhandlers.x = 1\n");
    node.place("/owner.toml", `format = 1\nowner = "${"X".repeat(500)}"\n[handlers.crun]\n`);
    for (const [path, reason] of [
      ["/not-there", "Cannot read the handler file, as it is not there"],
      ["/etc", "Cannot read the handler file, as it is a folder"],
      ["/large.toml", "Cannot read the handler file, as it is larger than 4 MiB"],
      ["/missing.toml", "Cannot read this handler file, as 'handlers' is missing"],
      ["/flat.toml", "Cannot read 'handlers', which must be tables [handlers.NAME]"],
      ["/inner.toml", "Cannot read 'handlers.x', which must be a table [handlers.x]"],
      [
        "/owner.toml",
        `Cannot read 'owner', which must be at most 40 lower-case letters, digits or '-', with no '-' at either end, and not 'shared': ${"X".repeat(60)}…`,
      ],
    ] as const) {
      const ran = run(node, ["apply", "-f", node.root + path]);
      expect([ran.status, ran.stderr.split("\n")[0]]).toEqual([2, `shimctl: ${reason}`]);
    }
    const ran = run(node, ["apply", "-f", "/dev/zero"]);
    expect([ran.status, ran.stderr.includes("larger than 4 MiB")]).toEqual([2, true]);
  });

  test("gives way to flags and variables, for each handler too", async () => {
    const plugins = ["all", "one", "variable", "flag"].map(
      (name) => `[proxy_plugins.${name}]\ntype = "snapshot"\naddress = "/run/${name}.sock"\n`,
    );
    using node = new Node("2.1.9", config + plugins.join(""));
    node.place(
      "/handlers.toml",
      'format = 1\nsnapshotter = "all"\nallow_missing = true\n[handlers.kata-qemu]\n[handlers.crun]\nsnapshotter = "one"\nprefix = "/one"\n',
    );
    const made = async (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
      const ran = await node.run(
        ["apply", "--json", "--engine-version", "2.1.9", "-f", `${node.root}/handlers.toml`, ...args],
        env,
      );
      return (ran.json()["handlers"] as { name: string; snapshotter?: string }[])
        .map(
          (handler) =>
            `${handler.name} ${handler.snapshotter}${JSON.stringify(handler).includes("/one/") ? " /one" : ""}`,
        )
        .sort();
    };
    expect(await made([])).toEqual(["crun one /one", "kata-qemu all"]);
    expect(await made([], { SHIMCTL_SNAPSHOTTER: "variable" })).toEqual([
      "crun variable /one",
      "kata-qemu variable",
    ]);
    expect(
      await made(["--snapshotter", "flag", "--prefix", "/two"], { SHIMCTL_SNAPSHOTTER: "variable" }),
    ).toEqual(["crun flag", "kata-qemu flag"]);
    const refused = await node.run([
      "apply",
      "--allow-missing=false",
      "-f",
      `${node.root}/handlers.toml`,
      "--prefix",
      "/nowhere",
    ]);
    expect(refused.code).toBe(3);
  });
});

test("an engine's binary that is a pipe or a folder is not waited for", () => {
  using node = new Node("2.1.9", config);
  mkdirSync(`${node.root}/usr/local/bin/containerd`);
  fifo(`${node.root}/usr/bin/containerd`);
  expect(run(node, ["status"], { env: { SHIMCTL_ENGINE_VERSION: "" } }).status).toBe(0);
});

describe.each(engineCases)("every JSON document has the same fields on $name", (engineCase) => {
  const fields = [
    "format",
    "command",
    "owner",
    "result",
    "changes",
    "handlers",
    "proof",
    "warnings",
    "notes",
    "error",
  ];
  test.each([
    [["install", "--bogus", "--json"], "refused", 2],
    [["nonsense", "--json"], "refused", 2],
    [["install", "no-such", "--json"], "refused", 2],
    [["diff", "install", "no-such", "--json"], "refused", 2],
    [["diff", "--json"], "unchanged", 0],
    [["install", "kata-qemu", "--json", "--", "x"], "refused", 2],
    [["install", "kata-qemu", "--json"], "changed", 0],
    [["status", "--json"], "in sync", 0],
    [["status", "--json", "--root", "/nowhere"], "refused", 2],
    [["check", "--json"], "ok", 0],
    [["check", "/nowhere", "--json"], "refused", 2],
    [["presets", "--json"], "ok", 0],
    [["render", "--json"], "refused", 2],
    [["version", "--json"], "ok", 0],
  ] as const)("%p", async (args, result, code) => {
    using node = Node.of(engineCase);
    const ran = await node.run(args);
    const document = ran.json();
    expect([ran.code, document["result"], ran.err]).toEqual([code, result, ""]);
    expect(fields.filter((field) => !Object.hasOwn(document, field))).toEqual([]);
  });

  test("the variable asks for JSON as well, and `lock` keeps it from the command", async () => {
    using node = Node.of(engineCase);
    expect((await node.run(["install", "--bogus"], { SHIMCTL_JSON: "true" })).json()["result"]).toBe(
      "refused",
    );
    const lock = await node.run(["lock", "--bogus", "--", "x", "--json"]);
    expect([lock.out, lock.err.startsWith("shimctl: Cannot use --bogus")]).toEqual(["", true]);
  });
});

describe("shimctl lock", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGHUP", 129],
    ["SIGTERM", 143],
  ] as const)("passes %s on as what it was", async (signal, code) => {
    using node = new Node("2.1.9", config);
    const said = `${node.root}/said`;
    const script = `for s in INT HUP TERM; do trap "echo SIG$s >${said}; trap - $s; kill -$s $$" $s; done; touch ${said}; while :; do sleep 0.05; done`;
    const child = spawn(compiled(), ["lock", "--", "sh", "-c", script], {
      env: { ...process.env, SHIMCTL_ROOT: node.root },
      stdio: "ignore",
    });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    while (!existsSync(said)) await sleep(10);
    child.kill(signal);
    expect(await ended).toBe(code);
    expect(readFileSync(said, "utf8")).toBe(`${signal}\n`);
  });

  test("a command that cannot be run is a usage error with the reason", () => {
    using node = new Node("2.1.9", config);
    node.place("/text", "x", 0o644);
    for (const [command, reason] of [
      ["", "its name is empty"],
      ["no-such-program", "there is no such program: no-such-program"],
      [`${node.root}/text`, `permission is denied: ${node.root}/text`],
      [`${node.root}/etc`, `permission is denied: ${node.root}/etc`],
    ] as const) {
      const ran = run(node, ["lock", "--", command]);
      expect([ran.status, ran.stderr.split("\n")[0]]).toEqual([
        2,
        `shimctl: Cannot run this command, as ${reason}`,
      ]);
    }
  });
});

describe("--prove-with", () => {
  const refused = "shimctl: The engine's own parser refuses the result: it said nothing (exit code 3)";

  test.each(engineCases)("a parser that says nothing is quoted with its exit code on $name", (engineCase) => {
    using node = Node.of(engineCase);
    const before = node.tree();
    node.place("/parser", "#!/bin/sh\nexit 3\n", 0o755);
    const ran = run(node, ["install", "kata-qemu", "--prove-with", `${node.root}/parser`]);
    expect([ran.status, ran.stderr.split("\n")[0]]).toEqual([3, refused]);
    rmSync(`${node.root}/parser`);
    expect(node.tree()).toEqual(before);
  });

  test("a TMPDIR that is not there, and a parser that cannot be run, are told", () => {
    using node = new Node("2.1.9", config);
    const args = ["install", "crun", "--prove-with", "/bin/true"];
    const ran = run(node, args, { env: { TMPDIR: "/nowhere" } });
    expect([ran.status, ran.stderr]).toEqual([
      6,
      "shimctl: Cannot make a folder for the engine's parser here, as it is not there\n  at: /nowhere\n  state: nothing was written\n  next: let TMPDIR name a folder that you may write\n",
    ]);
    const missing = run(node, ["install", "crun", "--prove-with", "/nowhere"]);
    expect([missing.status, missing.stderr.split("\n")[0]]).toEqual([
      2,
      "shimctl: Cannot run the engine's own parser, as it is not there",
    ]);
  });
});

test("an error about a variable's value names the variable", () => {
  using node = new Node("2.1.9", config);
  for (const [name, args] of [
    ["SHIMCTL_ENGINE_VERSION", ["status"]],
    ["SHIMCTL_OWNER", ["install", "crun"]],
    ["SHIMCTL_FILE", ["apply"]],
    ["SHIMCTL_PROVE_WITH", ["install", "crun"]],
    ["SHIMCTL_CONFIG", ["status"]],
  ] as const) {
    const ran = run(node, args, { env: { [name]: "/no where/x" } });
    expect([ran.status, ran.stderr.includes(name)]).toEqual([2, true]);
  }
});
