import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { bootProblem, bringRoots } from "../../build/boot.ts";
import { BootedNode } from "./boot.ts";

const problem = bootProblem();
if (problem !== undefined) console.log(`(skip) k0s on booted nodes: ${problem}`);
const roots = problem === undefined ? (await bringRoots()).roots : [];

const unit = (generation: string) => `[Unit]
Description=k0s

[Service]
ExecStart=/usr/local/bin/k0s /usr/local/lib/k0s.js worker ${generation}
KillMode=process
Delegate=yes
`;

// containerd 2.1 reads what k0s 1.36 writes, which brings 2.3.
for (const [generation, suite] of [
  ["1.35", "trixie"],
  ["1.36", "sid"],
] as const) {
  for (const root of roots.filter((each) => each.suite === suite)) {
    describe(`k0s ${generation} as a unit on a booted Debian ${suite}, containerd ${root.version}`, () => {
      let node: BootedNode;
      let folder: string;
      beforeAll(async () => {
        folder = mkdtempSync(join(tmpdir(), "shimctl-k0s-"));
        const program = join(folder, "k0s.js");
        const built = await Bun.build({
          entrypoints: [join(import.meta.dirname, "k0s.ts")],
          target: "bun",
          outdir: folder,
        });
        if (!built.success) throw new Error(built.logs.join("\n"));
        node = await BootedNode.start(root, {
          binds: [
            [process.execPath, "/usr/local/bin/k0s"],
            [program, "/usr/local/lib/k0s.js"],
          ],
        });
        node.place("/etc/systemd/system/k0sworker.service", unit(generation));
        const ran = node.run([
          "sh",
          "-euc",
          `systemctl stop containerd
          rm -rf /etc/containerd /run/containerd
          mkdir -p /etc/k0s/containerd.d /var/lib/k0s/bin /var/lib/k0s/containerd
          cp /usr/bin/containerd /var/lib/k0s/bin
          mount -t tmpfs tmpfs /var/lib/k0s/containerd
          systemctl daemon-reload
          systemctl start k0sworker`,
        ]);
        if (ran.code !== 0) throw new Error(ran.err);
        await served();
      });
      afterAll(async () => {
        await node?.stop();
        rmSync(folder, { recursive: true });
      });

      const shimctl = (...args: string[]) => node.json(...args, "--layout", "k0s");
      const handlers = () =>
        (shimctl("status")["handlers"] as { name: string; served: boolean | null }[])
          .filter((handler) => handler.served)
          .map(({ name }) => name);
      const served = async () => {
        for (let tries = 0; tries < 300; tries++) {
          if (handlers().length > 0) return;
          await Bun.sleep(100);
        }
        throw new Error(node.run(["journalctl", "-u", "k0sworker", "-n", "40", "--no-pager"]).out);
      };
      const starts = () =>
        node
          .run(["journalctl", "-b", "-u", "k0sworker", "-o", "cat", "--no-pager"])
          .out.split("\n")
          .filter((line) => line === "starts containerd").length;
      const tree = () =>
        node.run([
          "sh",
          "-c",
          "find /etc/k0s -printf '%p %y %m %U:%G\\n' | sort; find /etc/k0s -type f -exec sha256sum {} + | sort",
        ]).out;
      const invocation = () => node.run(["systemctl", "show", "k0sworker", "-p", "InvocationID"]).out.trim();

      test("an install is proved by the engine that k0s has started for it, and the unit goes on", () => {
        const before = { tree: tree(), starts: starts(), invocation: invocation() };
        const installed = shimctl("install", "crun", "--owner", "a");
        expect([installed.code, installed["error"], installed["proof"]]).toEqual([
          0,
          null,
          { rules: "passed", "engine-parser": "not run", served: "passed" },
        ]);
        expect([starts() - before.starts, invocation(), handlers()]).toEqual([
          1,
          before.invocation,
          ["crun", "runc"],
        ]);
        expect(shimctl("status")["result"]).toBe("in sync");
        expect(shimctl("install", "crun", "--owner", "a")["result"]).toBe("unchanged");
        const second = shimctl("install", "runsc", "--owner", "b", "--allow-missing");
        expect([second["result"], handlers(), starts() - before.starts]).toEqual([
          "changed",
          ["crun", "runc", "runsc"],
          2,
        ]);
        for (const owner of ["a", "b"]) expect(shimctl("uninstall", "--all", "--owner", owner).code).toBe(0);
        expect([handlers(), starts() - before.starts, tree()]).toEqual([["runc"], 4, before.tree]);
      });

      test("a change is not mistaken for served by the engine from before, which still answers", () => {
        // This handler's table stops the CRI plugin: the old engine answers for 3 s as if nothing were.
        node.place(
          "/h.toml",
          'format = 1\n[handlers.bad]\nbase_runtime_spec = "/nowhere.json"\n[handlers.bad.containerd]\nruntime_type = "io.containerd.runc.v2"\n',
        );
        const before = tree();
        const failed = shimctl("install", "-f", "/h.toml", "--allow-missing");
        expect([failed.code, failed["error"]]).toEqual([
          7,
          expect.objectContaining({ state: expect.stringContaining("the change was undone") }),
        ]);
        expect([handlers(), tree()]).toEqual([["runc"], before]);
      });

      test("a stopped k0s is written for, and serves it when it is started", async () => {
        node.run(["systemctl", "stop", "k0sworker"]);
        const installed = shimctl("install", "crun");
        expect([installed["result"], installed["restart"]]).toEqual([
          "changed",
          {
            done: false,
            needed: false,
            words: "k0sworker.service is not running: the change takes effect when it is started",
          },
        ]);
        node.run(["systemctl", "start", "k0sworker"]);
        await served();
        expect(handlers()).toEqual(["crun", "runc"]);
        expect(shimctl("uninstall", "--all").code).toBe(0);
      });
    });
  }
}
