import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { ShimctlError } from "../../src/error.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { sha256 } from "../../src/sha256.ts";
import type { Activation } from "../../src/transaction/activation.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import { unfinished } from "../../src/transaction/journal.ts";
import { rootOf } from "../../src/transaction/record.ts";
import { recover } from "../../src/transaction/recover.ts";
import { type Repaired, repair } from "../../src/transaction/repair.ts";
import { run } from "../../src/transaction/run.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const config = "# theirs\nversion = 3\n";
const rootFile = "/etc/containerd/config.toml";
const dropIn = "/etc/containerd/conf.d/50-shimctl-default.toml";
const request = { only: undefined, from: undefined, retries: 5 };

beforeAll(async () => {
  await loadLibc();
});

/** A node on which kata-qemu is installed, and whose engine runs with it. */
class Setup {
  readonly node = new Node("2.1.9", config);
  readonly engine = new FakeEngine(() => this.environment());
  onStep: (name: string) => void = () => {};

  static async make(): Promise<Setup> {
    const setup = new Setup();
    setups.push(setup);
    await run(setup.environment(), installing("kata-qemu"));
    setup.engine.start();
    setup.engine.restarts = 0;
    return setup;
  }

  environment(more: Partial<Activation> = {}): Environment {
    return {
      ...environmentOf(this.node, (name) => this.onStep(name)),
      activation: (this as Partial<Setup>).engine?.activation({ automatic: false, ...more }),
    };
  }

  repair(more: Partial<Activation> = {}): Promise<Repaired> {
    return repair(this.environment(more), request);
  }

  /** The engine died on what it was given, and systemd starts it again and again. */
  breaks(): void {
    this.engine.unit = {
      ...this.engine.unit,
      active: "activating",
      sub: "auto-restart",
      result: "exit-code",
    };
    this.engine.cri = "absent";
  }

  get steps(): string[] {
    const lines = stateOf(this.node).journal();
    const begin = lines.findLastIndex((line) => line.step === "begin");
    return lines.slice(begin).map(({ step }) => step);
  }
}

const setups: Setup[] = [];
afterEach(() => {
  for (const { node } of setups.splice(0)) node[Symbol.dispose]();
});

describe("the engine", () => {
  test("that runs is not restarted: it reads the repaired file at its next start", async () => {
    const setup = await Setup.make();
    const good = setup.node.text();
    setup.node.place(rootFile, `${good}3s"\n`);
    const { restart, works } = await setup.repair();
    expect([setup.node.text(), setup.engine.restarts, restart.done, works]).toEqual([good, 0, false, true]);
    expect(setup.steps).toEqual(["begin", "kept", "intent", "committed", "complete", "end"]);
  });

  test("that does not start on the damaged file is restarted once with the repaired one", async () => {
    const setup = await Setup.make();
    setup.node.place(rootFile, `${setup.node.text()}3s"\n`);
    setup.breaks();
    const { restart, works } = await setup.repair();
    expect([setup.engine.restarts, restart.done, works]).toEqual([1, true, true]);
    expect(setup.engine.served).toEqual(["kata-qemu", "runc"]);
  });

  test("that does not work afterwards either is said, and the repaired file stays", async () => {
    const setup = await Setup.make();
    const good = setup.node.text();
    setup.node.place(rootFile, `${good}3s"\n`);
    setup.breaks();
    setup.engine.fault = () => "unit fails";
    const { works } = await setup.repair();
    expect([works, setup.engine.restarts, setup.node.text()]).toEqual([false, 1, good]);
    expect(unfinished(stateOf(setup.node).lastOperation())).toEqual([]);
  });

  test("is not restarted while something is left that it refuses", async () => {
    const setup = await Setup.make();
    const ours = setup.node.text(dropIn);
    setup.node.place(dropIn, `${ours}[x]\na = 1\na = 2\n`);
    setup.node.place(rootFile, `${setup.node.text()}3s"\n`);
    setup.breaks();
    const { findings, restart } = await setup.repair();
    expect(findings.map(({ remedy }) => remedy === undefined)).toEqual([false, true]);
    expect([setup.engine.restarts, restart.needed]).toEqual([0, true]);
  });

  test("is not restarted by a loop more often than the budget has it, and nothing is written then", async () => {
    const setup = await Setup.make();
    const damaged = `${setup.node.text()}3s"\n`;
    setup.node.place(rootFile, damaged);
    setup.breaks();
    const error = await failed(setup.repair({ automatic: true, budget: { hour: 0, day: 0 } }));
    expect([error.code, setup.node.text(), setup.engine.restarts]).toEqual(["held", damaged, 0]);
    expect(unfinished(stateOf(setup.node).lastOperation())).toEqual([]);
  });

  test("that is to be left alone is owed a start", async () => {
    const setup = await Setup.make();
    setup.node.place(rootFile, `${setup.node.text()}3s"\n`);
    await repair({ ...setup.environment(), activation: undefined }, request);
    expect(rootOf(stateOf(setup.node).readRecord().record, rootFile).pending).toBeDefined();
  });
});

describe("an earlier run that was cut short", () => {
  /** Dies right after its drop-in is in place. */
  async function dead(): Promise<Setup> {
    const setup = await Setup.make();
    const state = stateOf(setup.node);
    const [handler] = Object.values(
      rootOf(state.readRecord().record, rootFile).owners["default"]?.handlers ?? {},
    );
    if (handler === undefined) throw new Error("nothing is installed");
    state.append("1", {
      step: "begin",
      command: "uninstall",
      owner: "default",
      engine: "containerd",
      rootFile,
      previous: [handler],
      desired: [],
      folders: [],
    });
    return setup;
  }

  test("is undone first where the damage does not keep that from being done", async () => {
    const setup = await dead();
    const { notes } = await setup.repair();
    expect(notes).toEqual([expect.stringContaining("undid an uninstall of owner 'default'")]);
  });

  test("is undone behind the repair where it cannot be undone before it", async () => {
    const setup = await dead();
    const good = setup.node.text();
    setup.node.place(rootFile, `${good}3s"\n`);
    expect((await failed(run(setup.environment(), installing("kata-qemu")))).code).toBe("invalid-config");
    const { notes } = await setup.repair();
    expect(setup.node.text()).toBe(good);
    expect(notes).toEqual([expect.stringContaining("undid an uninstall of owner 'default'")]);
    expect(unfinished(stateOf(setup.node).lastOperation())).toEqual([]);
    expect((await run(setup.environment(), installing("kata-qemu"))).result).toBe("unchanged");
  });
});

describe("a repair that was cut short", () => {
  test("leaves what it has mended, and nothing that a next run would undo", async () => {
    const setup = await Setup.make();
    const good = setup.node.text();
    const state = stateOf(setup.node);
    const temp = "/etc/containerd/.config.toml.shimctl-0123456789ab.tmp";
    const damaged = `${good}3s"\n`;
    state.append("1", {
      step: "begin",
      command: "repair",
      owner: "shared",
      engine: "containerd",
      rootFile,
      previous: [],
      desired: [],
      folders: [],
    });
    const hash = (text: string) => sha256(new TextEncoder().encode(text));
    const [before, after] = [hash(damaged), hash(good)];
    state.append("1", { step: "intent", path: rootFile, target: rootFile, temp, before, after });
    setup.node.place(temp, damaged);
    const { outcome, notes } = await recover(setup.environment(), state);
    expect([outcome, notes]).toEqual(["finished", ["finished a repair that was cut short"]]);
    expect([setup.node.text(), readdirSync(`${setup.node.root}/etc/containerd`)]).toEqual([
      good,
      ["conf.d", "config.toml"],
    ]);
    expect(rootOf(state.readRecord().record, rootFile).owners["default"]).toBeDefined();
  });
});

describe("another program that writes at the same moment", () => {
  test("keeps its lines: the damage is looked for again in what it wrote", async () => {
    const setup = await Setup.make();
    const good = setup.node.text();
    setup.node.place(rootFile, `${good}3s"\n`);
    let written = false;
    setup.onStep = (name) => {
      if (name !== "commit" || written) return;
      written = true;
      setup.node.place(rootFile, `# another line\n${good}3s"\n`);
    };
    await setup.repair();
    expect([written, setup.node.text()]).toEqual([true, `# another line\n${good}`]);
  });
});

async function failed(work: Promise<unknown>): Promise<ShimctlError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw new Error("no ShimctlError", { cause: error });
  }
  throw new Error("it did not fail");
}
