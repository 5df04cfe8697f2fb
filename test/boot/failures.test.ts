import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bootProblem, bringRoots } from "../../build/boot.ts";
import { BootedNode } from "./boot.ts";

const problem = bootProblem();
if (problem !== undefined) console.log(`(skip) failures on booted nodes: ${problem}`);
const roots = problem === undefined ? (await bringRoots()).roots : [];
const inPod = { KUBERNETES_SERVICE_HOST: "10.96.0.1" };

/** Makes the unit fail, or fall silent, while this shell condition holds; an empty one makes it whole again. */
function sabotage(node: BootedNode, lines: string): void {
  node.place("/etc/systemd/system/containerd.service.d/sabotage.conf", `[Service]\n${lines}\n`);
  node.run(["systemctl", "daemon-reload"]);
}

const hasKata = "grep -rqs kata-qemu /etc/containerd";
const shimctl = "/usr/local/bin/shimctl";
/** By name, as a minimal node has no pkill(1). */
const killAll =
  'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = shimctl ] && kill -KILL ${p#/proc/}; done; true';

for (const root of roots) {
  describe(`on a booted Debian ${root.suite}, containerd ${root.version}`, () => {
    let node: BootedNode;
    beforeAll(async () => {
      node = await BootedNode.start(root);
    });
    afterAll(() => node.stop());

    const steps = () =>
      node
        .text("/var/lib/shimctl/journal")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { step: string; result?: string })
        .map(({ step, result }) => (result === undefined ? step : `${step} ${result}`))
        .filter((step) => step !== "intent" && step !== "committed");

    test("a bad handler tried 50 times in a row by a pod costs two restarts, and is held without a write", () => {
      sabotage(node, `ExecStartPre=/bin/sh -c '! ${hasKata}'`);
      const before = node.tree();
      const starts = node.starts();
      const argv = [shimctl, "install", "kata-qemu", "--allow-missing"];
      const first = node.run(argv, inPod);
      expect([first.code, first.err.includes("the change was undone")]).toEqual([7, true]);
      const active = node.unitState()["ActiveState"];
      const loop = `for i in $(seq 49); do ${argv.join(" ")} >/dev/null 2>&1; echo $?; done | sort | uniq -c`;
      expect(node.run(["sh", "-c", loop], inPod).out.trim()).toBe("49 12");
      expect([node.starts() - starts, active, node.tree()]).toEqual([2, "active", before]);
      expect(steps().slice(-5)).toEqual(["begin", "restart", "failed", "restore", "end undone"]);
      expect(node.shimctl("status").out).toContain("held: the last change of owner 'default'");
      sabotage(node, "");
      expect(node.run([...argv, "--retry"], inPod).code).toBe(0);
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
    });

    test("a handler with which containerd does not load its CRI is undone", () => {
      const before = node.tree();
      node.place(
        "/handlers.toml",
        'format = 1\nallow_missing = true\n[handlers.mine]\nbase_runtime_spec = "/spec.json"\n[handlers.mine.containerd]\nruntime_type = "io.containerd.runc.v2"\n',
      );
      // It is there when it is looked for, and gone when containerd looks.
      node.place("/spec.json", "{}");
      sabotage(node, "ExecStartPre=/bin/sh -c 'rm -f /spec.json'");
      const ran = node.json("install", "-f", "/handlers.toml", "--retry");
      expect([ran.code, (ran["error"] as { code: string }).code]).toEqual([7, "engine-failed"]);
      expect([node.tree(), node.json("status")["result"]]).toEqual([before, "in sync"]);
      sabotage(node, "");
    });

    test("a file that the daemon does not read is found out and undone", () => {
      const before = node.tree();
      const other = "/etc/containerd/other.toml";
      node.place(other, node.text("/etc/containerd/config.toml"));
      const elsewhere = node.json("install", "crun", "--config", other, "--retry");
      expect([elsewhere.code, (elsewhere["error"] as { message: string }).message]).toEqual([
        6,
        expect.stringContaining("starts containerd on another file: /etc/containerd/config.toml"),
      ]);
      // In the unit's own view of the file system, another one stands in its place.
      sabotage(node, `BindReadOnlyPaths=${other}:/etc/containerd/config.toml`);
      node.run(["systemctl", "restart", "containerd"]);
      const ran = node.json("install", "crun", "--retry");
      expect([ran.code, (ran["error"] as { message: string }).message]).toEqual([
        7,
        expect.stringContaining("does not serve crun"),
      ]);
      sabotage(node, "");
      node.run(["systemctl", "restart", "containerd"]);
      node.run(["rm", other]);
      expect(node.tree()).toBe(before);
    });

    test("an engine that was broken before us is refused, and nothing is written", () => {
      const before = node.tree();
      sabotage(node, "ExecStartPre=/bin/false");
      node.run(["systemctl", "restart", "--no-block", "containerd"]);
      let ran = node.shimctl("install", "crun");
      for (let tries = 0; tries < 20 && ran.code !== 3; tries++) ran = node.shimctl("install", "crun");
      expect([ran.code, ran.err.includes("does not work already")]).toEqual([3, true]);
      expect(node.tree()).toBe(before);
      sabotage(node, "");
      node.run(["systemctl", "reset-failed", "containerd"]);
      node.run(["systemctl", "restart", "containerd"]);
    });

    test("an administrator's comment that is added while the engine is watched stays, done or undone", async () => {
      const path = "/etc/containerd/config.toml";
      const text = node.text(path);
      for (const fails of [false, true]) {
        sabotage(
          node,
          fails ? `ExecStartPre=/bin/sh -c 'sleep 5; ! ${hasKata}'` : "ExecStartPre=/bin/sleep 5",
        );
        const run = node.spawn([shimctl, "install", "kata-qemu", "--allow-missing", "--retry"]);
        while (node.unitState()["ActiveState"] !== "activating") await sleep(20);
        node.run(["sh", "-c", `echo '# ${fails}' >>${path}`]);
        expect((await run.ended).code).toBe(fails ? 7 : 0);
        sabotage(node, "");
        expect(node.shimctl("uninstall", "--all").code).toBe(0);
      }
      expect(node.text(path)).toBe(`${text}# false\n# true\n`);
      node.place(path, text);
    });

    test("eight owners at the same moment are all served, and the engine is never left dead", async () => {
      const starts = node.starts();
      const owners = Array.from({ length: 8 }, (_, index) => `owner-${index}`);
      node.place("/usr/local/bin/crun", "#!/bin/sh\n", "755");
      for (const owner of owners)
        node.place(
          `/${owner}.toml`,
          `format = 1\n[handlers.${owner}]\n[handlers.${owner}.containerd]\nruntime_type = "io.containerd.runc.v2"\noptions = { BinaryName = "/usr/local/bin/crun" }\n`,
        );
      const runs = owners.map((owner) =>
        node.spawn([shimctl, "install", "-f", `/${owner}.toml`, "--owner", owner]),
      );
      const ended = await Promise.all(runs.map((run) => run.ended));
      expect(ended.map(({ code }) => code)).toEqual(owners.map(() => 0));
      const handlers = node.json("status")["handlers"] as { name: string; served: boolean }[];
      expect(handlers.filter(({ served }) => served).map(({ name }) => name)).toEqual(
        expect.arrayContaining(owners),
      );
      expect(node.starts() - starts).toBeLessThanOrEqual(8);
      expect(node.unitState()["ActiveState"]).toBe("active");
      for (const owner of owners) expect(node.shimctl("uninstall", "--all", "--owner", owner).code).toBe(0);
    });

    test("a run whose own unit goes down with the engine's restart is finished by the one that follows", async () => {
      const before = node.tree();
      const starts = node.starts();
      const properties = ["PartOf=containerd.service", "KillSignal=SIGKILL", "TimeoutStopSec=1"].map(
        (property) => `--property=${property}`,
      );
      // A restart of the engine restarts this one as well, as a pod's container would be.
      node.run(["systemd-run", "--unit=caller", ...properties, shimctl, "install", "crun"]);
      for (let tries = 0; tries < 100; tries++) {
        await sleep(100);
        const { out } = node.run(["systemctl", "show", "caller", "-p", "ActiveState"]);
        if (node.starts() > starts && !out.includes("=active") && !out.includes("activating")) break;
      }
      const next = node.json("install", "crun");
      expect([next.code, next["error"]]).toEqual([0, null]);
      expect(node.starts() - starts).toBeLessThanOrEqual(2);
      expect(node.json("status")["result"]).toBe("in sync");
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
      expect(node.tree()).toBe(before);
    });

    test("a run that is killed at any moment is finished or undone by the next, with one more restart at most", async () => {
      const before = node.tree();
      let killed = 0;
      let recovered = 0;
      let rounds = 0;
      // A machine that is busy comes as far as that later.
      for (; rounds < 24 || (recovered <= 2 && rounds < 100); rounds++) {
        const starts = node.starts();
        const run = node.spawn([shimctl, "install", "crun"]);
        await sleep(40 + rounds * 12);
        node.run(["sh", "-c", killAll]);
        if ((await run.ended).code !== 0) killed++;
        const until = node.starts() - starts;
        const next = node.json("install", "crun");
        expect([next.code, next["error"]]).toEqual([0, null]);
        if ((next["notes"] as string[]).some((note) => note.includes("cut short"))) recovered++;
        expect(node.starts() - starts - until).toBeLessThanOrEqual(1);
        expect(node.json("status")["result"]).toBe("in sync");
        expect(node.shimctl("uninstall", "--all").code).toBe(0);
        expect(node.tree()).toBe(before);
      }
      console.log(
        `   killed ${killed} of ${rounds} runs, ${recovered} of them with something to finish or undo`,
      );
      expect(recovered).toBeGreaterThan(2);
    });
  });
}

describe.skipIf(roots.length === 0)("an engine that is slow", () => {
  test("is waited for: silent for 200 s after its start, then fine", async () => {
    const [root] = roots;
    if (root === undefined) throw new Error("no root");
    await using node = await BootedNode.start(root);
    sabotage(
      node,
      "ExecStartPost=/bin/sh -c 'kill -STOP $MAINPID; (sleep 200; kill -CONT $MAINPID) >/dev/null 2>&1 &'",
    );
    const before = node.starts();
    const ran = node.shimctl("install", "crun");
    expect([ran.code, node.starts() - before]).toEqual([0, 1]);
    expect(ran.err).toContain("waiting until containerd.service answers on its CRI socket");
  });

  test("longer than --verify-timeout stays open, and the next run finishes it without another restart", async () => {
    const [root] = roots;
    if (root === undefined) throw new Error("no root");
    await using node = await BootedNode.start(root);
    sabotage(
      node,
      "ExecStartPost=/bin/sh -c 'kill -STOP $MAINPID; (sleep 20; kill -CONT $MAINPID) >/dev/null 2>&1 &'",
    );
    const before = node.starts();
    const ran = node.shimctl("install", "crun", "--verify-timeout", "5s");
    expect([ran.code, ran.err.includes("stays open")]).toEqual([9, true]);
    const next = node.json("install", "crun");
    expect([next.code, next["result"], node.starts() - before]).toEqual([0, "unchanged", 1]);
  });
});
