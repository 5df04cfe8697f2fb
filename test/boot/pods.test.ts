import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bootProblem, bringRoots } from "../../build/boot.ts";
import { BootedNode } from "./boot.ts";
import { placePause } from "./pause.ts";
import { runPod } from "./pods.ts";

const problem = bootProblem() ?? (process.arch === "x64" ? undefined : "the pause program is for x86-64");
if (problem !== undefined) console.log(`(skip) pods on booted nodes: ${problem}`);
const roots = problem === undefined ? (await bringRoots()).roots : [];

for (const root of roots) {
  describe(`pods on a booted Debian ${root.suite}, containerd ${root.version}`, () => {
    let node: BootedNode;
    beforeAll(async () => {
      node = await BootedNode.start(root);
      await placePause(node);
    });
    afterAll(() => node.stop());

    test("a pod really runs on a handler that was installed, which is not taken away from it", async () => {
      expect(node.shimctl("install", "crun").code).toBe(0);
      expect(node.shimctl("status", "--probe")).toMatchObject({ code: 0 });
      const pod = await runPod(node, "crun");
      const before = node.tree();
      const starts = node.starts();
      const refused = node.json("uninstall", "--all");
      expect([refused.code, refused["error"]]).toEqual([5, expect.objectContaining({ code: "in-use" })]);
      expect((refused["error"] as { message: string }).message).toContain("default/web-crun");
      expect([node.tree(), node.starts()]).toEqual([before, starts]);

      const waiting = node.spawn(["/usr/local/bin/shimctl", "uninstall", "crun", "--wait-unused", "2m"]);
      await sleep(1_500);
      expect(waiting.exitCode).toBeNull();
      await pod.end();
      expect((await waiting.ended).code).toBe(0);
      expect(node.starts()).toBe(starts + 1);
    });

    test("apply keeps a handler while a pod uses it, and a later one removes it", async () => {
      node.place("/handlers.toml", "format = 1\n[handlers.kata-qemu]\n");
      expect(node.shimctl("install", "crun").code).toBe(0);
      const pod = await runPod(node, "crun");
      const first = node.json("apply", "-f", "/handlers.toml", "--allow-missing");
      expect([first.code, first["pendingRemoval"]]).toEqual([0, ["crun"]]);
      await pod.end();
      const second = node.json("apply", "-f", "/handlers.toml", "--allow-missing");
      expect([second.code, second["pendingRemoval"]]).toEqual([0, []]);
      expect(node.json("status")["handlers"]).not.toContainEqual(expect.objectContaining({ name: "crun" }));
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
    });

    test("a pod really runs on gVisor behind runc's shim, as Debian has no shim of gVisor's", async () => {
      node.place(
        "/gvisor.toml",
        'format = 1\n[handlers.gvisor]\n[handlers.gvisor.containerd]\nruntime_type = "io.containerd.runc.v2"\noptions = { BinaryName = "/usr/bin/runsc" }\n',
      );
      const starts = node.starts();
      expect(node.shimctl("install", "-f", "/gvisor.toml").code).toBe(0);
      const pod = await runPod(node, "gvisor");
      await pod.end();
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
      expect(node.starts() - starts).toBe(2);
    });

    test("a pod lives through the restart for another handler", async () => {
      expect(node.shimctl("install", "crun").code).toBe(0);
      const running = () => node.run(["sh", "-c", "grep -lx pause /proc/[0-9]*/comm"]).out;
      const before = running();
      await runPod(node, "crun");
      const processes = running();
      expect(processes).not.toBe(before);
      expect(node.shimctl("install", "kata-qemu", "--allow-missing").code).toBe(0);
      expect(running()).toBe(processes);
      expect(node.shimctl("uninstall", "--all", "--force").code).toBe(0);
      expect(running()).toBe(processes);
    });

    test("a probe tells of a handler that is served and runs nothing", () => {
      expect(node.shimctl("install", "kata-qemu", "--allow-missing").code).toBe(0);
      const probed = node.json("status", "--probe");
      expect([probed.code, probed["result"]]).toEqual([11, "broken"]);
      expect(probed["problems"]).toContainEqual(
        expect.objectContaining({ rule: "probe", handler: "kata-qemu" }),
      );
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
    });
  });
}
