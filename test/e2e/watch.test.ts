import { afterAll, expect, test } from "bun:test";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { engineCases, importedCase } from "../support/engine_case.ts";
import { sampleValue } from "../support/exposition.ts";
import { childrenOf, Holder } from "../support/holder.ts";
import { LiveEngine } from "../support/live_engine.ts";
import { Node } from "../support/node.ts";

interface Document {
  readonly result: string;
  readonly error: { readonly code: string; readonly diff?: string; readonly message: string } | null;
}

const engine = new LiveEngine();
afterAll(() => engine.stop());

/** As far ahead of the node's clock as an epoch may be, nearly. */
const future = new Date(Date.now() + 3_000_000).toISOString().replace(/\.\d+Z$/, "Z");

/** A node whose engine runs. */
function liveNode(): Node {
  const node = Node.of(importedCase);
  engine.start(node.root, "containerd");
  return node;
}

async function once(node: Node, ...more: readonly string[]) {
  const ran = await node.run(["watch", "kata-qemu", "--once", "--json", ...more]);
  const { result, error } = ran.json() as unknown as Document;
  return { code: ran.code, result, error };
}

for (const engineCase of engineCases) {
  const [kata] = engineCase.handlers;
  const look = async (node: Node, ...more: readonly string[]) => {
    const ran = await node.run(["watch", kata, "--once", "--json", ...more]);
    return { code: ran.code, ...(ran.json() as unknown as Document) };
  };

  test(`one look installs, mends what others undid, and finds the third time that they will again: ${engineCase.name}`, async () => {
    using node = Node.of(engineCase);
    expect(await look(node, "--dry-run")).toMatchObject({ code: 10, result: "drifted" });
    expect(await look(node)).toMatchObject({ code: 0, result: "changed" });
    const installed = node.tree();
    expect(await look(node)).toMatchObject({ code: 0, result: "unchanged" });
    expect(node.tree()).toEqual(installed);
    node.overwrite(engineCase);
    expect(await look(node, "--on-drift", "report")).toMatchObject({ code: 10, result: "drifted" });
    expect(await look(node)).toMatchObject({ code: 0, result: "repaired" });
    node.overwrite(engineCase);
    expect(await look(node)).toMatchObject({ code: 0, result: "repaired" });
    node.overwrite(engineCase);
    const overwritten = node.text(engineCase.main);
    const met = await look(node);
    expect(met).toMatchObject({ code: 12, result: "contended", error: { code: "held" } });
    expect(met.error?.diff).toContain("-");
    expect(met.error?.diff).not.toContain("hunter2");
    expect(await look(node)).toMatchObject({ code: 12, result: "contended" });
    expect(node.text(engineCase.main)).toBe(overwritten);
    expect((await node.run(["install", kata, "--automatic"])).code).toBe(12);
  });
}

test("what a person does ends a contention, and begins the count anew", async () => {
  for (const [command, ...more] of [["install", "kata-qemu"], ["release"], ["uninstall", "kata-qemu"]]) {
    using node = Node.of(importedCase);
    await once(node);
    for (const result of ["repaired", "repaired", "contended"]) {
      node.overwrite(importedCase);
      expect(await once(node)).toMatchObject({ result });
    }
    expect((await node.run([command ?? "", ...more])).code).toBe(0);
    expect((await node.run(["status", "--json"])).json()).toMatchObject({ contended: {} });
    if (command === "uninstall") {
      // What a person took away, nobody brings back by himself.
      expect(await once(node)).toMatchObject({ result: "held" });
      continue;
    }
    if (command === "install") node.overwrite(importedCase);
    expect(await once(node)).toMatchObject({ result: "repaired" });
  }
});

test("a newer epoch ends a contention, an older one does nothing", async () => {
  using node = Node.of(importedCase);
  await once(node, "--epoch", "5");
  for (const result of ["repaired", "repaired", "contended"]) {
    node.overwrite(importedCase);
    expect(await once(node, "--epoch", "5")).toMatchObject({ result });
  }
  expect(await once(node, "--epoch", "4")).toMatchObject({ code: 0, result: "superseded" });
  expect(await once(node, "--epoch", "6")).toMatchObject({ code: 0, result: "changed" });
  node.overwrite(importedCase);
  expect(await once(node, "--epoch", "6")).toMatchObject({ result: "repaired" });
});

test("two looks that find the same drift at once are no other writer to each other", async () => {
  using node = Node.of(importedCase);
  await once(node);
  for (let day = 0; day < 2; day++) {
    node.overwrite(importedCase);
    const results = await Promise.all([once(node), once(node), once(node)]);
    expect(results.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect((await node.run(["status", "--json"])).json()).toMatchObject({ contended: {} });
  }
});

test("what only its options could make better ends it at its first look", async () => {
  for (const args of [
    ["kata-qemu", "--epoch", "UNSTAMPED-EPOCH"],
    ["no-such-handler"],
    ["-f", "/no/such/file"],
  ]) {
    using node = Node.of(importedCase);
    const before = node.tree();
    using holder = new Holder(node, undefined, args);
    const ended = await holder.ended;
    expect(ended.code).toBe(2);
    expect(holder.said).toMatchObject([{ result: "refused", ready: false }]);
    expect(holder.words).toContain("Cannot");
    expect(node.tree()).toMatchObject(before);
  }
});

test("a new roll-out of what is there already does not wait for others, and one that changes something does", async () => {
  using node = liveNode();
  const look = async (...more: readonly string[]) => {
    const ran = await node.run([
      "watch",
      "--once",
      "--json",
      "--dry-run",
      ...more,
      ...engine.options(node.root),
    ]);
    return ran.json()["watch"];
  };
  await node.run(["watch", "kata-qemu", "--once", "--epoch", "1", ...engine.options(node.root)]);
  expect(await look("kata-qemu", "--epoch", "2")).toMatchObject({ needs: "finish", ready: true });
  expect(await look("kata-qemu", "runsc", "--epoch", "2")).toMatchObject({ needs: "install", ready: false });
});

test("an uninstall of a newer roll-out is final for the pods that were forgotten, and not for the next one", async () => {
  using node = Node.of(importedCase);
  const [first, uninstall, later] = [
    "2026-09-01T12:00:00.000Z",
    "2026-09-01T12:00:00.001Z",
    "2026-09-01T12:00:01Z",
  ];
  const pod = (epoch: string, instance: string) => [
    "--epoch",
    epoch,
    "--instance",
    instance,
    "--owner",
    "cluster",
  ];
  await once(node, ...pod(first, "a"));
  const job = await node.run(["uninstall", "--all", "--automatic", ...pod(uninstall, "b")]);
  expect(job.code).toBe(0);
  const gone = node.text(importedCase.main);
  for (let restart = 0; restart < 3; restart++)
    expect(await once(node, ...pod(first, "a"))).toMatchObject({ code: 0, result: "superseded" });
  // The Job's pod was evicted, and there is another one of the same stamp.
  expect((await node.run(["uninstall", "--all", "--automatic", ...pod(uninstall, "b")])).code).toBe(0);
  expect(node.text(importedCase.main)).toBe(gone);
  expect(await once(node, ...pod(later, "c"))).toMatchObject({ code: 0, result: "changed" });
  // A Job that was made before comes late.
  expect(
    (await node.run(["uninstall", "--all", "--automatic", "--json", ...pod(uninstall, "b")])).json()[
      "result"
    ],
  ).toBe("superseded");
});

test("a record that is lost forgets no other writer, and takes it for no hold", async () => {
  for (const end of [
    ["install", "kata-qemu", "--epoch", "5"],
    ["release"],
    ["watch", "kata-qemu", "--once", "--epoch", "6"],
  ]) {
    using node = Node.of(importedCase);
    const lose = () => node.remove("/var/lib/shimctl/record.json");
    const status = async () => (await node.run(["status", "--json"])).json();
    await once(node, "--epoch", "5");
    for (const result of ["repaired", "repaired", "contended"]) {
      node.overwrite(importedCase);
      expect(await once(node, "--epoch", "5")).toMatchObject({ result });
    }
    lose();
    expect(await once(node, "--epoch", "5")).toMatchObject({ code: 12, result: "contended" });
    const contended = { default: { cause: "gone", handlers: ["kata-qemu"] } };
    expect(await status()).toMatchObject({ contended, holds: {} });
    expect((await node.run(end)).code).toBe(0);
    lose();
    expect(await status()).toMatchObject({ contended: {}, holds: {} });
  }
});

test("what a person does about another writer ends no hold, not even in a record that is lost", async () => {
  using node = Node.of(importedCase);
  await once(node);
  for (const result of ["repaired", "repaired", "contended"]) {
    node.overwrite(importedCase);
    expect(await once(node)).toMatchObject({ result });
  }
  await node.run(["hold"]);
  await node.run(["install", "kata-qemu"]);
  node.remove("/var/lib/shimctl/record.json");
  expect(await once(node)).toMatchObject({ code: 12, result: "held" });
});

test("what was mended is counted where the record was lost too", async () => {
  using node = Node.of(importedCase);
  await once(node);
  node.overwrite(importedCase);
  expect(await once(node)).toMatchObject({ result: "repaired" });
  const counts = async () => (await node.run(["status", "--json"])).json()["counts"];
  expect(await counts()).toMatchObject({ repairs: { gone: 1 } });
  node.remove("/var/lib/shimctl/record.json");
  expect(await counts()).toMatchObject({ repairs: { gone: 1 } });
});

test("on hold, a look only reports", async () => {
  using node = Node.of(importedCase);
  await node.run(["hold", "--all"]);
  const before = node.tree();
  expect(await once(node)).toMatchObject({ code: 12, result: "held" });
  expect(node.tree()).toEqual(before);
});

test("another handler on the command line is installed, and counts as no drift", async () => {
  using node = Node.of(importedCase);
  await once(node);
  for (const name of ["runsc", "crun", "kata-clh", "nvidia"]) {
    const ran = await node.run(["watch", "kata-qemu", name, "--once", "--json"]);
    expect(ran.json()).toMatchObject({ result: "changed" });
  }
});

test("a look that is refused is no success, though nothing is amiss with what is there", async () => {
  using node = Node.of(importedCase, {
    ...importedCase.files,
    [importedCase.main]: `${importedCase.files[importedCase.main]}\n${importedCase.define("crun")}`,
  });
  const looks = async (name: string, tally: string) => {
    const ran = await node.run(["watch", name, "--once", "--json"], { SHIMCTL_WATCH_TALLY: tally });
    const { metrics, reason } = ran.json()["watch"] as { metrics: string; reason: string };
    const success = sampleValue(metrics, "shimctl_last_success_timestamp_seconds");
    return [ran.code, sampleValue(metrics, "shimctl_state", { state: "in sync" }), success, reason];
  };
  const reason = expect.stringMatching(/^Cannot define handler 'crun'.* \(\/etc\/containerd\/[^ ]*:\d+\)$/);
  expect(await looks("crun", "0 0 0 0")).toEqual([5, 1, 0, reason]);
  expect(await looks("crun", "9 0 0 1790000000")).toEqual([5, 1, 1_790_000_000, reason]);
  const [code, inSync, success] = await looks("kata-qemu", "9 0 0 1790000000");
  expect([code, inSync, Number(success) > 1_790_000_000]).toEqual([0, 1, true]);
});

test("with a handler file, the owner has exactly what stands in it", async () => {
  using node = Node.of(importedCase);
  const file = `${node.root}.handlers.toml`;
  const look = async (...names: readonly string[]) => {
    writeFileSync(file, `format = 1\n[handlers]\n${names.map((name) => `${name} = {}\n`).join("")}`);
    const { code } = await node.run(["watch", "-f", file, "--once", "--allow-missing"]);
    const { handlers } = (await node.run(["status", "--json"])).json() as {
      handlers: { name: string; owner?: string }[];
    };
    return [code, handlers.filter(({ owner }) => owner === "default").map(({ name }) => name)];
  };
  try {
    expect(await look("kata-qemu", "runsc")).toEqual([0, ["kata-qemu", "runsc"]]);
    expect(await look("crun", "runsc")).toEqual([0, ["crun", "runsc"]]);
    node.overwrite(importedCase);
    expect(await look("crun", "runsc")).toEqual([0, ["crun", "runsc"]]);
    expect(await look()).toEqual([0, []]);
    const both = await node.run(["watch", "crun", "-f", file, "--once"]);
    expect([both.code, both.err]).toEqual([2, expect.stringContaining("by name beside a handler file")]);
  } finally {
    rmSync(file);
  }
});

test("a look is never a newer incarnation than the one before by itself", async () => {
  using node = Node.of(importedCase);
  expect((await node.run(["watch", "kata-qemu", "--once", "--epoch", "now"])).code).toBe(2);
});

test("watch installs, is ready only once the engine serves it, mends drift, and leaves the node at its end", async () => {
  using node = liveNode();
  const starts = engine.starts;
  // Long enough to be asked about a drift before it is mended.
  using holder = new Holder(node, engine, ["kata-qemu", "--settle", "2s"]);
  await holder.until("changed");
  expect(engine.starts).toBe(starts + 1);
  expect(await holder.get("/readyz")).toEqual({ status: 200, text: "kata-qemu served\n" });
  expect(await holder.get("/healthz")).toEqual({ status: 200, text: "ok\n" });
  expect((await holder.get("/metrics")).text).toMatch(/shimctl_handler_served\{.*kata-qemu.*\} 1/);
  expect((await holder.get("/")).status).toBe(404);
  expect((await holder.get("/readyz", "POST")).status).toBe(405);
  await holder.when("the kubelet is told", () => holder.words === "changed: kata-qemu served\n" || undefined);

  node.overwrite(importedCase);
  await holder.until("repaired");
  expect(engine.starts).toBe(starts + 2);
  node.overwrite(importedCase);
  await holder.until("drifted", 2);
  expect((await holder.get("/readyz")).status).toBe(503);
  await holder.until("repaired", 2);
  node.overwrite(importedCase);
  const { text } = await holder.get("/metrics");
  expect(text).toMatch(/shimctl_engine_restarts_total\{reason="change"\} 1\n/);
  expect(text).toMatch(/shimctl_engine_restarts_total\{reason="drift"\} 2\n/);
  const { error } = await holder.until("contended");
  expect(error).toContain("50-shimctl-default.toml");
  await holder.when("the kubelet is told", () => holder.words.startsWith("contended") || undefined);
  expect((await holder.get("/readyz")).status).toBe(503);
  // An install and two repairs, and no more.
  await Bun.sleep(2_000);
  expect(engine.starts).toBe(starts + 3);
  const before = node.tree();
  const ended = await holder.end();
  expect(ended.code).toBe(0);
  expect(ended.ms).toBeLessThan(1_000);
  expect(node.tree()).toEqual({ ...before, "/termination-log": node.tree()["/termination-log"] ?? "" });
});

test.each([
  ["a number", "7", "8"],
  ["a time that its clock has yet to see", future, future.replace("Z", ".000000001Z")],
])(
  "watch --epoch now is newer than %s that is recorded, and stays what it was then",
  async (_, before, now) => {
    using node = liveNode();
    await once(node, "--epoch", before, ...engine.options(node.root));
    using holder = new Holder(node, engine, ["kata-qemu", "runsc", "--epoch", "now", "--settle", "100ms"]);
    await holder.until("changed");
    const epochs = async () => (await node.run(["status", "--json"])).json()["epochs"];
    expect(await epochs()).toMatchObject({ default: { epoch: now } });
    node.overwrite(importedCase);
    await holder.until("repaired");
    expect(await epochs()).toMatchObject({ default: { epoch: now } });
  },
);

test("a handler file that gets worse later is told, with the node as it is, and looked at again", async () => {
  using node = liveNode();
  const good = "format = 1\n[handlers.kata-qemu]\n";
  node.place("/handlers/handlers.toml", good);
  const file = `${node.root}/handlers/handlers.toml`;
  using holder = new Holder(node, engine, ["-f", file, "--settle", "300ms"]);
  await holder.until("changed");
  node.place("/handlers/handlers.toml", "format = 1\n[handlers.kata-qemu]\npreset = 7\n");
  await holder.until("refused");
  const { text } = await holder.get("/metrics");
  expect(text).toMatch(/shimctl_check_failures_total [1-9]/);
  expect(text).toMatch(/shimctl_handler_served\{.*kata-qemu.*\} 1/);
  const { status, text: reason } = await holder.get("/readyz");
  expect([status, reason]).toEqual([503, expect.stringContaining(`(${file}:3)`)]);
  node.place("/handlers/handlers.toml", good);
  await holder.until("unchanged");
});

test("with --on-drift report, drift is told and nothing is restarted", async () => {
  using node = liveNode();
  using holder = new Holder(node, engine, ["kata-qemu", "--settle", "100ms", "--on-drift", "report"]);
  await holder.until("changed");
  const { starts } = engine;
  node.overwrite(importedCase);
  await holder.until("drifted");
  await Bun.sleep(1_500);
  expect(engine.starts).toBe(starts);
  expect(existsSync(node.root + importedCase.block("default"))).toBe(false);
});

test("an engine that is down is told, not restarted, and found again", async () => {
  using node = liveNode();
  using holder = new Holder(node, engine, ["kata-qemu", "--settle", "100ms", "--interval", "300ms"]);
  await holder.until("changed");
  const { starts } = engine;
  node.remove("/run/containerd/containerd.sock");
  const ready = async (status: number) =>
    holder.when(`/readyz says ${status}`, async () =>
      (await holder.get("/readyz")).status === status ? true : undefined,
    );
  await ready(503);
  await Bun.sleep(1_000);
  expect(engine.starts).toBe(starts);
  engine.start(node.root, "containerd");
  await ready(200);
  // That start was the test's own.
  expect(engine.starts).toBe(starts + 1);
});

/** Ends a first run by SIGTERM after so many ms. @returns how long that took, in ms */
async function endedAfter(delay: number): Promise<number> {
  using node = liveNode();
  const { starts } = engine;
  using first = new Holder(node, engine, ["kata-qemu"]);
  await Bun.sleep(delay);
  const ended = await first.end();
  // Before its handlers are there, the signal ends it as it ends any program.
  expect([`${ended.code}`, `${ended.signal}`]).toContain(ended.signal === null ? "0" : "SIGTERM");
  using second = new Holder(node, engine, ["kata-qemu"]);
  await second.when("it is ready", () => second.said.find(({ ready }) => ready));
  expect(engine.starts - starts).toBeLessThanOrEqual(2);
  await second.end("SIGINT");
  return ended.ms;
}

test("SIGTERM ends it within a second at every moment of its first run, and the next one ends installed", async () => {
  for (const delay of [0, 80, 160, 250, 400]) {
    let ms = await endedAfter(delay);
    // A machine that is busy with something else gets further attempts.
    for (let more = 0; more < 3 && ms >= 1_000; more++) ms = await endedAfter(delay);
    expect(ms).toBeLessThan(1_000);
  }
});

test("a look does not outlive a holder that is killed", async () => {
  using node = liveNode();
  // This look would wait for an engine that does not come back.
  using holder = new Holder(node, undefined, ["kata-qemu", "--restart-command", "/bin/sleep 3"]);
  const child = await holder.when("there is a look", () => childrenOf(holder.pid)[0]);
  await holder.end("SIGKILL");
  const deadline = Date.now() + 60_000;
  while (existsSync(`/proc/${child}/exe`) && Date.now() < deadline) await Bun.sleep(20);
  expect(existsSync(`/proc/${child}/exe`)).toBe(false);
});

test("requests that make no sense do no harm", async () => {
  using node = liveNode();
  using holder = new Holder(node, engine, ["kata-qemu"]);
  const port = await holder.port();
  for (const text of [
    "\0\0\0\r\n\r\n",
    `GET /${"a".repeat(20_000)} HTTP/1.1\r\n\r\n`,
    "GET / HTTP/9\r\n\r\n",
    "",
  ]) {
    await new Promise<void>((resolve) => {
      void Bun.connect({
        hostname: "127.0.0.1",
        port,
        socket: {
          open(socket) {
            socket.write(text);
            setTimeout(() => socket.end(), 50);
          },
          data: () => undefined,
          close: () => resolve(),
          error: () => resolve(),
        },
      });
    });
  }
  expect((await holder.get("/healthz")).status).toBe(200);
});

test("whoever keeps connections open keeps nobody out", async () => {
  using node = Node.of(importedCase);
  using holder = new Holder(node, undefined, ["kata-qemu"]);
  const port = await holder.port();
  const sockets = Array.from({ length: 150 }, () => connect(port, "127.0.0.1"));
  for (const socket of sockets) {
    socket.on("error", () => undefined);
    socket.write("GET /healthz HTTP/1.1\r\nHost: a\r\n");
  }
  let closed = 0;
  for (const socket of sockets) socket.on("close", () => closed++);
  await holder.when("the oldest are closed", () => closed >= 80 || undefined);
  expect((await holder.get("/healthz")).status).toBe(200);
  expect(closed).toBeLessThan(150);
  for (const socket of sockets) socket.destroy();
});

test("a port that is taken is refused before anything is written", async () => {
  using node = Node.of(importedCase);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const at = other.address();
  const port = typeof at === "object" && at !== null ? at.port : 0;
  const before = node.tree();
  const ran = await node.run(["watch", "kata-qemu", "--listen", `127.0.0.1:${port}`]);
  expect(ran.code).toBe(2);
  expect(ran.err).toContain("another program listens there already");
  expect(node.tree()).toEqual(before);
  expect((await node.run(["watch", "kata-qemu", "--listen", "nonsense"])).code).toBe(2);
  other.close();
});
