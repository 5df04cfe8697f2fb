import { beforeAll, describe, expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { exactly } from "../../src/handler/asked.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import type { Activation } from "../../src/transaction/activation.ts";
import type { Intent } from "../../src/transaction/desire.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import type { Outcome } from "../../src/transaction/outcome.ts";
import { run } from "../../src/transaction/run.ts";
import { FakeEngine, type Fault } from "../support/fake_engine.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const config = "# theirs\nversion = 3\n";
const dropIn = "/etc/containerd/conf.d/50-shimctl-default.toml";

beforeAll(async () => {
  await loadLibc();
});

class Setup {
  readonly node = new Node("2.1.9", config);
  now = new Date("2026-01-01T00:00:00Z");
  readonly engine = new FakeEngine(() => this.environment());
  before = this.node.tree();

  environment(more: Partial<Activation> = {}, signal?: AbortSignal): Environment {
    return {
      ...environmentOf(this.node, undefined, signal),
      now: () => this.now,
      activation: (this as Partial<Setup>).engine?.activation(more),
    };
  }

  async run(intent: Intent, more: Partial<Activation> = {}, signal?: AbortSignal): Promise<Outcome> {
    return run(this.environment(more, signal), { ...installing(), intent });
  }

  async fails(intent: Intent, more: Partial<Activation> = {}): Promise<ShimctlError> {
    try {
      await this.run(intent, more);
    } catch (error) {
      if (error instanceof ShimctlError) return error;
      throw error;
    }
    throw new Error("it did not fail");
  }

  /** A run that ends when the engine is restarted, without a chance to do anything about it. */
  async dies(intent: Intent, more: Partial<Activation> = {}): Promise<void> {
    this.engine.killsUs = true;
    const restarts = this.engine.restarts;
    const ended = this.run(intent, more).then(
      () => "ended",
      (error: unknown) => (error instanceof ShimctlError ? error.code : "error"),
    );
    while (this.engine.restarts === restarts) {
      const how = await Promise.race([ended, Bun.sleep(5).then(() => "")]);
      if (how !== "") throw new Error(`it was not killed: ${how}`);
    }
    this.engine.killsUs = false;
  }

  [Symbol.dispose](): void {
    this.node[Symbol.dispose]();
  }
}

const install = (...names: string[]): Intent => ({
  command: "install",
  handlers: names.map((name) => exactly(handler(name))),
});
const apply = (...names: string[]): Intent => ({ ...install(...names), command: "apply" }) as Intent;
const uninstall = (...names: string[]): Intent => ({ command: "uninstall", names });
const whenKata =
  (fault: Fault) =>
  (handlers: readonly string[]): Fault =>
    handlers.includes("kata-qemu") ? fault : "none";

describe("an incarnation", () => {
  const as = (it: Setup, epoch: string, intent: Intent) =>
    run(it.environment(), { ...installing(), intent, incarnation: { epoch, instance: "" } });
  const whatOf = ({ result, handlers, notes }: Outcome) => [result, handlers.map(({ name }) => name), notes];

  test("that finds its handlers served is recorded without a restart, and supersedes the one before", async () => {
    using it = new Setup();
    await as(it, "1", install("kata-qemu"));
    expect(whatOf(await as(it, "2", install("kata-qemu")))).toEqual(["unchanged", ["kata-qemu"], []]);
    expect(whatOf(await as(it, "1", uninstall("kata-qemu")))).toEqual(["superseded", ["kata-qemu"], []]);
    expect([it.engine.restarts, it.engine.served.includes("kata-qemu")]).toEqual([1, true]);
  });

  test("whose change the engine refused is undone, and still supersedes the one before", async () => {
    using it = new Setup();
    await as(it, "1", install("runsc"));
    it.engine.fault = whenKata("ignores it");
    expect(await as(it, "2", install("kata-qemu")).catch(({ code }: ShimctlError) => code)).toBe(
      "engine-failed",
    );
    const restarts = it.engine.restarts;
    expect(whatOf(await as(it, "1", uninstall("runsc")))).toEqual(["superseded", ["runsc"], []]);
    expect([it.engine.restarts, it.engine.served.includes("runsc")]).toEqual([restarts, true]);
  });

  test("that its own restart ended is finished by whoever comes next, who is superseded by it", async () => {
    using it = new Setup();
    await as(it, "1", install("kata-qemu"));
    it.engine.killsUs = true;
    void as(it, "2", install("runsc")).catch(() => undefined);
    while (it.engine.restarts === 1) await Bun.sleep(5);
    it.engine.killsUs = false;
    const late = await as(it, "1", uninstall("kata-qemu", "runsc"));
    expect(whatOf(late)).toEqual([
      "superseded",
      ["kata-qemu", "runsc"],
      ["finished an install of owner 'default' that was cut short"],
    ]);
    expect(it.engine.served).toEqual(expect.arrayContaining(["kata-qemu", "runsc"]));
  });

  test("that comes late does nothing, though the configuration is broken by now", async () => {
    using it = new Setup();
    await as(it, "2", install("kata-qemu"));
    it.node.place("/etc/containerd/config.toml", "torn = [");
    expect((await as(it, "1", uninstall("kata-qemu"))).result).toBe("superseded");
    expect(await as(it, "2", uninstall("kata-qemu")).catch(({ code }: ShimctlError) => code)).toBe(
      "invalid-config",
    );
  });
});

describe("a change of a running engine", () => {
  test("restarts it once and proves that it serves the handler", async () => {
    using it = new Setup();
    const outcome = await it.run(install("kata-qemu"));
    expect([outcome.result, outcome.restart.done, outcome.proof.served, it.engine.restarts]).toEqual([
      "changed",
      true,
      "passed",
      1,
    ]);
    expect(it.engine.served).toContain("kata-qemu");
    await it.run(install("kata-qemu"));
    expect(it.engine.restarts).toBe(1);
    await it.run(uninstall("kata-qemu"));
    expect(it.engine.restarts).toBe(2);
    expect(it.node.tree()).toEqual(it.before);
  });

  for (const fault of ["unit fails", "no CRI", "ignores it", "loses another"] as const) {
    test(`is undone when the engine then ${fault}, with one more restart, and not tried again by itself`, async () => {
      using it = new Setup();
      it.engine.fault = whenKata(fault);
      const error = await it.fails(install("kata-qemu"));
      expect([error.code, error.facts.state?.includes("the change was undone")]).toEqual([
        "engine-failed",
        true,
      ]);
      expect([it.engine.restarts, it.engine.unit.active, it.engine.cri]).toEqual([2, "active", "up"]);
      expect(it.node.tree()).toEqual(it.before);
      for (let turn = 0; turn < 50; turn++) expect((await it.fails(install("kata-qemu"))).code).toBe("held");
      expect([it.engine.restarts, it.node.tree()]).toEqual([2, it.before]);
    });
  }

  test("that is held is tried again when something changes, when its pause is over, and when a person says so", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("ignores it");
    await it.fails(install("kata-qemu"));
    it.node.place("/opt/kata/bin/containerd-shim-kata-v2", "#!/bin/sh\n# mended\n", 0o755);
    expect((await it.fails(install("kata-qemu"))).code).toBe("engine-failed");
    expect((await it.fails(install("kata-qemu"))).code).toBe("held");
    it.now = new Date(it.now.getTime() + 16 * 60_000);
    expect((await it.fails(install("kata-qemu"), { automatic: false })).code).toBe("engine-failed");
    it.now = new Date(it.now.getTime() + 16 * 60_000);
    expect((await it.fails(install("kata-qemu"))).code).toBe("held");
    expect((await it.fails(install("kata-qemu"), { retry: true })).code).toBe("engine-failed");
    it.engine.fault = () => "none";
    expect((await it.run(install("kata-qemu"), { retry: true })).proof.served).toBe("passed");
    expect(stateOf(it.node).readRecord().record.roots["/etc/containerd/config.toml"]?.held).toBeUndefined();
  });

  test("keeps the comment that an administrator added while the engine was watched, when it is undone", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("ignores it");
    const path = "/etc/containerd/config.toml";
    it.engine.onRestart = () => {
      if (it.engine.restarts === 1) it.node.place(path, `${it.node.text(path)}# added meanwhile\n`);
    };
    expect((await it.fails(install("kata-qemu"))).code).toBe("engine-failed");
    expect(it.node.text(path)).toBe(`${config}# added meanwhile\n`);
  });

  test("that the engine does not answer for in time stays open, and the next run finishes it", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("silent");
    const error = await it.fails(install("kata-qemu"), { verifyTimeoutMs: 400 });
    expect([error.code, error.retryable, it.engine.restarts]).toEqual(["cannot-verify", true, 1]);
    expect(it.node.text(dropIn)).toContain("kata-qemu");
    it.engine.cri = "up";
    const outcome = await it.run(install("kata-qemu"));
    expect([outcome.result, it.engine.restarts]).toEqual(["unchanged", 1]);
    expect(outcome.notes.join()).toContain("finished an install of owner 'default'");
  });

  test("that the engine does not answer for in time is undone with --undo-on-timeout", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("silent");
    expect((await it.fails(install("kata-qemu"), { undoOnTimeout: true, verifyTimeoutMs: 400 })).code).toBe(
      "engine-failed",
    );
    expect([it.engine.restarts, it.node.tree()]).toEqual([2, it.before]);
  });

  test("whose undoing does not bring the engine back says what to do by hand, and is not gone through again", async () => {
    using it = new Setup();
    it.engine.fault = () => "unit fails";
    const error = await it.fails(install("kata-qemu"));
    expect([error.code, error.facts.hint?.includes("systemctl restart containerd.service")]).toEqual([
      "undo-failed",
      true,
    ]);
    expect(it.node.tree()).toEqual(it.before);
    expect((await it.fails(install("kata-qemu"))).code).toBe("engine-broken");
    expect(it.engine.restarts).toBe(2);
  });
});

describe("before anything is written", () => {
  test("an engine that is broken already is refused, and a handler can be removed from it", async () => {
    using it = new Setup();
    await it.run(install("kata-qemu"));
    const installed = it.node.tree();
    it.engine.fault = whenKata("no CRI");
    it.engine.start();
    expect((await it.fails(install("crun"))).code).toBe("engine-broken");
    expect(it.node.tree()).toEqual(installed);
    expect((await it.run(uninstall("kata-qemu"))).restart.done).toBe(true);
    expect([it.node.tree(), it.engine.cri]).toEqual([it.before, "up"]);
  });

  test("an engine that is stopped is not started", async () => {
    using it = new Setup();
    it.engine.unit = { ...it.engine.unit, active: "inactive", sub: "dead" };
    it.engine.cri = "absent";
    const { restart } = await it.run(install("kata-qemu"));
    expect([restart.done, restart.needed, it.engine.restarts]).toEqual([false, false, 0]);
  });

  test.each([
    ["control-group", "ends this node's pods", { allowKill: true }],
    ["mixed", "ends this node's pods", { allowKill: true }],
  ])("a unit of KillMode %s is not restarted unasked", async (killMode, _, more) => {
    using it = new Setup();
    it.engine.unit = { ...it.engine.unit, killMode };
    const error = await it.fails(install("kata-qemu"));
    expect([error.code, error.message.includes(killMode)]).toEqual(["unsupported-node", true]);
    expect([it.engine.restarts, it.node.tree()]).toEqual([0, it.before]);
    expect((await it.run(install("kata-qemu"), more)).restart.done).toBe(true);
  });

  test.each([
    ["inactive", "dead", "success"],
    ["failed", "failed", "exit-code"],
    ["activating", "auto-restart", "exit-code"],
  ])("a unit that is %s (%s) while the engine runs is not started beside it", async (active, sub, result) => {
    using it = new Setup();
    it.engine.unit = { ...it.engine.unit, active, sub, result };
    const { code, message, facts } = await it.fails(install("kata-qemu"));
    expect({ code, message, hint: facts.hint }).toEqual({
      code: "unsupported-node",
      message: `Cannot restart containerd.service, as it is ${active} (${sub}) while the engine runs, which something else has started`,
      hint: "pass --unit with the unit that has, or pass --restart none and restart it yourself",
    });
    expect([it.engine.restarts, it.node.tree()]).toEqual([0, it.before]);
  });

  test("a unit that has just ended, and is started again, is waited for", async () => {
    using it = new Setup();
    const { unit } = it.engine;
    it.engine.unit = { ...unit, active: "activating", sub: "auto-restart", result: "signal" };
    setTimeout(() => {
      it.engine.unit = unit;
    }, 300);
    expect((await it.run(install("kata-qemu"))).restart.done).toBe(true);
  });

  test("a unit that is a control plane is not restarted unasked", async () => {
    using it = new Setup();
    it.engine.unit = { ...it.engine.unit, name: "k3s.service" };
    expect((await it.fails(install("kata-qemu"))).facts.hint).toContain("--restart-server");
    // A unit of another name is known by its layout.
    it.engine.unit = { ...it.engine.unit, name: "k3s-blue.service" };
    expect((await it.fails(install("kata-qemu"), { isServer: true })).message).toContain("k3s-blue.service");
    expect((await it.run(install("kata-qemu"), { restartServer: true })).restart.done).toBe(true);
  });

  test("a staged edit of somebody else is named with our restart, and refused with --only-ours", async () => {
    using it = new Setup();
    it.engine.unit = { ...it.engine.unit, activeSince: Date.now() - 60_000 };
    it.node.place("/etc/containerd/config.toml", `${config}# staged\n`);
    const error = await it.fails(install("kata-qemu"), { onlyOurs: true });
    expect([error.code, error.facts.path]).toEqual(["conflict", "/etc/containerd/config.toml"]);
    expect((await it.run(install("kata-qemu"))).notes.join()).toContain("/etc/containerd/config.toml");
  });
});

describe("handlers that running pods use", () => {
  const user = { id: "0123456789abcdef", handler: "kata-qemu", pod: "default/web" };

  test("are not uninstalled, the sandboxes are listed, and --force removes them all the same", async () => {
    using it = new Setup();
    await it.run(install("kata-qemu", "crun"));
    it.engine.users = [user];
    const installed = it.node.tree();
    const error = await it.fails(uninstall("kata-qemu"));
    expect([error.code, error.message]).toEqual([
      "in-use",
      "Cannot remove kata-qemu, as running pods use it: default/web (kata-qemu, 0123456789abc)",
    ]);
    expect([it.node.tree(), it.engine.restarts]).toEqual([installed, 1]);
    await it.run(uninstall("crun"));
    await it.run(uninstall("kata-qemu"), { force: true });
    expect(it.node.tree()).toEqual(it.before);
  });

  test("are kept by apply until a later one", async () => {
    using it = new Setup();
    await it.run(install("kata-qemu"));
    it.engine.users = [user];
    // Looking at pods is no try that another program's writing has spoilt.
    const request = { ...installing(), intent: apply("crun"), retries: 0 };
    const first = await run(it.environment(), request);
    expect([first.pendingRemoval, first.handlers.map(({ name }) => name)]).toEqual([
      ["kata-qemu"],
      ["crun", "kata-qemu"],
    ]);
    expect((await it.run(apply("crun"))).pendingRemoval).toEqual(["kata-qemu"]);
    it.engine.users = [];
    expect((await it.run(apply("crun"))).handlers.map(({ name }) => name)).toEqual(["crun"]);
  });
});

describe("the restart budget", () => {
  test("ends a loop of automatic changes, counts over processes, and lets a person through", async () => {
    using it = new Setup();
    for (let turn = 0; turn < 3; turn++) await it.run(turn % 2 === 0 ? install("crun") : uninstall("crun"));
    const installed = it.node.tree();
    const error = await it.fails(uninstall("crun"));
    expect([error.code, error.message]).toEqual([
      "held",
      "Held, as the engine was restarted 3 times within an hour by shimctl already",
    ]);
    expect([it.node.tree(), it.engine.restarts]).toEqual([installed, 3]);
    expect((await it.run(uninstall("crun"), { automatic: false })).restart.done).toBe(true);
    it.now = new Date(it.now.getTime() + 61 * 60_000);
    expect((await it.run(install("crun"))).restart.done).toBe(true);
  });
});

describe("what was written without a restart", () => {
  test("is brought into effect by the next run, once", async () => {
    using it = new Setup();
    it.now = new Date();
    await run({ ...it.environment(), activation: undefined }, installing("kata-qemu"));
    expect(it.engine.restarts).toBe(0);
    const outcome = await it.run(install("kata-qemu"));
    expect([outcome.result, outcome.restart.done, outcome.proof.served]).toEqual([
      "unchanged",
      true,
      "passed",
    ]);
    await it.run(install("kata-qemu"));
    expect(it.engine.restarts).toBe(1);
  });

  test("needs no restart where the engine was started since", async () => {
    using it = new Setup();
    it.now = new Date();
    await run({ ...it.environment(), activation: undefined }, installing("kata-qemu"));
    await Bun.sleep(5);
    it.engine.start();
    await it.run(install("kata-qemu"));
    expect(it.engine.restarts).toBe(0);
    expect(
      stateOf(it.node).readRecord().record.roots["/etc/containerd/config.toml"]?.pending,
    ).toBeUndefined();
  });
});

describe("a run that was told to stop", () => {
  test("before the restart is undone, and restarts nothing", async () => {
    using it = new Setup();
    const stop = new AbortController();
    const environment = it.environment({}, stop.signal);
    const steps: string[] = [];
    const stopped = run(
      {
        ...environment,
        step: (name) => {
          steps.push(name);
          if (name === "commit") stop.abort("SIGTERM");
        },
      },
      installing("kata-qemu"),
    );
    expect(
      await stopped.then(
        () => "done",
        (error: ShimctlError) => error.code,
      ),
    ).toBe("interrupted");
    expect([it.engine.restarts, it.node.tree()]).toEqual([0, it.before]);
  });

  test("while the engine is watched sees it through", async () => {
    using it = new Setup();
    const stop = new AbortController();
    it.engine.onRestart = () => stop.abort("SIGTERM");
    const outcome = await it.run(install("kata-qemu"), { verifyTimeoutMs: 5_000 }, stop.signal);
    expect([outcome.proof.served, it.engine.restarts]).toEqual(["passed", 1]);
  });
});

describe("a restart that ends the run that asked for it", () => {
  test("is not made again when the change is served", async () => {
    using it = new Setup();
    await it.dies(install("kata-qemu"));
    expect((await it.run(install("kata-qemu"))).notes.join()).toContain("finished");
    expect(it.engine.restarts).toBe(1);
  });

  test("is not made again and again to undo a change", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("ignores it");
    await it.dies(install("kata-qemu"));
    await it.dies(install("kata-qemu"));
    const error = await it.fails(install("kata-qemu"));
    expect([error.code, it.engine.restarts, it.node.tree()]).toEqual(["held", 2, it.before]);
    const { held } = stateOf(it.node).readRecord().record.roots["/etc/containerd/config.toml"] ?? {};
    expect(held?.["default"]?.tries).toBe(1);
  });

  test("is made once more at most where no unit tells that it was made", async () => {
    using it = new Setup();
    it.engine.hasUnit = false;
    await it.dies(install("kata-qemu"));
    await it.dies(install("kata-qemu"));
    expect((await it.run(install("kata-qemu"))).notes.join()).toContain("finished");
    expect(it.engine.restarts).toBe(2);
  });
});

describe("a restart that is not seen to end", () => {
  test("is no evidence: the change stays open and is finished by the next run", async () => {
    using it = new Setup();
    it.engine.restartEnds = "not waited for";
    expect((await it.fails(install("kata-qemu"))).code).toBe("cannot-verify");
    expect(it.node.text(dropIn)).toContain("kata-qemu");
    it.engine.restartEnds = undefined;
    it.engine.start();
    expect((await it.run(install("kata-qemu"))).notes.join()).toContain("finished");
    expect(it.engine.restarts).toBe(1);
  });

  test("without a unit is not made by every run while the engine is silent", async () => {
    using it = new Setup();
    it.engine.hasUnit = false;
    it.engine.fault = whenKata("silent");
    for (let turn = 0; turn < 4; turn++)
      expect((await it.fails(install("kata-qemu"), { verifyTimeoutMs: 300 })).code).toBe("cannot-verify");
    expect(it.engine.restarts).toBe(1);
  });
});

describe("an engine that was broken before", () => {
  const broken = async (it: Setup) => {
    await it.run(install("kata-qemu"));
    it.engine.fault = () => "no CRI";
    it.engine.start();
  };

  test.each([
    ["a unit whose KillMode ends pods", { killMode: "control-group" }, "--allow-kill"],
    ["a control plane", { name: "k3s.service" }, "--restart-server"],
  ])("is not restarted unasked to remove a handler where it is %s", async (_, unit, option) => {
    using it = new Setup();
    await broken(it);
    it.engine.unit = { ...it.engine.unit, ...unit };
    expect((await it.fails(uninstall("kata-qemu"))).facts.hint).toContain(option);
    expect([it.engine.restarts, it.node.text(dropIn).includes("kata-qemu")]).toEqual([1, true]);
  });

  test("does not get a handler back that a run removed which was killed then", async () => {
    using it = new Setup();
    await broken(it);
    await it.dies(uninstall("kata-qemu"));
    const { notes } = await it.run(uninstall("kata-qemu"));
    expect(notes.join()).toContain("finished an uninstall");
    expect([it.engine.restarts, it.node.tree()]).toEqual([2, it.before]);
  });

  test("for one question only is not broken", async () => {
    using it = new Setup();
    let questions = 0;
    const { live } = it.engine;
    const busy = {
      ...live,
      status: async () =>
        questions++ === 0 ? { kind: "silent" as const, why: "busy" } : await it.engine.live.status(),
    };
    expect((await it.run(install("kata-qemu"), { live: busy })).proof.served).toBe("passed");
  });
});

describe("what stays open", () => {
  test("is undone by a later run with --undo-on-timeout", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("silent");
    await it.fails(install("kata-qemu"), { verifyTimeoutMs: 300 });
    const error = await it.fails(install("kata-qemu"), { verifyTimeoutMs: 300, undoOnTimeout: true });
    expect([error.code, it.engine.restarts, it.node.tree()]).toEqual(["held", 2, it.before]);
  });

  test("is not undone by a run that was told to stop before its time was over", async () => {
    using it = new Setup();
    it.engine.fault = whenKata("silent");
    const stop = new AbortController();
    it.engine.onRestart = () => stop.abort("SIGTERM");
    const more = { verifyTimeoutMs: 300, undoOnTimeout: true };
    const ended = it.run(install("kata-qemu"), more, stop.signal).catch((error: ShimctlError) => error.code);
    expect(await ended).toBe("cannot-verify");
    expect(it.node.text(dropIn)).toContain("kata-qemu");
  });

  test("is not forgotten when the journal is long", async () => {
    using it = new Setup();
    await it.run(install("crun"));
    const journal = "/var/lib/shimctl/journal";
    it.node.place(journal, `${`${"x".repeat(1023)}\n`.repeat(1024)}${it.node.text(journal)}`);
    it.engine.fault = whenKata("silent");
    await it.fails(install("kata-qemu"), { verifyTimeoutMs: 300 });
    it.engine.cri = "up";
    expect((await it.run(install("kata-qemu"))).notes.join()).toContain("finished an install");
  });
});

test("a pod that named no handler uses the one that the engine runs as its default", async () => {
  using it = new Setup();
  await it.run(install("kata-qemu"));
  it.engine.users = [{ id: "0123456789abcdef", handler: "", pod: "default/web" }];
  const { live } = it.engine;
  const status = async () => {
    const answer = await live.status();
    return answer.kind === "up" ? { ...answer, defaultHandler: "kata-qemu" } : answer;
  };
  expect((await it.fails(uninstall("kata-qemu"), { live: { ...live, status } })).code).toBe("in-use");
});

describe("a run that leaves the engine alone after others", () => {
  test("and wrote what the engine fails with does not leave it dead, nor restart it in a loop", async () => {
    using it = new Setup();
    it.now = new Date();
    it.engine.fault = whenKata("no CRI");
    await run({ ...it.environment(), activation: undefined }, installing("kata-qemu"));
    expect((await it.fails(install("kata-qemu"))).code).toBe("engine-failed");
    expect([it.engine.cri, it.engine.restarts, it.node.tree()]).toEqual(["up", 2, it.before]);
    for (let turn = 0; turn < 20; turn++) await it.fails(install("kata-qemu"));
    expect([it.engine.cri, it.node.tree()]).toEqual(["up", it.before]);
    expect(it.engine.restarts).toBeLessThanOrEqual(4);
  });

  test("owes the restart that undoes a change, and the next run makes it once", async () => {
    using it = new Setup();
    it.now = new Date();
    await it.run(install("crun"));
    const installed = it.node.tree();
    it.engine.fault = whenKata("no CRI");
    // Killed after the evidence, before anything was undone.
    it.engine.onRestart = () => {
      if (it.engine.restarts > 2) throw new Error("no restart was to be made");
    };
    await it.dies(install("kata-qemu"));
    const [open] = stateOf(it.node).lastOperation();
    stateOf(it.node).append(open?.operation ?? "", { step: "failed", why: "made up" });
    it.now = new Date(Date.now() + 1_000);
    await run({ ...it.environment(), activation: undefined }, installing("crun"));
    expect([it.node.tree(), it.engine.cri, it.engine.restarts]).toEqual([installed, "without CRI", 2]);
    it.engine.onRestart = () => undefined;
    expect((await it.run(install("crun"))).restart.done).toBe(true);
    expect([it.engine.cri, it.engine.restarts]).toEqual(["up", 3]);
    expect((await it.run(install("crun"))).restart.done).toBe(false);
  });
});

test("undoing the removal of a handler that was never served does not ask for it to be served", async () => {
  using it = new Setup();
  await it.run(install("kata-qemu"));
  it.engine.fault = (all) => (all.includes("kata-qemu") ? "ignores it" : "loses another");
  it.engine.start();
  expect((await it.fails(uninstall("kata-qemu"))).code).toBe("engine-failed");
});

test("an empty plan reports what others staged, and restarts nothing", async () => {
  using it = new Setup();
  await it.run(install("kata-qemu"));
  it.engine.unit = { ...it.engine.unit, activeSince: Date.now() - 60_000 };
  it.node.place("/etc/containerd/config.toml", `${it.node.text("/etc/containerd/config.toml")}# staged\n`);
  const outcome = await it.run(install("kata-qemu"));
  expect([outcome.pendingForeign, it.engine.restarts]).toEqual([["/etc/containerd/config.toml"], 1]);
});

test("what was open on another unit is not judged by this one", async () => {
  using it = new Setup();
  await it.dies(install("kata-qemu"));
  const other = { ...it.engine.live, unitName: "another.service" };
  expect((await it.fails(install("kata-qemu"), { live: other })).facts.hint).toContain(
    "--unit containerd.service",
  );
  await it.run(install("kata-qemu"));
  expect(it.engine.restarts).toBe(1);
});

test("a clock that was wrong holds nothing for years", async () => {
  using it = new Setup();
  it.now = new Date("2099-01-01T00:00:00Z");
  it.engine.fault = whenKata("ignores it");
  await it.fails(install("kata-qemu"));
  await it.run(install("crun"));
  it.now = new Date("2026-01-01T00:00:00Z");
  it.engine.fault = () => "none";
  expect((await it.run(install("kata-qemu"))).proof.served).toBe("passed");
});
