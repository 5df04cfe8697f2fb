import { describe, expect, test } from "bun:test";
import { existsSync, lstatSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { Node } from "../support/node.ts";

const config = `# the platform team's
version = 3

[plugins.'io.containerd.cri.v1.images'.registry.configs.'r.example.com'.auth]
  password = "hunter2-canary"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`;
const old =
  'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n';
const rootFile = "/etc/containerd/config.toml";

describe("install and uninstall", () => {
  for (const [version, content] of [
    ["2.1.9", config],
    ["1.7.24", old],
  ] as const) {
    test(`on ${version} the tree comes back to the same bytes, modes and owners`, async () => {
      using node = new Node(version, content);
      const before = node.tree();
      expect((await node.run(["install", "kata-qemu", "runsc", "crun"])).code).toBe(0);
      expect(node.tree()).not.toEqual(before);
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect(node.tree()).toEqual(before);
    });
  }

  test("after the last handler is gone the state folder holds a record without handlers", async () => {
    using node = new Node("2.1.9", config);
    await node.run(["install", "kata-qemu"]);
    await node.run(["uninstall", "--all"]);
    expect(readdirSync(`${node.root}/var/lib/shimctl`).sort()).toEqual(["journal", "record.json", "store"]);
    expect(JSON.parse(readFileSync(`${node.root}/var/lib/shimctl/record.json`, "utf8"))).toEqual({
      format: 1,
      roots: {},
      folders: [],
    });
  });

  test("a second install is unchanged", async () => {
    using node = new Node("2.1.9", config);
    await node.run(["install", "kata-qemu"]);
    const before = node.tree();
    const again = await node.run(["install", "kata-qemu", "--json"]);
    expect(again.json()["result"]).toBe("unchanged");
    expect(node.tree()).toEqual(before);
  });

  test("a second uninstall is unchanged", async () => {
    using node = new Node("2.1.9", config);
    expect((await node.run(["uninstall", "kata-qemu", "--json"])).json()["result"]).toBe("unchanged");
  });

  test("uninstalling one handler leaves the owner's others", async () => {
    using node = new Node("2.1.9", config);
    await node.run(["install", "kata-qemu", "runsc"]);
    await node.run(["uninstall", "kata-qemu"]);
    const status = (await node.run(["status", "--json"])).json();
    expect(status["owners"]).toMatchObject([{ owner: "default", handlers: ["runsc"] }]);
  });

  test("a handler that shimctl did not install is not uninstalled", async () => {
    using node = new Node("2.1.9", config);
    const ran = await node.run(["uninstall", "runc"]);
    expect(ran.code).toBe(5);
    expect(node.text()).toBe(config);
  });

  test("a line that another tool added after install stays", async () => {
    using node = new Node("1.7.24", old);
    await node.run(["install", "kata-qemu"]);
    node.place(rootFile, `# added at the top\n${node.text()}# added at the end\n`);
    await node.run(["uninstall", "--all"]);
    expect(node.text()).toBe(`# added at the top\n${old}# added at the end\n`);
  });

  test("a symbolic link to the configuration is kept and its target changed", async () => {
    using node = new Node("1.7.24");
    node.place("/etc/containerd/real.toml", old);
    symlinkSync("/etc/containerd/real.toml", `${node.root}${rootFile}`);
    await node.run(["install", "kata-qemu"]);
    expect(lstatSync(`${node.root}${rootFile}`).isSymbolicLink()).toBe(true);
    expect(node.text("/etc/containerd/real.toml")).toContain("kata-qemu");
  });

  test("mode and owner of the configuration are kept", async () => {
    using node = new Node("1.7.24");
    node.place(rootFile, old, 0o640);
    await node.run(["install", "kata-qemu"]);
    expect(lstatSync(`${node.root}${rootFile}`).mode & 0o7777).toBe(0o640);
  });

  test("a handler whose binary is not on the host is refused, and accepted with --allow-missing", async () => {
    using node = new Node("2.1.9", config);
    const refused = await node.run(["install", "no-such-preset", "kata-qemu-snp"]);
    expect(refused.code).toBe(2);
    const missing = await node.run(["install", "kata-qemu-snp", "--json"]);
    expect([missing.code, (missing.json()["error"] as { code: string }).code]).toEqual([
      3,
      "missing-on-host",
    ]);
    expect((await node.run(["install", "kata-qemu-snp", "--allow-missing"])).code).toBe(0);
  });

  test("--prefix moves a runtime's own place", async () => {
    using node = new Node("2.1.9", config);
    node.place("/srv/kata/bin/containerd-shim-kata-v2", "", 0o755);
    node.place("/srv/kata/share/defaults/kata-containers/configuration-qemu.toml", "");
    await node.run(["install", "kata-qemu", "--prefix", "/srv/kata"]);
    const text = node.text("/etc/containerd/conf.d/50-shimctl-default.toml");
    expect(text).toContain('runtime_path = "/srv/kata/bin/containerd-shim-kata-v2"');
    expect(text).toContain('ConfigPath = "/srv/kata/share/defaults/kata-containers/configuration-qemu.toml"');
  });
});

describe("apply and handler files", () => {
  const file =
    'format = 1\nowner = "platform"\n[handlers.kata-qemu]\n[handlers.mine]\n[handlers.mine.containerd]\nruntime_type = "io.containerd.runc.v2"\noptions = { BinaryName = "/usr/bin/crun" }\n';

  test("apply makes the owner's set exactly that of the file", async () => {
    using node = new Node("2.1.9", config);
    node.place("/handlers.toml", file);
    await node.run(["install", "runsc", "--owner", "platform"]);
    const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`, "--json"]);
    expect((ran.json()["handlers"] as { name: string }[]).map((handler) => handler.name)).toEqual([
      "kata-qemu",
      "mine",
    ]);
  });

  test("a flag beats a variable beats the file", async () => {
    using node = new Node("2.1.9", config);
    node.place("/handlers.toml", file);
    const owners: unknown[] = [];
    const path = `${node.root}/handlers.toml`;
    owners.push((await node.run(["apply", "-f", path, "--dry-run", "--json"])).json()["owner"]);
    owners.push(
      (await node.run(["apply", "-f", path, "--dry-run", "--json"], { SHIMCTL_OWNER: "variable" })).json()[
        "owner"
      ],
    );
    owners.push(
      (
        await node.run(["apply", "-f", path, "--dry-run", "--json", "--owner", "flag"], {
          SHIMCTL_OWNER: "variable",
        })
      ).json()["owner"],
    );
    expect(owners).toEqual(["platform", "variable", "flag"]);
  });

  test("an unknown key is refused with its line and the nearest known key", async () => {
    using node = new Node("2.1.9", config);
    node.place("/handlers.toml", 'format = 1\n[handlers.x]\npreset = "crun"\nsnapshoter = "y"\n');
    const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`]);
    expect(ran.code).toBe(2);
    expect(ran.err).toContain("handlers.toml:4");
    expect(ran.err).toContain("did you mean 'snapshotter'?");
  });
});

describe("what writes nothing", () => {
  const commands = [
    ["install", "kata-qemu", "--dry-run"],
    ["diff", "install", "kata-qemu"],
    ["diff", "uninstall", "--all"],
    ["diff"],
    ["status"],
    ["check"],
    ["check", rootFile],
    ["presets"],
    ["version"],
  ];
  for (const command of commands) {
    test(`${command.join(" ")} creates nothing at all`, async () => {
      using node = new Node("2.1.9", config);
      const before = node.tree();
      expect((await node.run(command)).code).toBe(0);
      expect(node.tree()).toEqual(before);
      expect([existsSync(`${node.root}/run`), existsSync(`${node.root}/var`)]).toEqual([false, false]);
    });
  }

  test("diff shows what install then does, as a unified diff", async () => {
    using node = new Node("2.1.9", config);
    const { out } = await node.run(["diff", "install", "kata-qemu"]);
    expect(out).toContain(`+++ ${rootFile}`);
    expect(out).toContain('+imports = ["/etc/containerd/conf.d/*-shimctl-*.toml"]');
    expect(out).toContain("--- /dev/null");
  });

  test("a dry run prints the same changes as the run", async () => {
    using node = new Node("2.1.9", config);
    const dry = (await node.run(["install", "kata-qemu", "--dry-run", "--json"])).json();
    const wet = (await node.run(["install", "kata-qemu", "--json"])).json();
    expect(dry["changes"]).toEqual(wet["changes"]);
  });
});

describe("status and check", () => {
  test("an installed node is in sync", async () => {
    using node = new Node("2.1.9", config);
    await node.run(["install", "kata-qemu"]);
    const ran = await node.run(["status", "--json"]);
    expect([ran.code, ran.json()["result"]]).toEqual([0, "in sync"]);
  });

  test("a configuration that another tool wrote anew is drift, which one install mends", async () => {
    using node = new Node("1.7.24", old);
    await node.run(["install", "kata-qemu"]);
    node.place(rootFile, old);
    expect((await node.run(["status"])).code).toBe(10);
    await node.run(["install", "kata-qemu"]);
    expect((await node.run(["status"])).code).toBe(0);
  });

  test("diff alone shows what would mend the drift", async () => {
    using node = new Node("1.7.24", old);
    await node.run(["install", "kata-qemu"]);
    node.place(rootFile, old);
    expect((await node.run(["diff"])).out).toContain("+# BEGIN shimctl default");
  });

  test("a file that does not parse is broken, with path, line and the line itself", async () => {
    using node = new Node("2.1.9", `${config}3s"\n`);
    for (const command of ["status", "check"]) {
      const ran = await node.run([command]);
      expect(ran.code).toBe(11);
      expect(ran.err).toContain(`${rootFile}:9`);
      expect(ran.err).toContain('3s"');
    }
  });

  test("install on a file that does not parse is refused and writes nothing", async () => {
    using node = new Node("2.1.9", `${config}3s"\n`);
    const before = node.tree();
    const ran = await node.run(["install", "kata-qemu"]);
    expect(ran.code).toBe(3);
    expect(ran.err).toContain("nothing was written");
    expect(node.tree()).toEqual(before);
  });

  test("a lost record is rebuilt from the markers", async () => {
    using node = new Node("2.1.9", config);
    const before = node.tree();
    await node.run(["install", "kata-qemu"]);
    node.place("/var/lib/shimctl/record.json", "torn {");
    expect((await node.run(["status", "--json"])).json()["owners"]).toMatchObject([
      { owner: "default", handlers: ["kata-qemu"] },
    ]);
    await node.run(["install", "runsc"]);
    await node.run(["uninstall", "--all"]);
    expect(node.text()).toBe(config);
    expect(Object.keys(node.tree()).filter((path) => !Object.hasOwn(before, path))).toEqual([]);
  });
});

describe("errors and options", () => {
  test("a failed change prints one JSON document with the error", async () => {
    using node = new Node("2.1.9", "root = '/x'\n");
    const ran = await node.run(["install", "kata-qemu", "--json"]);
    expect(ran.json()).toMatchObject({
      format: 1,
      result: "refused",
      changes: [],
      error: { code: "unsupported-config", path: rootFile, line: 1, retryable: false },
    });
  });

  test("an unknown command names the nearest one", async () => {
    using node = new Node("2.1.9", config);
    const ran = await node.run(["instal", "kata-qemu"]);
    expect([ran.code, ran.err.includes("did you mean 'install'?")]).toEqual([2, true]);
  });

  test("an unknown option is refused", async () => {
    using node = new Node("2.1.9", config);
    expect((await node.run(["install", "kata-qemu", "--ownr", "x"])).code).toBe(2);
  });

  test("an unknown preset names the nearest one", async () => {
    using node = new Node("2.1.9", config);
    expect((await node.run(["install", "kata-qmu"])).err).toContain("did you mean 'kata-qemu'?");
  });

  test("a version such as 2.10 is not taken for a number", async () => {
    using node = new Node("1.7.24", config);
    const status = (await node.run(["status", "--json", "--engine-version", "2.10"])).json();
    expect(status["engine"]).toMatchObject({ version: { major: 2, minor: 10 } });
  });

  test("what Kubernetes injects for a Service is ignored, other unknown variables warn", async () => {
    using node = new Node("2.1.9", config);
    const { err } = await node.run(["status"], {
      SHIMCTL_PORT: "tcp://10.0.0.1:80",
      SHIMCTL_SERVICE_HOST: "10.0.0.1",
      SHIMCTL_LOK_TIMEOUT: "1",
    });
    expect(err.match(/SHIMCTL_\w+/g)).toEqual(["SHIMCTL_LOK_TIMEOUT"]);
  });

  test("no secret of the configuration is printed or logged", async () => {
    using node = new Node("2.1.9", config);
    const texts: string[] = [];
    for (const command of [
      ["diff", "install", "kata-qemu"],
      ["install", "kata-qemu", "--json", "--log-level", "debug"],
      ["status"],
      ["check"],
      ["status", "--json"],
      ["uninstall", "--all"],
    ]) {
      const { out, err } = await node.run(command);
      texts.push(out, err);
    }
    texts.push(
      readFileSync(`${node.root}/var/lib/shimctl/journal`, "utf8"),
      readFileSync(`${node.root}/var/lib/shimctl/record.json`, "utf8"),
    );
    expect(texts.filter((text) => text.includes("hunter2"))).toEqual([]);
  });

  test("without an engine on the node the command is refused", async () => {
    using node = new Node("", undefined);
    const ran = await node.run(["install", "kata-qemu"], { SHIMCTL_ENGINE_VERSION: "" });
    expect([ran.code, ran.err.includes("Cannot find a container engine")]).toEqual([6, true]);
  });

  test("help lists the exit codes", async () => {
    using node = new Node("2.1.9", config);
    const ran = await node.run(["--help"]);
    expect([ran.code, ran.out.includes("Exit codes:")]).toEqual([0, true]);
  });
});

describe("the default handler", () => {
  test("a handler that default_runtime_name names is not removed", async () => {
    using node = new Node("2.1.9", config);
    await node.run(["install", "kata-qemu"]);
    node.place(
      rootFile,
      `${node.text()}\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = "kata-qemu"\n`,
    );
    const ran = await node.run(["uninstall", "kata-qemu"]);
    expect([ran.code, ran.err.includes("default_runtime_name names it")]).toEqual([5, true]);
    expect((await node.run(["check"])).code).toBe(0);
  });

  test("a configuration that was broken before us can be left as it was", async () => {
    const broken =
      'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other]\n  runtime_type = "io.containerd.runc.v2"\n';
    using node = new Node("1.7.24", broken);
    expect((await node.run(["check"])).code).toBe(11);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    expect((await node.run(["check"])).code).toBe(0);
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    expect(node.text()).toBe(broken);
  });
});

test("what another program overwrote comes back with the owner's next change, whatever that is about", async () => {
  using node = new Node("1.7.24", old);
  await node.run(["install", "kata-qemu", "runsc"]);
  node.place(rootFile, old);
  expect((await node.run(["install", "crun"])).code).toBe(0);
  const status = await node.run(["status", "--json"]);
  expect([status.code, status.json()["owners"]]).toMatchObject([
    0,
    [{ handlers: ["crun", "kata-qemu", "runsc"] }],
  ]);
});

test("what the administrator defined meanwhile is not taken back from them", async () => {
  using node = new Node("1.7.24", old);
  await node.run(["install", "kata-qemu", "runsc"]);
  const theirs = `${old}[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]\n  runtime_type = "io.containerd.runsc.v1"\n`;
  node.place(rootFile, theirs);
  expect((await node.run(["install", "crun"])).code).toBe(0);
  expect(node.text().startsWith(theirs)).toBe(true);
  expect((await node.run(["status"])).code).toBe(0);
});

test("uninstalling what another program has overwritten already ends the drift", async () => {
  using node = new Node("1.7.24", old);
  await node.run(["install", "kata-qemu"]);
  node.place(rootFile, old);
  expect((await node.run(["status"])).code).toBe(10);
  expect((await node.run(["uninstall", "kata-qemu"])).code).toBe(0);
  expect((await node.run(["status"])).code).toBe(0);
});
