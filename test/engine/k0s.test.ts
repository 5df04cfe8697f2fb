import { describe, expect, test } from "bun:test";
import { lstatSync } from "node:fs";
import { engines } from "../../build/engines.ts";
import { openCri } from "../../src/host/cri/client.ts";
import { type Generation, k0sFolder, k0sRoot, k0sSocket, renderByK0s } from "../support/k0s_merge.ts";
import { k0sNode } from "../support/k0s_node.ts";
import type { Node } from "../support/node.ts";
import { daemonProblem, dump, handlersOf } from "./harness.ts";
import { superviseByK0s } from "./k0s_supervisor.ts";

const problem = daemonProblem();
if (problem !== undefined) console.log(`(skip) k0s with real engines: ${problem}`);
const all = problem === undefined ? await engines() : [];
const pairs = (
  [
    ["1.35", "1.7.24"],
    ["1.36", "2.3.4"],
  ] as const
).flatMap(([generation, version]) =>
  all.filter((engine) => engine.version === version).map((engine) => [generation, engine] as const),
);

async function served(node: Node): Promise<readonly string[]> {
  const answer = await openCri(node.root + k0sSocket).status();
  return answer.kind === "up" ? answer.handlers : [answer.kind];
}

function plugin(generation: Generation): string {
  return generation === "1.35" ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
}

describe.skipIf(problem !== undefined)("a real containerd that k0s keeps running", () => {
  for (const [generation, engine] of pairs) {
    test(`k0s ${generation}: two owners install, and uninstall, each with one restart that k0s makes`, async () => {
      using node = k0sNode(generation, engine.version, {
        "theirs.toml": `[plugins."${plugin(generation)}".containerd.runtimes.theirs]\nruntime_type = "io.containerd.runc.v2"\n`,
      });
      const it = await superviseByK0s(engine, node, generation);
      try {
        const before = node.tree();
        const prove = ["--prove-with", engine.containerd];
        const first = await node.run(["install", "kata-qemu", "--owner", "a", "--json", ...prove]);
        expect(first.json()).toMatchObject({
          result: "changed",
          proof: { rules: "passed", "engine-parser": "passed", served: "passed" },
          restart: {
            done: true,
            words: "k0s has restarted the engine by itself, which serves kata-qemu",
          },
        });
        expect([await served(node), it.starts()]).toEqual([["kata-qemu", "runc", "theirs"], 2]);

        expect((await node.run(["install", "runsc", "--owner", "b", ...prove])).code).toBe(0);
        expect([await served(node), it.starts()]).toEqual([["kata-qemu", "runc", "runsc", "theirs"], 3]);
        expect(it.daemon().criLoaded()).toBe(true);
        expect((await node.run(["status", "--json"])).json()).toMatchObject({ result: "in sync" });

        expect((await node.run(["uninstall", "--all", "--owner", "a"])).code).toBe(0);
        expect([await served(node), it.starts()]).toEqual([["runc", "runsc", "theirs"], 4]);
        expect((await node.run(["uninstall", "--all", "--owner", "b"])).code).toBe(0);
        expect([await served(node), it.starts(), it.said]).toEqual([["runc", "theirs"], 5, []]);
        expect(node.tree()).toEqual(before);
      } finally {
        await it.stop();
      }
    }, 120_000);

    test(`k0s ${generation}: what nobody waited for is found in effect by the next run, without a restart`, async () => {
      using node = k0sNode(generation, engine.version);
      const it = await superviseByK0s(engine, node, generation);
      try {
        const left = await node.run(["install", "kata-qemu", "--restart", "none"]);
        expect(left.out).toContain(
          "k0s restarts the engine by itself when it sees the change: that was not waited for\n",
        );
        expect((await node.run(["install", "kata-qemu", "--json"])).json()).toMatchObject({
          result: "unchanged",
          proof: { served: "passed" },
        });
        expect([await served(node), it.starts()]).toEqual([["kata-qemu", "runc"], 2]);
        expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
        await Bun.sleep(3_500);
        expect(it.starts()).toBe(2);
      } finally {
        await it.stop();
      }
    }, 120_000);

    test(`k0s ${generation}: a stopped one is written for, and serves it when it is started`, async () => {
      using node = k0sNode(generation, engine.version);
      expect((await node.run(["install", "kata-qemu", "crun"])).out).toContain(
        "k0sworker.service is not running: the change takes effect when it is started\n",
      );
      const it = await superviseByK0s(engine, node, generation);
      try {
        expect(await served(node)).toEqual(["crun", "kata-qemu", "runc"]);
      } finally {
        await it.stop();
      }
    }, 60_000);

    test(`k0s ${generation}: an install in the seconds in which k0s leaves its engine out waits for it, and for the next ones`, async () => {
      using node = k0sNode(generation, engine.version);
      const it = await superviseByK0s(engine, node, generation, 5_000);
      try {
        await node.run(["install", "kata-qemu", "--owner", "a", "--restart", "none"]);
        // What a killed engine leaves in its socket's place.
        while (lstatSync(node.root + k0sSocket, { throwIfNoEntry: false })?.isFile() !== true)
          await Bun.sleep(20);
        expect(await served(node)).toEqual(["absent"]);
        const second = await node.run(["install", "runsc", "--owner", "b", "--json"]);
        expect(second.json()).toMatchObject({ result: "changed", proof: { served: "passed" } });
        expect([await served(node), it.starts()]).toEqual([["kata-qemu", "runc", "runsc"], 3]);
      } finally {
        await it.stop();
      }
    }, 120_000);

    test(`k0s ${generation}: what the engine does not work with is undone, and that is waited for as well`, async () => {
      using node = k0sNode(generation, engine.version);
      node.place(
        "/h.toml",
        'format = 1\n[handlers.bad]\nbase_runtime_spec = "/nowhere/spec.json"\n[handlers.bad.containerd]\nruntime_type = "io.containerd.runc.v2"\n',
      );
      const it = await superviseByK0s(engine, node, generation);
      try {
        expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
        const before = node.tree();
        const args = ["-f", `${node.root}/h.toml`, "--owner", "b", "--allow-missing", "--json"];
        const failed = await node.run(["install", ...args]);
        expect([failed.code, failed.json()["error"]]).toEqual([
          7,
          expect.objectContaining({
            message:
              "The engine does not work with the change: k0sworker.service runs without its CRI: its CRI plugin did not load",
            state: expect.stringContaining("the change was undone"),
          }),
        ]);
        expect([await served(node), it.starts()]).toEqual([["kata-qemu", "runc"], 4]);
        expect(node.tree()).toEqual(before);
        expect((await node.run(["install", ...args])).code).toBe(12);
        expect(it.starts()).toBe(4);
      } finally {
        await it.stop();
      }
    }, 120_000);

    test(`k0s ${generation}: its own file is imported and merged as the simulation says`, () => {
      using node = k0sNode(generation, engine.version);
      node.place(
        `${k0sFolder}/gvisor.toml`,
        `[plugins."${plugin(generation)}".containerd.runtimes.runsc]\nruntime_type = "io.containerd.runsc.v1"\n`,
      );
      renderByK0s(node.root, generation);
      const { rc, stdout } = dump(engine, node.root, k0sRoot);
      expect([rc, Object.keys(handlersOf(stdout, engine.version)).sort()]).toEqual([0, ["runc", "runsc"]]);
    });
  }

  test("k0s 1.36 refuses what it refuses: an old plugin id, and another version", () => {
    for (const text of ['[plugins."io.containerd.grpc.v1.cri"]\nenable_cdi = true\n', "version = 2\n"]) {
      using node = k0sNode("1.36", "2.3.4");
      node.place(`${k0sFolder}/old.toml`, text);
      expect(() => renderByK0s(node.root, "1.36")).toThrow("old.toml: unsupported");
    }
  });
});
