import { beforeAll, describe, expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { exactly } from "../../src/handler/asked.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { sha256 } from "../../src/sha256.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import type { JournalEntry } from "../../src/transaction/journal.ts";
import { operationsOf, shortIds } from "../../src/transaction/operations.ts";
import type { Request } from "../../src/transaction/request.ts";
import { rollingBack } from "../../src/transaction/rollback.ts";
import { type Deferred, run } from "../../src/transaction/run.ts";
import { importedCase, markedCase } from "../support/engine_case.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const back = (to?: string): Deferred => rollingBack({ owner: "default", to, allowMissing: true, retries: 5 });
const removing: Request = { ...installing(), intent: { command: "uninstall", names: "all" } };

beforeAll(async () => {
  await loadLibc();
});

/** A node with an engine that is made up. */
class Setup {
  readonly node = new Node("2.1.9", "# theirs\nversion = 3\n");
  readonly engine = new FakeEngine(() => this.environment());

  environment(automatic = false): Environment {
    const activation = (this as Partial<Setup>).engine?.activation({ automatic });
    return { ...environmentOf(this.node), activation, caller: { automatic, who: "somebody@node-1" } };
  }

  run(ask: Request | Deferred) {
    return run(this.environment(), ask);
  }

  /** Ends at the restart, without a chance to do anything about it. */
  async dies(ask: Request | Deferred): Promise<void> {
    this.engine.killsUs = true;
    const { restarts } = this.engine;
    const ended = this.run(ask).then(
      () => "ended",
      (error: unknown) => String(error),
    );
    while (this.engine.restarts === restarts) {
      const how = await Promise.race([ended, Bun.sleep(5).then(() => "")]);
      if (how !== "") throw new Error(`it was not killed: ${how}`);
    }
    this.engine.killsUs = false;
  }

  operations() {
    return operationsOf(stateOf(this.node).journal()).map(({ command, result }) => `${command}: ${result}`);
  }

  [Symbol.dispose](): void {
    this.node[Symbol.dispose]();
  }
}

async function failed(work: Promise<unknown>): Promise<ShimctlError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("a rollback of a running engine", () => {
  test("restarts it once and proves that it serves what it did before", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    const before = it.node.tree();
    await it.run(removing);
    const outcome = await it.run(back());
    expect([outcome.restart.done, outcome.proof.served, it.engine.restarts]).toEqual([true, "passed", 3]);
    expect([it.engine.served.includes("kata-qemu"), it.node.tree()]).toEqual([true, before]);
  });

  test("is undone, to the very bytes, when the engine does not work with it, and the journal says why", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    await it.run(removing);
    const before = it.node.tree();
    it.engine.fault = (names) => (names.includes("kata-qemu") ? "unit fails" : "none");
    expect((await failed(it.run(back()))).code).toBe("engine-failed");
    expect([it.node.tree(), it.engine.unit.active]).toEqual([before, "active"]);
    const last = operationsOf(stateOf(it.node).journal()).at(-1);
    expect([last?.result, last?.why]).toEqual(["undone", expect.stringContaining("containerd.service")]);
    // What was undone has left nothing: the uninstall is still the last.
    it.engine.fault = () => "none";
    expect((await failed(it.run(back()))).code).toBe("held");
    expect((await it.run(removing)).result).toBe("unchanged");
  });

  test("that is killed at the restart is finished by the next run, which holds the owner for it", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    const before = it.node.tree();
    await it.run(removing);
    await it.run({ ...installing("crun"), owner: "other" });
    await it.dies(back());
    expect(it.operations().at(-1)).toBe("rollback: unfinished");
    await it.run({ ...removing, owner: "other" });
    expect(it.node.tree()).toEqual(before);
    expect(it.operations().slice(-2)).toEqual(["rollback: finished", "uninstall: changed"]);
    expect(stateOf(it.node).readRecord().record.holds).toMatchObject({
      default: { by: "rollback", who: "somebody@node-1" },
    });
    await it.run(back());
    expect(it.operations().at(-1)).toBe("rollback: changed");
    expect(it.engine.served).not.toContain("kata-qemu");
  });

  test("or an uninstall that is killed is not turned back by the automatic run that finishes it", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    await it.dies(removing);
    const error = await failed(run(it.environment(true), installing("kata-qemu")));
    expect([error.code, error.facts.state]).toEqual([
      "held",
      expect.stringContaining("finished an uninstall"),
    ]);
    expect(it.engine.served).not.toContain("kata-qemu");
  });

  test("does not take a handler from the pods that use it", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    const before = it.node.tree();
    it.engine.users = [{ id: "1", pod: "default/web", handler: "kata-qemu" }];
    expect((await failed(it.run(back()))).code).toBe("in-use");
    expect(it.node.tree()).toEqual(before);
  });

  test("works where the handler that goes is what breaks the engine", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    it.engine.fault = (names) => (names.includes("kata-qemu") ? "unit fails" : "none");
    it.engine.start();
    await it.run(back());
    expect([it.engine.unit.active, it.engine.served.includes("kata-qemu")]).toEqual(["active", false]);
  });
});

describe("a change that is undone", () => {
  test("gives a block back its place among the administrator's tables", async () => {
    using node = Node.of(markedCase);
    await run(environmentOf(node), installing("kata-qemu"));
    node.place(markedCase.main, `${node.text(markedCase.main)}\n[debug]\n  level = "info"\n`);
    const before = node.tree();
    const stop = new AbortController();
    // When the file is being exchanged: what follows finds the signal.
    const env = environmentOf(
      node,
      (step) => step === "commit" && queueMicrotask(() => stop.abort()),
      stop.signal,
    );
    const error = await failed(run(env, removing));
    expect([error.code, error.facts.state]).toEqual(["interrupted", "the change was undone"]);
    expect(node.tree()).toEqual(before);
    const last = operationsOf(stateOf(node).journal()).at(-1);
    expect([last?.result, last?.commits.length, last?.why]).toEqual([
      "undone",
      1,
      "Stopped by a signal before the change was complete",
    ]);
  });
});

describe("a rollback of an adoption that is undone", () => {
  for (const [engineCase, when] of [
    [markedCase, "in one file"],
    [importedCase, "in a drop-in"],
  ] as const) {
    test(`takes the handler over again, ${when}`, async () => {
      const { main, files, define } = engineCase;
      using node = Node.of(engineCase, { ...files, [main]: `${files[main]}\n${define("crun")}` });
      await run(environmentOf(node), { ...installing("crun"), adopt: "replace" });
      const adopted = node.tree();
      const stop = new AbortController();
      const abort = (step: string) => step === "commit" && queueMicrotask(() => stop.abort());
      const error = await failed(run(environmentOf(node, abort, stop.signal), back()));
      expect(error.code).toBe("interrupted");
      expect(node.tree()).toEqual(adopted);
      await run(environmentOf(node), back());
      expect(node.text(main)).toBe(`${files[main]}\n${define("crun")}`);
    });
  }
});

describe("operations", () => {
  const begin: JournalEntry = {
    step: "begin",
    command: "install",
    owner: "default",
    previous: [],
    desired: [handler("crun")],
    folders: [],
  };

  test("without an end are unfinished where they are the last, and unknown where others came after", () => {
    using node = new Node("2.1.9");
    const state = stateOf(node);
    state.append("1", begin);
    state.append("2", begin);
    expect(operationsOf(state.journal()).map(({ result }) => result)).toEqual(["unknown", "unfinished"]);
    state.append("2", { step: "end", result: "changed" });
    state.append("3", { step: "hold", owner: "*", who: "me" });
    expect(operationsOf(state.journal()).map(({ result }) => result)).toEqual(["unknown", "changed", "held"]);
  });

  test("have short IDs that are no other's beginning", () => {
    using node = new Node("2.1.9");
    const state = stateOf(node);
    for (const id of ["aaaaaaaa-1", "aaaaaaaa-2", "bbbbbbbb-1"]) state.append(id, begin);
    expect([...shortIds(operationsOf(state.journal())).values()]).toEqual([
      "aaaaaaaa-1",
      "aaaaaaaa-2",
      "bbbbbbbb",
    ]);
  });

  test("that name a file which is not the engine's do not touch it", async () => {
    using node = new Node("2.1.9", "version = 3\n");
    await run(environmentOf(node), installing("crun"));
    node.place("/etc/passwd", "now\n");
    const state = stateOf(node);
    const before = state.store(new TextEncoder().encode("then\n"));
    const journal = "/var/lib/shimctl/journal";
    const line =
      node
        .text(journal)
        .split("\n")
        .find((each) => each.includes('"committed"')) ?? "";
    const forged = JSON.stringify({
      ...JSON.parse(line),
      path: "/etc/passwd",
      before,
      after: sha256("now\n"),
    });
    node.place(journal, node.text(journal).replace(line, `${forged}\n${line}`), 0o600);
    const outcome = await run(environmentOf(node), back());
    expect([outcome.handlers, node.text("/etc/passwd")]).toEqual([[], "now\n"]);
  });

  test("of another configuration are not taken back", async () => {
    using node = new Node("2.1.9", "version = 3\n");
    node.place("/etc/other/config.toml", "version = 3\n");
    const env = environmentOf(node);
    const other = { ...env, site: { ...env.site, rootFile: "/etc/other/config.toml" } };
    await run(env, installing("crun"));
    await run(other, {
      ...installing(),
      intent: { command: "install", handlers: [exactly(handler("runsc"))] },
    });
    const outcome = await run(env, back());
    expect(outcome.previous.map(({ name }) => name)).toEqual(["crun"]);
    expect((await run(other, back())).previous.map(({ name }) => name)).toEqual(["runsc"]);
  });
});
