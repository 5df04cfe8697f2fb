import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type BootRoot, bootProblem, bringRoots } from "../../build/boot.ts";
import { BootedNode } from "./boot.ts";

const problem = bootProblem();
if (problem !== undefined) console.log(`(skip) booted nodes: ${problem}`);
const roots: readonly BootRoot[] = problem === undefined ? (await bringRoots()).roots : [];

for (const root of roots) {
  describe(`on a booted Debian ${root.suite} with its own containerd ${root.version}`, () => {
    let node: BootedNode;
    beforeAll(async () => {
      node = await BootedNode.start(root);
    });
    afterAll(() => node.stop());

    test("install restarts the unit once and is proved by CRI, a second one restarts nothing, uninstall gives the tree back", () => {
      const before = node.tree();
      const starts = node.starts();
      const { InvocationID } = node.unitState();
      const installed = node.json("install", "crun");
      expect([installed.code, installed["error"]]).toEqual([0, null]);
      expect(installed["proof"]).toMatchObject({ served: "passed" });
      expect([node.starts() - starts, node.unitState()["InvocationID"] !== InvocationID]).toEqual([1, true]);
      const status = node.json("status");
      expect([status.code, status["result"]]).toEqual([0, "in sync"]);
      expect(status["handlers"]).toContainEqual(expect.objectContaining({ name: "crun", served: true }));
      expect(node.json("install", "crun")["result"]).toBe("unchanged");
      expect(node.starts() - starts).toBe(1);
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
      expect([node.starts() - starts, node.tree()]).toEqual([2, before]);
    });

    test("a hundred status and a staged edit of the administrator restart nothing", () => {
      node.shimctl("install", "crun");
      const starts = node.starts();
      const path = "/etc/containerd/config.toml";
      const text = node.text(path);
      node.place(path, `${text}# staged\n`);
      node.run(["sh", "-c", "for i in $(seq 100); do shimctl status >/dev/null; done"]);
      expect(node.json("install", "crun")["result"]).toBe("unchanged");
      expect(node.starts()).toBe(starts);
      node.place(path, text);
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
    });
  });
}
