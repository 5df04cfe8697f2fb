import { beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { exactly } from "../../src/handler/asked.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { acquireLock } from "../../src/host/lock.ts";
import { openHost } from "../../src/host/root.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import { repair } from "../../src/transaction/repair.ts";
import { run } from "../../src/transaction/run.ts";
import { engineCases } from "../support/engine_case.ts";
import { run as runExecutable } from "../support/executable.ts";
import { parseExposition, sampleValue } from "../support/exposition.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing } from "../support/transaction.ts";

const config = "# theirs\nversion = 3\n";
const recordPath = "/var/lib/shimctl/record.json";
const asked = ["status", "--format", "prometheus"];

beforeAll(async () => {
  await loadLibc();
});

async function metricsOf(node: Node, code = 0): Promise<string> {
  const ran = await node.run(asked);
  expect([ran.code, parseExposition(ran.out).length > 10]).toEqual([code, true]);
  return ran.out;
}

/** A node whose engine counts by itself how often it is restarted. */
class Counting {
  readonly node = new Node("2.1.9", config);
  readonly engine = new FakeEngine(() => this.environment());

  environment(restarts = true): Environment {
    const { engine } = this as Partial<Counting>;
    const activation = restarts ? engine?.activation({ automatic: false }) : undefined;
    return { ...environmentOf(this.node), activation };
  }

  async install(...names: string[]): Promise<void> {
    const intent = { command: "install", handlers: names.map((name) => exactly(handler(name))) } as const;
    await run(this.environment(), { ...installing(), intent });
  }

  /** By reason, what is told; none that is 0. */
  async counted(): Promise<Record<string, number>> {
    const found = parseExposition((await this.node.run(asked)).out);
    const samples = ["shimctl_engine_restarts_total", "shimctl_undone_total"].flatMap(
      (name) => found.find((family) => family.name === name)?.samples ?? [],
    );
    const counts = samples.map(({ labels, value }) => [labels["reason"] ?? "undone", value] as const);
    return Object.fromEntries(counts.filter(([, value]) => value > 0));
  }

  [Symbol.dispose](): void {
    this.node[Symbol.dispose]();
  }
}

describe("the counters", () => {
  test("grow by one for each restart and each undone change, and by none for a plan that is empty", async () => {
    using it = new Counting();
    await it.install("kata-qemu");
    expect(await it.counted()).toEqual({ change: 1 });
    const written = [it.node.text(recordPath), it.node.text("/var/lib/shimctl/journal")];
    await it.install("kata-qemu");
    expect([it.node.text(recordPath), it.node.text("/var/lib/shimctl/journal")]).toEqual(written);
    it.engine.fault = (handlers) => (handlers.includes("runsc") ? "no CRI" : "none");
    await expect(it.install("runsc")).rejects.toMatchObject({ code: "engine-failed" });
    expect(await it.counted()).toEqual({ change: 2, undo: 1, undone: 1 });
    await expect(it.install("runsc")).rejects.toMatchObject({ code: "held" });
    expect(await it.counted()).toEqual({ change: 2, undo: 1, undone: 1 });
    expect(it.engine.restarts).toBe(3);
    expect(sampleValue(await metricsOf(it.node), "shimctl_held", { owner: "default" })).toBe(1);
  });

  test("tell a restart that an earlier run had left to others from one for a change of its own", async () => {
    using it = new Counting();
    await run(it.environment(false), installing("kata-qemu"));
    expect([await it.counted(), sampleValue(await metricsOf(it.node), "shimctl_pending")]).toEqual([{}, 1]);
    expect((await it.node.run(["status"])).out).toMatch(/^pending: .* awaits a start of the engine$/m);
    await it.install("kata-qemu");
    expect([await it.counted(), sampleValue(await metricsOf(it.node), "shimctl_pending")]).toEqual([
      { pending: 1 },
      0,
    ]);
  });

  test("tell a restart with repaired files", async () => {
    using it = new Counting();
    await it.install("kata-qemu");
    it.node.place("/etc/containerd/config.toml", `${it.node.text()}3s"\n`);
    it.engine.unit = { ...it.engine.unit, active: "failed", sub: "failed", result: "exit-code" };
    it.engine.cri = "absent";
    await repair(it.environment(), { only: undefined, from: undefined, retries: 5 });
    expect([await it.counted(), it.engine.restarts]).toEqual([{ change: 1, repair: 1 }, 2]);
  });

  test("of a record that is lost are what the journal tells, and go on from there", async () => {
    using it = new Counting();
    await it.install("kata-qemu");
    it.engine.fault = (handlers) => (handlers.includes("runsc") ? "no CRI" : "none");
    await expect(it.install("runsc")).rejects.toMatchObject({ code: "engine-failed" });
    rmSync(it.node.root + recordPath);
    expect(await it.counted()).toEqual({ change: 2, undo: 1, undone: 1 });
    await it.install("crun");
    expect(await it.counted()).toEqual({ change: 3, undo: 1, undone: 1 });
  });
});

describe("status --format prometheus", () => {
  for (const engineCase of engineCases) {
    test(`${engineCase.name}: tells of a node before, with and after a handler, with the exit code of status`, async () => {
      using node = Node.of(engineCase);
      const [first] = engineCase.handlers;
      const labels = { handler: first, owner: "default" };
      expect(sampleValue(await metricsOf(node), "shimctl_handler_installed", labels)).toBeUndefined();
      expect((await node.run(["install", first])).code).toBe(0);
      const before = node.tree();
      expect(sampleValue(await metricsOf(node), "shimctl_handler_installed", labels)).toBe(1);
      node.overwrite(engineCase);
      const drifted = await metricsOf(node, 10);
      expect([
        sampleValue(drifted, "shimctl_state", { state: "drifted" }),
        sampleValue(drifted, "shimctl_state", { state: "in sync" }),
        sampleValue(drifted, "shimctl_drift", { cause: "gone" }),
      ]).toEqual([1, 0, 1]);
      expect(before).not.toEqual(node.tree());
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect(sampleValue(await metricsOf(node), "shimctl_handler_installed", labels)).toBeUndefined();
    });
  }

  test("tells what is recorded of a node whose configuration cannot be read, which is broken", async () => {
    using node = new Node("2.1.9", config);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    node.place("/etc/containerd/config.toml", "version = [");
    const text = await metricsOf(node, 11);
    expect([
      sampleValue(text, "shimctl_state", { state: "broken" }),
      sampleValue(text, "shimctl_state", { state: "in sync" }),
      sampleValue(text, "shimctl_handler_installed", { handler: "kata-qemu" }),
      sampleValue(text, "shimctl_drift", { cause: "gone" }),
    ]).toEqual([1, 0, 1, 0]);
    expect((await node.run(["status", "--json"])).json()["counts"]).toEqual(
      expect.objectContaining({ undone: 0 }),
    );
  });

  const damages: Readonly<Record<string, string>> = {
    empty: "",
    zeros: "\0".repeat(64),
    "of another kind": '{"format":2,"roots":[7],"folders":1}',
    "with counts that are none":
      '{"format":2,"roots":{},"folders":[],"counts":{"restarts":{"change":"x"},"undone":{}}}',
    "with counts of another release":
      '{"format":2,"roots":{},"folders":[],"counts":{"restarts":{"/etc/secret":4,"change":1}},"lockWaitMs":"long"}',
  };
  for (const [how, bytes] of Object.entries(damages)) {
    test(`reads a record that is damaged (${how})`, async () => {
      using node = new Node("2.1.9", config);
      expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
      node.place(recordPath, bytes, 0o600);
      const ran = await node.run(asked);
      expect(ran.out).not.toContain("secret");
      const reasons = parseExposition(ran.out)
        .find(({ name }) => name === "shimctl_engine_restarts_total")
        ?.samples.map(({ labels }) => labels["reason"]);
      expect(reasons?.filter((reason) => reason !== "other")).toEqual([
        "change",
        "drift",
        "pending",
        "repair",
        "undo",
      ]);
    });
  }

  test("tells no reason of a hold, no path and no secret", async () => {
    using node = new Node(
      "2.1.9",
      `${config}[plugins."io.containerd.cri.v1.images".registry.configs.a.auth]\n  password = "kanarienvogel7"\n`,
    );
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    expect((await node.run(["hold", "--reason", "kanarienvogel7"])).code).toBe(0);
    const text = await metricsOf(node);
    expect(sampleValue(text, "shimctl_hold", { owner: "default" })).toBe(1);
    expect(text).not.toContain("kanarienvogel7");
    for (const { samples } of parseExposition(text))
      for (const { labels } of samples) expect(Object.values(labels).join("")).not.toContain("/");
  });

  test("is a usage error together with --json", async () => {
    using node = new Node("2.1.9", config);
    const ran = await node.run([...asked, "--json"]);
    expect([ran.code, ran.json()["error"]]).toEqual([2, expect.objectContaining({ code: "usage" })]);
  });

  test("works in the executable as it does here", async () => {
    using node = new Node("2.1.9", config);
    expect(runExecutable(node, ["install", "kata-qemu"]).status).toBe(0);
    const ran = runExecutable(node, asked);
    const names = (text: string) => parseExposition(text).map(({ name }) => name);
    expect([ran.status, names(ran.stdout)]).toEqual([0, names(await metricsOf(node))]);
  });
});

test("how long the last change waited for the lock is told, and 0 where it was free", async () => {
  using node = new Node("2.1.9", config);
  expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
  expect(sampleValue(await metricsOf(node), "shimctl_lock_wait_seconds")).toBe(0);
  const lock = await acquireLock(openHost(node.root), { timeoutMs: 1000, owner: "other", command: "test" });
  const libc = await loadLibc();
  const { fcntlLock } = libc;
  const refused = new Promise<void>((resolve) => {
    libc.fcntlLock = (...args) => {
      const result = fcntlLock(...args);
      if (result < 0) resolve();
      return result;
    };
  });
  const running = node.run(["install", "runsc"]);
  await refused;
  libc.fcntlLock = fcntlLock;
  await Bun.sleep(150);
  lock.release();
  expect((await running).code).toBe(0);
  const waited = sampleValue(await metricsOf(node), "shimctl_lock_wait_seconds") ?? 0;
  expect(waited).toBeGreaterThan(0.1);
  expect(waited).toBeLessThan(60);
  expect((await node.run(["status", "--json"])).json()["lockWaitSeconds"]).toBe(waited);
});

test("status says who is contended, how often another writer was met, and how repairs go on", async () => {
  using node = new Node("2.1.9", config);
  expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
  const record = JSON.parse(node.text(recordPath)) as { roots: Record<string, object> };
  const at = (hour: number) => new Date(Date.UTC(2026, 0, 1, hour)).toISOString();
  const drift = { cause: "gone", handlers: ["kata-qemu"] };
  const repairs = [1, 2].map((hour) => ({ ...drift, owner: "default", time: at(hour) }));
  const more = { repairs, contended: { default: { ...drift, since: at(3) } } };
  const roots = Object.entries(record.roots).map(([path, root]) => [path, { ...root, ...more }]);
  node.place(recordPath, JSON.stringify({ ...record, roots: Object.fromEntries(roots) }), 0o600);
  expect((await node.run(["status"])).out).toContain(
    "contended: owner 'default': another writer took 'kata-qemu' away 3 times within a day (gone, at 2026-01-01T03:00:00.000Z); `shimctl release` lets repairs go on",
  );
  expect(sampleValue(await metricsOf(node), "shimctl_contended", { owner: "default" })).toBe(1);
});

test("nothing but the metrics themselves loads what prints them", () => {
  const src = `${import.meta.dirname}/../../src`;
  const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".ts"),
  );
  const loading = files.filter((path) => {
    const text = readFileSync(`${src}/${path}`, "utf8");
    return /^import (?!type).*("prom-client"|metrics\/prometheus\.ts")/m.test(text);
  });
  expect(files.length).toBeGreaterThan(100);
  expect(loading).toEqual([]);
});
