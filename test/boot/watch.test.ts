import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bootProblem, bringRoots } from "../../build/boot.ts";
import { openCri } from "../../src/host/cri/client.ts";
import { artefact, whyNotArtefacts } from "../support/artefacts.ts";
import { BootedNode } from "./boot.ts";
import { placeNetwork, type Running, runPodOf } from "./kubelet.ts";
import { placePause } from "./pause.ts";
import { runPod } from "./pods.ts";
import { Prober } from "./prober.ts";

const cannot = bootProblem() ?? (process.arch === "x64" ? undefined : "the pause image is for x86-64");
const problem = whyNotArtefacts(
  "the DaemonSet's pod on a booted node",
  cannot === undefined ? {} : { also: cannot },
);
/** The newest: what the pod may do is the same for every release. */
const root = problem === undefined ? (await bringRoots()).roots.at(-1) : undefined;
const image = "/usr/libexec/shimctl-image.tar";

describe.skipIf(root === undefined)(
  `the pod of the rendered DaemonSet on a booted Debian ${root?.suite}`,
  () => {
    let node: BootedNode;
    /** Of the roll-out that is current. */
    let manifest: string;
    /** The engine's configuration before anything. */
    let untouched: string;

    beforeAll(async () => {
      if (root === undefined) return;
      node = await BootedNode.start(root, { binds: [[artefact.image, image]] });
      await prepare();
      manifest = rendered();
      untouched = node.tree();
    });
    afterAll(() => node?.stop());

    /** What is gone after a reboot: what the engine keeps is in memory. */
    async function prepare(): Promise<void> {
      await placePause(node);
      placeNetwork(node);
      expect(node.run(["ctr", "-n", "k8s.io", "images", "import", image]).code).toBe(0);
    }

    const rendered = (...args: string[]) =>
      node.shimctl("render", "--for", ...(args.length > 0 ? args : ["daemonset", "crun"])).out;
    const served = async () => {
      const status = await openCri(`${node.outside}${node.socket}`).status();
      return status.kind === "up" ? status.handlers : status.kind;
    };
    const state = () =>
      node.tree() + node.run(["sh", "-c", "find /var/lib/shimctl -type f -exec sha256sum {} + | sort"]).out;
    /** All but the half hour within which the manifest spreads the nodes. */
    const run = () =>
      runPodOf(node, manifest, {
        args(args) {
          expect(args).toContain("--stagger=30m");
          return args.map((each) => (each.startsWith("--stagger=") ? "--stagger=0s" : each));
        },
      });
    /** @returns milliseconds until the process is gone */
    async function signal(running: Running, name: string): Promise<number> {
      const before = performance.now();
      expect(node.run(["sh", "-c", `kill -${name} ${running.pid}`]).code).toBe(0);
      while (node.run(["test", "-d", `/proc/${running.pid}`]).code === 0) await sleep(5);
      const ms = performance.now() - before;
      // The engine hears of it a little later.
      while ((await running.state()).running) await sleep(5);
      return ms;
    }

    test("installs with what the manifest allows, is ready only when the handler is served, outlives the restart, and ends within a second", async () => {
      const pod = await run();
      const { path: ready } = pod.probes["readinessProbe"] ?? { path: "" };
      const { path: health } = pod.probes["livenessProbe"] ?? { path: "" };
      const prober = new Prober(node, pod);
      const starts = node.starts();
      // Wide enough that a readiness that comes too early is seen.
      slowEngine("1");
      const running = await pod.start();
      await prober.until(ready, 200);
      expect([prober.last(ready)?.status, await served()]).toEqual([200, ["crun", "runc"]]);
      expect([node.starts() - starts, (await running.state()).running]).toEqual([1, true]);
      const answered = prober.of(ready).map(({ status }) => status);
      expect(answered.filter((status) => status !== 0 && status !== 503)).toEqual([200]);
      expect(answered).toContain(503);
      // While the engine was away nobody was answered 200, and the process answered all the time.
      const engineUp = Number(
        node
          .run(["systemctl", "show", node.unit, "-p", "ActiveEnterTimestamp", "--value", "--timestamp=unix"])
          .out.trim()
          .replace("@", ""),
      );
      expect(prober.last(ready)?.at ?? 0).toBeGreaterThanOrEqual(engineUp * 1_000);
      expect(prober.of(health).map(({ status }) => status)).toEqual([0, 200]);
      expect(node.run(["test", "-d", `/proc/${running.pid}`]).code).toBe(0);

      const status = node.text(`/proc/${running.pid}/status`);
      const of = (key: string) => new RegExp(`^${key}:\\s*(.*)$`, "m").exec(status)?.[1];
      expect(["CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Uid"].map(of)).toEqual([
        ...["0000000000000000", "0000000000000000", "0000000000000000", "1", "2"],
        "0\t0\t0\t0",
      ]);
      expect(mounts(running).find((line) => line.split(" ")[4] === "/")).toContain(" ro,");
      prober.stop();

      await sleep(3_000);
      const memory = node.text(`/proc/${running.pid}/smaps_rollup`);
      const kib = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(memory)?.[1]);
      const wakeUps = () =>
        node
          .run(["sh", "-c", `cat /proc/${running.pid}/task/*/status`])
          .out.matchAll(/^voluntary_ctxt_switches:\s+(\d+)$/gm)
          .reduce((sum, [, count]) => sum + Number(count), 0);
      const before = wakeUps();
      await sleep(5_000);
      console.log(
        `the pod, idle: ${kib("Anonymous")} KiB private, ${kib("Rss")} KiB in all, ${((wakeUps() - before) / 5).toFixed(1)} wake-ups a second`,
      );
      expect(kib("Anonymous")).toBeGreaterThan(0);
      expect(kib("Anonymous")).toBeLessThanOrEqual(12 * 1024);

      const tree = state();
      expect(await signal(running, "TERM")).toBeLessThan(1_000);
      expect((await running.state()).code).toBe(0);
      expect([state(), node.starts() - starts, await served()]).toEqual([tree, 1, ["crun", "runc"]]);
      await pod.remove();
      slowEngine("0");
    });

    test("holds no mount of another container, nor one of the node, after it is gone", async () => {
      const pod = await run();
      const running = await pod.start();
      const other = await runPod(node, "crun");
      expect(mounts(running).some((line) => line.includes(`${other.id}/rootfs`))).toBe(true);
      const folder = "/run/containerd/other";
      expect(node.run(["sh", "-c", `mkdir ${folder} && mount -t tmpfs other ${folder}`]).code).toBe(0);
      expect(mounts(running).some((line) => line.includes(` /host${folder} `))).toBe(true);
      await other.end();
      expect(node.run(["sh", "-c", `umount ${folder} && rmdir ${folder}`])).toMatchObject({ code: 0 });
      const left = mounts(running).filter((line) => line.includes(other.id) || line.includes(folder));
      expect(left).toEqual([]);
      expect(
        node.run(["sh", "-c", `ls /run/containerd/io.containerd.runtime.v2.task/k8s.io`]).out,
      ).not.toContain(other.id);
      await running.stop();
      await pod.remove();
    });

    test("a rolling restart, two instances at once and a reboot leave it installed, without a restart of the engine", async () => {
      const starts = node.starts();
      const first = await run();
      const old = await first.start();
      manifest = rendered();
      const second = await run();
      const prober = new Prober(node, second);
      const next = await second.start();
      await prober.until("/readyz", 200);
      // The older incarnation is late by now: it is there still, and takes nothing back.
      expect((await old.state()).running).toBe(true);
      expect((await old.stop()).code).toBe(0);
      await signal(next, "KILL");
      await prober.until("/readyz", 0);
      await second.start();
      await prober.until("/readyz", 200);
      prober.stop();
      expect([node.starts() - starts, await served()]).toEqual([0, ["crun", "runc"]]);

      const tree = node.tree();
      await node.reboot();
      await prepare();
      const after = await run();
      const again = new Prober(node, after);
      const running = await after.start();
      await again.until("/readyz", 200);
      again.stop();
      // The one start is the boot's.
      expect([node.starts(), node.tree(), await served()]).toEqual([1, tree, ["crun", "runc"]]);
      await running.stop();
      await after.remove();
    });

    test("evicted again and again in the middle of an install, it ends installed by one restart", async () => {
      const job = await runPodOf(node, rendered("job", "--all", "--node-name", "node-1"));
      const uninstall = await job.start();
      while ((await uninstall.state()).running) await sleep(50);
      expect([(await uninstall.state()).code, await served(), node.tree()]).toEqual([0, ["runc"], untouched]);
      await job.remove();
      slowEngine("1.5");
      const starts = node.starts();
      manifest = rendered();
      const pod = await run();
      for (const ms of [20, 90, 150, 400]) {
        const running = await pod.start();
        await sleep(ms);
        node.run(["sh", "-c", `kill -TERM ${running.pid}; sleep 0.02; kill -KILL ${running.pid}`]);
      }
      const prober = new Prober(node, pod);
      const last = await pod.start();
      await prober.until("/readyz", 200);
      prober.stop();
      expect([await served(), node.starts() - starts]).toEqual([["crun", "runc"], 1]);
      expect(node.json("status")).toMatchObject({ result: "in sync", unfinished: [] });
      await last.stop();
    });

    function mounts({ pid }: Running): string[] {
      return node.text(`/proc/${pid}/mountinfo`).split("\n");
    }

    function slowEngine(seconds: string): void {
      const path = `/etc/systemd/system/${node.unit}.d/slow.conf`;
      node.place(path, `[Service]\nExecStartPre=/bin/sleep ${seconds}\n`);
      node.run(["systemctl", "daemon-reload"]);
    }
  },
);
