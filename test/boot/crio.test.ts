import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { bootProblem } from "../../build/boot.ts";
import { bringCrioRoots } from "../../build/crio_root.ts";
import { BootedNode } from "./boot.ts";
import { placePause } from "./pause.ts";
import { runPod } from "./pods.ts";

const problem = bootProblem() ?? (process.arch === "x64" ? undefined : "the pause image is for x86-64");
if (problem !== undefined) console.log(`(skip) CRI-O on booted nodes: ${problem}`);
const roots = problem === undefined ? (await bringCrioRoots()).roots : [];

const handlers = `format = 1
[handlers.other]
[handlers.other.crio]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/other"
like_default = true
`;

for (const root of roots) {
  describe(`on a booted Debian ${root.suite} with the real CRI-O ${root.version}`, () => {
    let node: BootedNode;
    beforeAll(async () => {
      node = await BootedNode.start(root);
      node.place("/handlers.toml", handlers);
      await placePause(node);
    });
    afterAll(() => node.stop());

    test("install restarts the unit once and is proved by CRI, a pod runs on it, uninstall gives the tree back", async () => {
      const before = node.tree();
      const starts = node.starts();
      const installed = node.json("install", "-f", "/handlers.toml", "--engine", "crio");
      expect([installed.code, installed["error"], installed["proof"]]).toEqual([
        0,
        null,
        { rules: "passed", "engine-parser": "not run", served: "passed" },
      ]);
      expect(node.starts() - starts).toBe(1);
      expect(node.json("install", "-f", "/handlers.toml", "--engine", "crio")["result"]).toBe("unchanged");
      expect(node.starts() - starts).toBe(1);

      const pod = await runPod(node, "other");
      const refused = node.json("uninstall", "--all", "--engine", "crio");
      expect([refused.code, (refused["error"] as { code: string }).code]).toEqual([5, "in-use"]);
      await pod.end();
      expect(node.shimctl("uninstall", "--all", "--engine", "crio").code).toBe(0);
      expect([node.starts() - starts, node.tree()]).toEqual([2, before]);
    });

    test("a handler that the daemon ignores is found out and undone, and a pod lives through it all", async () => {
      const before = node.tree();
      const pod = await runPod(node, "");
      const running = () => node.run(["sh", "-c", "grep -lx pause /proc/[0-9]*/comm"]).out;
      const processes = running();
      expect(processes).not.toBe("");
      // The binary is there when it is looked for, and gone when CRI-O looks.
      node.place("/usr/bin/gone", "#!/bin/sh\n", "755");
      node.place(
        "/etc/systemd/system/crio.service.d/sabotage.conf",
        "[Service]\nExecStartPre=/bin/sh -c 'rm -f /usr/bin/gone'\n",
      );
      node.run(["systemctl", "daemon-reload"]);
      node.place("/gone.toml", handlers.replace("/usr/bin/crun", "/usr/bin/gone"));
      const ran = node.json("install", "-f", "/gone.toml", "--engine", "crio");
      expect([ran.code, (ran["error"] as { code: string }).code]).toEqual([7, "engine-failed"]);
      expect([node.tree(), running()]).toEqual([before, processes]);
      await pod.end();
    });
  });
}
