import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
} from "node:fs";
import { engineCases, importedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

describe.each(engineCases)("$name", (engineCase) => {
  const { main, files, block, handlers, theirs } = engineCase;
  const [kata, second, third] = handlers;
  const paths = Object.keys(files);
  const ours = block("default");

  describe("install and uninstall", () => {
    test("the tree comes back to the same bytes, modes and owners", async () => {
      using node = Node.of(engineCase);
      const before = node.tree();
      expect((await node.run(["install", kata, second, third])).code).toBe(0);
      expect(node.tree()).not.toEqual(before);
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect(node.tree()).toEqual(before);
    });

    test("after the last handler is gone the state folder holds a record without handlers", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      await node.run(["uninstall", "--all"]);
      expect(readdirSync(`${node.root}/var/lib/shimctl`).sort()).toEqual(["journal", "record.json", "store"]);
      // Nothing of ours is left, so nothing is left to undo.
      expect(readdirSync(`${node.root}/var/lib/shimctl/store`)).toEqual([]);
      expect(JSON.parse(readFileSync(`${node.root}/var/lib/shimctl/record.json`, "utf8"))).toEqual({
        format: 2,
        roots: {},
        folders: [],
        lockWaitMs: 0,
        // So that a DaemonSet does not bring back what a person has taken away.
        holds: { default: { since: expect.any(String), who: expect.any(String), by: "uninstall" } },
      });
    });

    test("a second install is unchanged", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      const before = node.tree();
      const again = await node.run(["install", kata, "--json"]);
      expect(again.json()["result"]).toBe("unchanged");
      expect(node.tree()).toEqual(before);
    });

    test("a second uninstall is unchanged", async () => {
      using node = Node.of(engineCase);
      expect((await node.run(["uninstall", kata, "--json"])).json()["result"]).toBe("unchanged");
    });

    test("uninstalling one handler leaves the owner's others", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata, second]);
      await node.run(["uninstall", kata]);
      const status = (await node.run(["status", "--json"])).json();
      expect(status["owners"]).toMatchObject([{ owner: "default", handlers: [second] }]);
    });

    test("a handler that shimctl did not install is not uninstalled", async () => {
      using node = Node.of(engineCase);
      const before = node.tree();
      const ran = await node.run(["uninstall", theirs]);
      expect(ran.code).toBe(5);
      expect(node.tree()).toEqual(before);
    });

    test("a handler that the administrator defined is not installed, and its file is named", async () => {
      using node = Node.of(engineCase);
      node.place(main, `${node.text(main)}${engineCase.define(second)}`);
      const before = node.tree();
      const ran = await node.run(["install", kata, second, "--json"]);
      expect([ran.code, ran.json()["error"]]).toMatchObject([
        5,
        { message: `Cannot define handler '${second}', as this file defines it already`, path: main },
      ]);
      expect(node.tree()).toEqual(before);
    });

    test("a handler of another owner is neither installed nor removed", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata, "--owner", "one"]);
      const before = node.tree();
      expect((await node.run(["install", kata, "--owner", "two"])).code).toBe(5);
      expect((await node.run(["uninstall", kata, "--owner", "two"])).code).toBe(5);
      expect(node.tree()).toEqual(before);
    });

    test("a line that another tool added after install stays", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      node.place(ours, `# added at the top\n${node.text(ours)}# added at the end\n`);
      await node.run(["uninstall", "--all"]);
      expect(node.text(ours)).toBe(`# added at the top\n${files[ours] ?? ""}# added at the end\n`);
    });

    test("symbolic links to the configuration are kept and their targets changed", async () => {
      using node = Node.of(engineCase);
      const linked = paths.map((path) => linkAway(node, path));
      await node.run(["install", kata]);
      if (files[ours] === undefined) linked.push(linkAway(node, ours));
      await node.run(["install", second]);
      expect([...paths, ours].map((path) => lstatSync(node.root + path).isSymbolicLink())).not.toContain(
        false,
      );
      const changed = linked.map((path) => node.text(path)).filter((text) => text.includes(second));
      expect(changed).toEqual([expect.stringContaining(kata)]);
    });

    test("the last handler that goes leaves no symbolic link that leads nowhere", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      const moved = linkAway(node, ours);
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect(node.text(moved)).toBe(files[ours] ?? "");
      expect((await node.run(["check"])).code).toBe(0);
      expect((await node.run(["install", kata])).code).toBe(0);
      expect((await node.run(["status"])).code).toBe(0);
    });

    test("mode and owner of the configuration are kept", async () => {
      using node = Node.of(engineCase);
      const modes = () => [...paths, ours].map((path) => lstatSync(node.root + path).mode & 0o7777);
      for (const path of paths) chmodSync(node.root + path, 0o640);
      await node.run(["install", kata]);
      expect(modes().slice(0, paths.length)).toEqual(paths.map(() => 0o640));
      chmodSync(node.root + ours, 0o640);
      await node.run(["install", second]);
      expect(modes()).toEqual([...paths, ours].map(() => 0o640));
    });

    test("a handler whose binary is not on the host is refused, and accepted with --allow-missing", async () => {
      using node = Node.of(engineCase);
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
      using node = Node.of(engineCase);
      node.place("/srv/kata/bin/containerd-shim-kata-v2", "", 0o755);
      node.place("/srv/kata/share/defaults/kata-containers/configuration-qemu.toml", "");
      await node.run(["install", "kata-qemu", "--prefix", "/srv/kata"]);
      const text = node.text(ours);
      expect(text).toContain('runtime_path = "/srv/kata/bin/containerd-shim-kata-v2"');
      expect(text).toContain(
        `${engineCase.configKey} = "/srv/kata/share/defaults/kata-containers/configuration-qemu.toml"`,
      );
    });
  });

  describe("apply and handler files", () => {
    const file = `format = 1
owner = "platform"
[handlers.kata-qemu]
[handlers.mine]
[handlers.mine.containerd]
runtime_type = "io.containerd.runc.v2"
options = { BinaryName = "/usr/bin/crun" }
[handlers.mine.crio]
runtime_path = "/usr/bin/crun"
`;

    test("apply makes the owner's set exactly that of the file", async () => {
      using node = Node.of(engineCase);
      node.place("/handlers.toml", file);
      await node.run(["install", second, "--owner", "platform"]);
      const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`, "--json"]);
      expect((ran.json()["handlers"] as { name: string }[]).map((handler) => handler.name)).toEqual([
        "kata-qemu",
        "mine",
      ]);
    });

    test("a flag beats a variable beats the file", async () => {
      using node = Node.of(engineCase);
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
      using node = Node.of(engineCase);
      node.place("/handlers.toml", 'format = 1\n[handlers.x]\npreset = "crun"\nsnapshoter = "y"\n');
      const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`]);
      expect(ran.code).toBe(2);
      expect(ran.err).toContain("handlers.toml:4");
      expect(ran.err).toContain("did you mean 'snapshotter'?");
    });
  });

  describe("what writes nothing", () => {
    const commands = [
      ["install", kata, "--dry-run"],
      ["diff", "install", kata],
      ["diff", "uninstall", "--all"],
      ["diff"],
      ["status"],
      ["check"],
      ["check", engineCase.rootFile],
      ["presets"],
      ["version"],
    ];
    for (const command of commands) {
      test(`${command.join(" ")} creates nothing at all`, async () => {
        using node = Node.of(engineCase);
        const before = node.tree();
        expect((await node.run(command)).code).toBe(0);
        expect(node.tree()).toEqual(before);
        expect([existsSync(`${node.root}/run`), existsSync(`${node.root}/var`)]).toEqual([false, false]);
      });
    }

    test("diff shows what install then does, as a unified diff", async () => {
      using node = Node.of(engineCase);
      const { out } = await node.run(["diff", "install", kata]);
      const { changes } = (await node.run(["install", kata, "--json"])).json() as {
        changes: { path: string; action: string }[];
      };
      expect(out).toContain(`+++ ${ours}\n`);
      const heads = changes.flatMap(({ path, action }) => [
        `--- ${action === "create" ? "/dev/null" : path}`,
        `+++ ${path}`,
      ]);
      expect(out.split("\n").filter((line) => /^(---|\+\+\+) /.test(line))).toEqual(heads);
      const added = out.split("\n").filter((line) => line.startsWith("+") && !line.startsWith("+++ "));
      const texts = changes.map(({ path }) => node.text(path)).join("");
      expect(added.filter((line) => !texts.includes(`${line.slice(1)}\n`))).toEqual([]);
      expect(added).toContainEqual(expect.stringContaining(kata));
    });

    test("a dry run prints the same changes as the run", async () => {
      using node = Node.of(engineCase);
      const dry = (await node.run(["install", kata, "--dry-run", "--json"])).json();
      const wet = (await node.run(["install", kata, "--json"])).json();
      expect(dry["changes"]).toEqual(wet["changes"]);
    });

    test("a dry run of uninstall prints the same changes as the run", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata, second]);
      const before = node.tree();
      const dry = (await node.run(["uninstall", "--all", "--dry-run", "--json"])).json();
      expect(node.tree()).toEqual(before);
      const wet = (await node.run(["uninstall", "--all", "--json"])).json();
      expect(dry["changes"]).toEqual(wet["changes"]);
    });
  });

  describe("status and check", () => {
    test("an installed node is in sync", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      const ran = await node.run(["status", "--json"]);
      expect([ran.code, ran.json()["result"]]).toEqual([0, "in sync"]);
    });

    test("a configuration that another tool wrote anew is drift, which one install mends", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      node.overwrite(engineCase);
      expect((await node.run(["status"])).code).toBe(10);
      await node.run(["install", kata]);
      expect((await node.run(["status"])).code).toBe(0);
    });

    test("diff alone shows what would mend the drift", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      node.overwrite(engineCase);
      expect((await node.run(["diff"])).out).toContain("+# BEGIN shimctl default");
    });

    for (const path of paths) {
      const text = files[path] ?? "";
      const broken = { ...files, [path]: `${text}3s"\n` };
      const line = text.split("\n").length;

      test(`${path} that does not parse is broken, with path, line and the line itself`, async () => {
        using node = Node.of(engineCase, broken);
        for (const command of ["status", "check"]) {
          const ran = await node.run([command]);
          expect(ran.code).toBe(11);
          expect(ran.err).toContain(`${path}:${line}`);
          expect(ran.err).toContain('3s"');
        }
      });

      test(`install on ${path} that does not parse is refused and writes nothing`, async () => {
        using node = Node.of(engineCase, broken);
        const before = node.tree();
        const ran = await node.run(["install", kata]);
        expect(ran.code).toBe(3);
        expect(ran.err).toContain("nothing was written");
        expect(node.tree()).toEqual(before);
      });
    }

    test("a lost record is rebuilt from the markers", async () => {
      using node = Node.of(engineCase);
      const before = node.tree();
      await node.run(["install", kata]);
      node.place("/var/lib/shimctl/record.json", "torn {");
      expect((await node.run(["status", "--json"])).json()["owners"]).toMatchObject([
        { owner: "default", handlers: [kata] },
      ]);
      await node.run(["install", second]);
      await node.run(["uninstall", "--all"]);
      expect(paths.map((path) => node.text(path))).toEqual(Object.values(files));
      expect(Object.keys(node.tree()).filter((path) => !Object.hasOwn(before, path))).toEqual([]);
    });

    test("a handler that the administrator made the default is not removed", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      const { path, text } = engineCase.makeDefault(kata);
      node.place(path, (existsSync(node.root + path) ? node.text(path) : "") + text);
      const ran = await node.run(["uninstall", kata]);
      expect([ran.code, ran.err.includes(`as ${engineCase.defaultKey} names it`)]).toEqual([5, true]);
      expect(ran.err).toContain(`set ${engineCase.defaultKey} to another handler first`);
      expect((await node.run(["check"])).code).toBe(0);
    });
  });

  describe("errors and options", () => {
    test("a failed change prints one JSON document with the error", async () => {
      using node = Node.of(engineCase, { [engineCase.rootFile]: engineCase.unsupported });
      const ran = await node.run(["install", kata, "--json"]);
      expect(ran.json()).toMatchObject({
        format: 1,
        result: "refused",
        changes: [],
        error: { code: "unsupported-config", path: engineCase.rootFile, line: 1, retryable: false },
      });
    });

    test("a version such as 1.40 is not taken for a number", async () => {
      using node = Node.of(engineCase);
      const major = Number.parseInt(engineCase.version, 10);
      const status = (await node.run(["status", "--json", "--engine-version", `${major}.40`])).json();
      expect(status["engine"]).toMatchObject({ name: engineCase.engine, version: { major, minor: 40 } });
    });

    test("no secret of the configuration is printed or logged", async () => {
      using node = Node.of(engineCase);
      const texts: string[] = [];
      for (const command of [
        ["diff", "install", kata],
        ["install", kata, "--json", "--log-level", "debug"],
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
      expect(Object.values(files).join()).toContain("hunter2");
      expect(texts.filter((text) => text.includes("hunter2"))).toEqual([]);
    });
  });

  describe("what another program overwrote", () => {
    test("comes back with the owner's next change, whatever that is about", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata, second]);
      node.overwrite(engineCase);
      expect((await node.run(["install", third])).code).toBe(0);
      const status = await node.run(["status", "--json"]);
      expect([status.code, status.json()["owners"]]).toMatchObject([
        0,
        [{ handlers: [kata, second, third].sort() }],
      ]);
    });

    test("and the administrator defined meanwhile is not taken back from them", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata, second]);
      node.overwrite(engineCase);
      const defined = `${files[main]}${engineCase.define(second)}`;
      node.place(main, defined);
      expect((await node.run(["install", third])).code).toBe(0);
      expect(
        node
          .text(main)
          .replace(/^imports = .*\n/m, "")
          .startsWith(defined),
      ).toBe(true);
      expect((await node.run(["status"])).code).toBe(0);
    });

    test("is no drift any more once it is uninstalled", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", kata]);
      node.overwrite(engineCase);
      expect((await node.run(["status"])).code).toBe(10);
      expect((await node.run(["uninstall", kata])).code).toBe(0);
      expect((await node.run(["status"])).code).toBe(0);
    });
  });
});

/** Moves a file elsewhere and leaves a symbolic link to it; returns where it is now. */
function linkAway(node: Node, path: string): string {
  const moved = `/etc/real-${path.slice(path.lastIndexOf("/") + 1)}`;
  renameSync(node.root + path, node.root + moved);
  symlinkSync(moved, node.root + path);
  return moved;
}

describe("the command line itself, whatever the engine", () => {
  test("an unknown command names the nearest one", async () => {
    using node = Node.of(importedCase);
    const ran = await node.run(["instal", "kata-qemu"]);
    expect([ran.code, ran.err.includes("did you mean 'install'?")]).toEqual([2, true]);
  });

  test("an unknown option is refused", async () => {
    using node = Node.of(importedCase);
    expect((await node.run(["install", "kata-qemu", "--ownr", "x"])).code).toBe(2);
  });

  test("an unknown preset names the nearest one", async () => {
    using node = Node.of(importedCase);
    expect((await node.run(["install", "kata-qmu"])).err).toContain("did you mean 'kata-qemu'?");
  });

  test("what Kubernetes injects for a Service is ignored, other unknown variables warn", async () => {
    using node = Node.of(importedCase);
    const { err } = await node.run(["status"], {
      SHIMCTL_PORT: "tcp://10.0.0.1:80",
      SHIMCTL_SERVICE_HOST: "10.0.0.1",
      SHIMCTL_LOK_TIMEOUT: "1",
    });
    expect(err.match(/SHIMCTL_\w+/g)).toEqual(["SHIMCTL_LOK_TIMEOUT"]);
  });

  test("without an engine on the node the command is refused", async () => {
    using node = new Node("", undefined);
    const ran = await node.run(["install", "kata-qemu"], { SHIMCTL_ENGINE_VERSION: "" });
    expect([ran.code, ran.err.includes("Cannot find a container engine")]).toEqual([6, true]);
  });

  test("help lists the exit codes", async () => {
    using node = Node.of(importedCase);
    const ran = await node.run(["--help"]);
    expect([ran.code, ran.out.includes("Exit codes:")]).toEqual([0, true]);
  });
});

describe("containerd alone", () => {
  test("diff shows the line by which drop-ins are imported", async () => {
    using node = Node.of(importedCase);
    const { out } = await node.run(["diff", "install", "kata-qemu"]);
    expect(out).toContain('+imports = ["/etc/containerd/conf.d/*-shimctl-*.toml"]');
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
