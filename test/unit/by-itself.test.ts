import { beforeAll, describe, expect, test } from "bun:test";
import { rmSync, utimesSync } from "node:fs";
import { ShimctlError } from "../../src/error.ts";
import { exactly } from "../../src/handler/asked.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { type LiveEngine, openLive, type RestartMode } from "../../src/host/live.ts";
import { openHost } from "../../src/host/root.ts";
import type { Activation } from "../../src/transaction/activation.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import type { Outcome } from "../../src/transaction/outcome.ts";
import { run } from "../../src/transaction/run.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { k0sFolder, k0sSocket } from "../support/k0s_merge.ts";
import { k0sNode } from "../support/k0s_node.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing } from "../support/transaction.ts";

beforeAll(async () => {
  await loadLibc();
});

/** The engine was started that long after the folder changed, which was that long ago. */
function startedAfter(node: Node, afterMs: number, agoMs: number): void {
  const changed = (Date.now() - agoMs) / 1000;
  node.place(k0sSocket, "");
  utimesSync(node.root + k0sFolder, changed, changed);
  utimesSync(node.root + k0sSocket, changed + afterMs / 1000, changed + afterMs / 1000);
}

function liveOf(node: Node, mode: RestartMode = "auto"): LiveEngine {
  return openLive(openHost(node.root), {
    socket: k0sSocket,
    unit: "k0sworker.service",
    mode,
    command: ["/bin/true"],
    byItself: { by: "k0s", folder: k0sFolder },
  });
}

describe("an engine that its supervisor restarts when a folder changes", () => {
  const soon = () => AbortSignal.timeout(500);

  test("has been restarted where its socket was made long enough after the last change", async () => {
    using node = k0sNode("1.36", "2.3.4");
    startedAfter(node, 3_100, 4_000);
    expect(await liveOf(node).restart(soon())).toBe("done");
  });

  test("has not been where its socket is older than the last change", async () => {
    using node = k0sNode("1.36", "2.3.4");
    startedAfter(node, -1_000, 30_000);
    expect(await liveOf(node).restart(soon())).toBe("not waited for");
  });

  test("has not been where it was started in this very moment, as it may be ended at once", async () => {
    using node = k0sNode("1.36", "2.3.4");
    startedAfter(node, 3_010, 3_010);
    // One look and no more: the moment would be over with another one.
    expect(await liveOf(node).restart(AbortSignal.abort())).toBe("not waited for");
    expect(await liveOf(node).restart(AbortSignal.timeout(30_000))).toBe("done");
  });

  test("has not been where it was started for something older, as it is restarted once more then", async () => {
    using node = k0sNode("1.36", "2.3.4");
    startedAfter(node, 300, 1_000);
    expect(await liveOf(node).restart(soon())).toBe("not waited for");
  });

  test("has been where the supervisor itself was restarted in between, and nothing more came", async () => {
    using node = k0sNode("1.36", "2.3.4");
    startedAfter(node, 300, 17_000);
    expect(await liveOf(node).restart(soon())).toBe("done");
  });

  test("is waited for until then", async () => {
    using node = k0sNode("1.36", "2.3.4");
    startedAfter(node, -60_000, 3_000);
    const restarted = liveOf(node).restart(AbortSignal.timeout(30_000));
    await Bun.sleep(300);
    rmSync(node.root + k0sSocket);
    node.place(k0sSocket, "");
    expect(await restarted).toBe("done");
  });

  test("is restarted by nobody else, unless another way is asked for", async () => {
    using node = k0sNode("1.36", "2.3.4");
    expect([liveOf(node).restartedBy, await liveOf(node).way()]).toEqual(["k0s", "k0s, by itself"]);
    const asked = liveOf(node, "command");
    expect([asked.restartedBy, await asked.way(), await asked.restart(soon())]).toEqual([
      undefined,
      "/bin/true",
      "done",
    ]);
  });
});

describe("a change that somebody else brings into effect", () => {
  class Setup {
    readonly node = new Node("2.1.9", "version = 3\n");
    readonly engine = new FakeEngine(() => this.environment());
    readonly said: string[] = [];

    constructor() {
      this.engine.restartedBy = "k0s";
      // It would be refused for both, were it shimctl that restarts it.
      this.engine.unit = { ...this.engine.unit, name: "k0scontroller.service", killMode: "control-group" };
    }

    environment(more: Partial<Activation> = {}): Environment {
      const env = environmentOf(this.node);
      const activation = (this as Partial<Setup>).engine?.activation({
        progress: (words) => this.said.push(words),
        ...more,
      });
      return { ...env, site: { ...env.site, restartedBy: "k0s" }, activation };
    }

    install(more: Partial<Activation> = {}): Promise<Outcome> {
      const intent = { command: "install", handlers: [exactly(handler("kata-qemu"))] } as const;
      return run(this.environment(more), { ...installing(), intent });
    }

    [Symbol.dispose](): void {
      this.node[Symbol.dispose]();
    }
  }

  test("is waited for and said so, whatever the unit's KillMode, and though it carries a control plane", async () => {
    using it = new Setup();
    const { restart } = await it.install();
    expect(restart).toEqual({
      done: true,
      needed: false,
      words: "k0s has restarted the engine by itself, which serves kata-qemu",
    });
    expect([it.engine.restarts, it.said[0]]).toEqual([1, "waiting until k0s restarts the engine by itself"]);
  });

  test("stays open where it was not seen in time, and the next step says who knows why", async () => {
    using it = new Setup();
    it.engine.restartEnds = "not waited for";
    const error = await it.install().catch((thrown: unknown) => thrown);
    if (!(error instanceof ShimctlError)) throw error;
    expect([error.code, error.message]).toEqual([
      "cannot-verify",
      "Cannot verify the change, as it was not seen in time that k0s has restarted the engine by itself",
    ]);
    expect(error.facts.hint).toStartWith(
      "see `journalctl -u containerd.service`, where k0s says why it does not take a drop-in, then run the same command again",
    );
    it.engine.restartEnds = undefined;
    const next = await it.install();
    expect([next.result, next.handlers.map(({ name }) => name)]).toEqual(["unchanged", ["kata-qemu"]]);
  });

  test("that the engine does not serve is undone, and that is waited for as well", async () => {
    using it = new Setup();
    it.engine.fault = (handlers) => (handlers.includes("kata-qemu") ? "ignores it" : "none");
    const before = it.node.tree();
    const error = await it.install().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "engine-failed" });
    expect([it.engine.restarts, it.node.tree()]).toEqual([2, before]);
  });

  test("is not waited for where nobody wants it", async () => {
    using it = new Setup();
    const { restart } = await run({ ...it.environment(), activation: undefined }, installing("kata-qemu"));
    expect(restart.words).toBe(
      "k0s restarts the engine by itself when it sees the change: that was not waited for",
    );
  });

  for (const who of ["systemd", "nobody but its socket"]) {
    test(`is not begun in the moment in which it is restarted for something else, as ${who} says`, async () => {
      using it = new Setup();
      it.engine.hasUnit = who === "systemd";
      it.engine.cri = "absent";
      setTimeout(() => it.engine.start(), 700);
      const { result, restart } = await it.install();
      expect([result, restart.done]).toEqual(["changed", true]);
    });
  }

  test("and that ended our run before it was seen is finished by the next one", async () => {
    using it = new Setup();
    it.engine.killsUs = true;
    void it.install().catch(() => undefined);
    while (it.engine.restarts === 0) await Bun.sleep(5);
    it.engine.killsUs = false;
    const { result, notes, handlers } = await it.install();
    expect([result, notes, handlers.map(({ name }) => name)]).toEqual([
      "unchanged",
      ["finished an install of owner 'default' that was cut short"],
      ["kata-qemu"],
    ]);
    expect([it.engine.restarts, it.engine.served]).toEqual([1, ["kata-qemu", "runc"]]);
  });
});
