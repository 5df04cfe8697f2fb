import { beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import type { Io } from "../../src/cli/io.ts";
import { clusterOf, labelsDrift } from "../../src/cli/node_object.ts";
import { parseArguments } from "../../src/cli/options.ts";
import { ShimctlError } from "../../src/error.ts";
import { exactly } from "../../src/handler/asked.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import type { Intent } from "../../src/transaction/desire.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import { labelsIn } from "../../src/transaction/node_labels.ts";
import type { Outcome } from "../../src/transaction/outcome.ts";
import { run } from "../../src/transaction/run.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { KubeApi } from "../support/kube_api.ts";
import { handler } from "../support/memory.ts";
import { whyNot } from "../support/needs.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const rootFile = "/etc/containerd/config.toml";
const kata = "katacontainers.io/kata-runtime";
const missing = whyNot("the node object", { programs: ["openssl"] });

beforeAll(async () => {
  await loadLibc();
});

/** A node with an engine, and the cluster that it is in. */
class Setup {
  readonly node = new Node("2.1.9", "# theirs\nversion = 3\n");
  readonly stop = new AbortController();
  readonly engine = new FakeEngine(() => environmentOf(this.node));
  env: Record<string, string>;
  overallMs = 5_000;

  readonly api: KubeApi;

  constructor(api: KubeApi) {
    this.api = api;
    this.env = api.env;
  }

  io(): Io {
    return {
      out: () => undefined,
      err: () => undefined,
      env: this.env,
      outIsTerminal: false,
      errIsTerminal: false,
      signal: this.stop.signal,
      now: () => new Date(),
      cluster: { folder: this.api.folder, overallMs: this.overallMs, pauseMs: 2, settleMs: 2 },
    };
  }

  environment(args: readonly string[], restarts = true): Environment {
    const [command = "install", ...rest] = args;
    const options = command === "install" ? ["kata-qemu", ...rest] : rest;
    return {
      ...environmentOf(this.node, undefined, this.stop.signal),
      activation: restarts ? this.engine.activation({ budget: { hour: 999, day: 999 } }) : undefined,
      cluster: clusterOf(this.io(), parseArguments([command, ...options], this.env)),
    };
  }

  run(
    intent: Intent,
    owner = "default",
    args = this.args(intent.command),
    restarts = true,
  ): Promise<Outcome> {
    return run(this.environment(args, restarts), { ...installing(), intent, owner });
  }

  args(command: string, labels = `${kata}=true`): string[] {
    return [
      command,
      "--node-name",
      "node-1",
      "--node-label",
      labels,
      "--remove-taint",
      "shimctl/wait:NoSchedule",
    ];
  }

  get recorded() {
    return labelsIn(stateOf(this.node).readRecord().record, rootFile);
  }

  get served(): boolean {
    return this.engine.served.includes("kata-qemu");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.node[Symbol.dispose]();
    await this.api[Symbol.asyncDispose]();
  }
}

const setup = async () => new Setup(await KubeApi.start());
const install = (...names: string[]): Intent => ({
  command: "install",
  handlers: names.map((name) => exactly(handler(name))),
});
const all: Intent = { command: "uninstall", names: "all" };
const uninstall = (...names: string[]): Intent => ({ command: "uninstall", names });

describe.skipIf(missing !== undefined)("a label", () => {
  test("is set once the engine serves the handlers, with the taint removed in the same patch", async () => {
    await using it = await setup();
    it.api.taints = [
      { key: "other", effect: "NoSchedule" },
      { key: "shimctl/wait", effect: "NoExecute" },
      { key: "shimctl/wait", effect: "NoSchedule" },
    ];
    it.api.onPatch = () => expect(it.served).toBe(true);
    const outcome = await it.run(install("kata-qemu"));
    expect(outcome.node?.failure).toBeUndefined();
    expect(it.api.labels).toEqual({ "kubernetes.io/hostname": "node-1", [kata]: "true" });
    expect(it.api.taints.map(({ effect }) => effect)).toEqual(["NoSchedule", "NoExecute"]);
    expect(it.api.patches).toBe(1);
    expect(it.recorded).toMatchObject([{ owner: "default", node: "node-1", key: kata, value: "true" }]);
    const again = await it.run(install("kata-qemu"));
    expect([again.result, again.node?.done, it.api.patches]).toEqual(["unchanged", [], 1]);
  });

  test("that could not be set is told in the one document, with what was done and exit code 9", async () => {
    using node = new Node("2.1.9", "version = 3\n");
    const env = {
      KUBERNETES_SERVICE_HOST: "127.0.0.1",
      KUBERNETES_SERVICE_PORT: "1",
      SHIMCTL_NODE_NAME: "n",
    };
    const ran = await node.run(["install", "kata-qemu", "--node-label", "a=b", "--json"], env);
    expect(ran.code).toBe(9);
    expect(ran.json()).toMatchObject({
      result: "changed",
      error: { code: "cannot-label" },
      node: { name: "n" },
    });
    const dry = await node.run(["install", "runsc", "--node-label", "a=b", "--dry-run"], env);
    expect([dry.code, dry.err.includes("dry run")]).toEqual([0, true]);
  });

  test("is set on a node that has none yet", async () => {
    await using it = await setup();
    it.api.labels = undefined;
    await it.run(install("kata-qemu"));
    expect(it.api.labels as unknown).toEqual({ [kata]: "true" });
  });

  test("is not set where nothing proves that the handlers are served", async () => {
    await using it = await setup();
    const outcome = await it.run(install("kata-qemu"), "default", it.args("install"), false);
    expect([outcome.node, it.api.requests, outcome.notes.some((note) => note.includes("proves"))]).toEqual([
      undefined,
      [],
      true,
    ]);
  });

  test("is not set while the engine does not serve what stands on disk", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"), "default", ["install"]);
    it.engine.served = ["runc"];
    const { result, node } = await it.run(install("kata-qemu"));
    expect([result, node?.failure?.code, it.api.requests]).toEqual(["unchanged", "cannot-label", []]);
    expect(node?.failure?.message).toContain("does not serve kata-qemu");
  });

  test("goes before the first file changes, and only with the owner's last handler", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu", "runsc"));
    await it.run(uninstall("runsc"));
    expect(it.api.labels?.[kata]).toBe("true");
    it.api.onPatch = () =>
      expect(it.node.tree()["/etc/containerd/conf.d/50-shimctl-default.toml"]).toBeDefined();
    // Without being asked: what we set, we take away.
    await it.run(all, "default", ["uninstall", "--all"]);
    expect([it.api.labels, it.recorded, it.served]).toEqual([
      { "kubernetes.io/hostname": "node-1" },
      [],
      false,
    ]);
  });

  test("that stood there before us is not ours, and stays", async () => {
    await using it = await setup();
    it.api.change({ [kata]: "true" });
    await it.run(install("kata-qemu"));
    expect(it.recorded).toEqual([]);
    await it.run(all);
    expect([it.api.labels?.[kata], it.api.patches]).toEqual(["true", 0]);
  });

  test("to which somebody else gave another value is left as it is, and told", async () => {
    await using it = await setup();
    it.api.change({ [kata]: "false" });
    const { node, result } = await it.run(install("kata-qemu"));
    expect([result, node?.failure?.code, node?.failure?.exitCode, it.api.patches]).toEqual([
      "changed",
      "conflict",
      5,
      0,
    ]);
    expect([it.served, it.recorded]).toEqual([true, []]);
  });

  test("of ours that somebody gave another value is not removed", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"));
    it.api.change({ [kata]: "mine" });
    await it.run(all);
    expect([it.api.labels?.[kata], it.recorded]).toEqual(["mine", []]);
  });

  test("of ours gets another value, also where it was not known whether the first try did", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"));
    const other = it.args("install", `${kata}=v2`);
    it.api.trouble = (_, method) => (method === "PATCH" ? "cut" : "none");
    it.overallMs = 100;
    expect((await it.run(install("kata-qemu"), "default", other)).node?.failure?.code).toBe("cannot-label");
    it.api.trouble = () => "none";
    it.overallMs = 5_000;
    expect((await it.run(install("kata-qemu"), "default", other)).node?.failure).toBeUndefined();
    expect([it.api.labels?.[kata], it.recorded.map(({ value }) => value)]).toEqual(["v2", ["v2"]]);
  });

  test("that an exact set does not name any more goes", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"), "default", it.args("install", `${kata}=true,a/b=c`));
    const exactlyThat: Intent = { command: "apply", handlers: [exactly(handler("kata-qemu"))] };
    await it.run(exactlyThat, "default", it.args("install", "a/b=c"));
    expect([it.api.labels?.[kata], it.api.labels?.["a/b"], it.recorded.map(({ key }) => key)]).toEqual([
      undefined,
      "c",
      ["a/b"],
    ]);
  });

  test("of the machine whose disk this one was copied from stays, and is forgotten here", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"));
    const args = ["uninstall", "--node-name", "node-2", "--node-label", `${kata}=true`];
    const outcome = await it.run(all, "default", args);
    expect([outcome.result, it.api.labels?.[kata], it.recorded]).toEqual(["changed", "true", []]);
    expect(outcome.notes).toEqual([expect.stringContaining("node 'node-1'")]);
  });

  test("of two owners stays until the second one goes", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"), "a");
    await it.run(install("runsc"), "b");
    await it.run(all, "a");
    expect(it.api.labels?.[kata]).toBe("true");
    await it.run(all, "b");
    expect([it.api.labels?.[kata], it.recorded]).toEqual([undefined, []]);
  });

  test("that a kubelet took away while it came up is set again", async () => {
    await using it = await setup();
    let reads = 0;
    it.api.afterRead = () => {
      if (++reads === 2) it.api.change({ [kata]: undefined });
    };
    const { node } = await it.run(install("kata-qemu"));
    expect([node?.failure, it.api.labels?.[kata], it.api.patches]).toEqual([undefined, "true", 2]);
  });

  test("that was lost is drift, and comes back with the same command", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"));
    const parsed = parseArguments(["install", "kata-qemu", ...it.args("").slice(1)], it.env);
    const drift = () => labelsDrift(it.io(), parsed, environmentOf(it.node), "default");
    expect(await drift()).toEqual([]);
    it.api.change({ [kata]: undefined });
    expect(await drift()).toEqual([`node 'node-1' lost ${kata}=true`]);
    expect((await it.run(install("kata-qemu"))).result).toBe("unchanged");
    expect([await drift(), it.api.labels?.[kata]]).toEqual([[], "true"]);
  });

  test("is not asked for where only a taint shall go: that is drift too, until it is gone", async () => {
    await using it = await setup();
    const taint = { key: "shimctl/wait", effect: "NoSchedule" };
    it.api.taints = [taint];
    it.api.trouble = () => "403";
    const args = ["install", "--node-name", "node-1", "--remove-taint", "shimctl/wait"];
    await it.run(install("kata-qemu"), "default", args);
    it.api.trouble = () => "none";
    const parsed = parseArguments(["install", "kata-qemu", ...args.slice(1)], it.env);
    const drift = () => labelsDrift(it.io(), parsed, environmentOf(it.node), "default");
    expect(await drift()).toEqual(["node 'node-1' has taint shimctl/wait:NoSchedule"]);
    expect((await it.run(install("kata-qemu"), "default", args)).result).toBe("unchanged");
    expect([await drift(), it.api.taints]).toEqual([[], []]);
  });

  test("is set and removed a hundred times while another writer changes others: nothing is lost", async () => {
    await using it = await setup();
    let written = 0;
    let quiet = false;
    it.api.afterRead = () => {
      quiet = !quiet;
      if (!quiet || written >= 100) return;
      it.api.change({ [`other/n${written++}`]: "x" });
    };
    while (written < 100) {
      expect((await it.run(install("kata-qemu"))).node?.failure).toBeUndefined();
      await it.run(all);
    }
    const expected = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`other/n${n}`, "x"]));
    expect(it.api.labels).toEqual({ "kubernetes.io/hostname": "node-1", ...expected });
  }, 60_000);

  test("that was set although the answer was lost is ours", async () => {
    await using it = await setup();
    it.api.trouble = (_, method) => (method === "PATCH" && it.api.patches === 1 ? "cut after patch" : "none");
    await it.run(install("kata-qemu"));
    expect(it.recorded).toHaveLength(1);
    await it.run(all);
    expect(it.api.labels?.[kata]).toBeUndefined();
  });
});

describe.skipIf(missing !== undefined)("an API server", () => {
  test.each([
    ["404", "cannot-label", 1, /no node of that name/],
    ["403", "cannot-label", 1, /may not get or patch nodes/],
    ["401", "cannot-label", 3, /does not know us/],
    ["html", "cannot-label", 1, /no Kubernetes node/],
    ["endless", "cannot-label", 1, /too long/],
  ] as const)(
    "that answers %s leaves the handlers installed, and the command fails",
    async (trouble, code, requests, words) => {
      await using it = await setup();
      it.api.trouble = () => trouble;
      const { node, result } = await it.run(install("kata-qemu"));
      expect([result, it.served, node?.failure?.code, node?.failure?.exitCode]).toEqual([
        "changed",
        true,
        code,
        9,
      ]);
      expect(node?.failure?.message).toMatch(words);
      expect([it.api.requests.length, it.recorded]).toEqual([requests, []]);
      expect(JSON.stringify([node, node?.failure?.message, it.node.tree()])).not.toContain(it.api.token);
    },
  );

  test.each(["409", "429", "500", "cut"] as const)(
    "that answers %s at first is asked again",
    async (trouble) => {
      await using it = await setup();
      it.api.trouble = (request) => (request <= 2 ? trouble : "none");
      expect((await it.run(install("kata-qemu"))).node?.failure).toBeUndefined();
      expect(it.api.labels?.[kata]).toBe("true");
    },
  );

  test("that says when it has time again is left alone until then", async () => {
    await using it = await setup();
    it.api.retryAfter = "1";
    it.api.trouble = (request) => (request === 1 ? "429" : "none");
    const begin = performance.now();
    expect((await it.run(install("kata-qemu"))).node?.failure).toBeUndefined();
    expect(performance.now() - begin).toBeGreaterThan(1_000);
  });

  test("that wants more time than there is, is not waited for", async () => {
    await using it = await setup();
    it.api.retryAfter = "3600";
    it.api.trouble = () => "429";
    it.overallMs = 20_000;
    const begin = performance.now();
    expect((await it.run(install("kata-qemu"))).node?.failure?.code).toBe("cannot-label");
    expect(performance.now() - begin).toBeLessThan(15_000);
  });

  test.each(["::1", "[::1]"])("at the IPv6 address %s is asked, and its name verified", async (host) => {
    await using it = new Setup(await KubeApi.start("IP:::1", "::1"));
    it.env = { ...it.api.env, KUBERNETES_SERVICE_HOST: host };
    expect((await it.run(install("kata-qemu"))).node?.failure).toBeUndefined();
    expect(it.api.labels?.[kata]).toBe("true");
    await using other = new Setup(await KubeApi.start("IP:::2", "::1"));
    expect((await other.run(install("kata-qemu"))).node?.failure?.message).toMatch(/certificate/);
  });

  test("is shown the token as it stands in the file now", async () => {
    await using it = await setup();
    let renewed = false;
    it.api.trouble = () => {
      if (renewed) return "none";
      renewed = true;
      it.api.renewToken("secret-token-2");
      return "401";
    };
    expect((await it.run(install("kata-qemu"))).node?.failure).toBeUndefined();
    expect([...it.api.authorizations]).toEqual(["Bearer secret-token-1", "Bearer secret-token-2"]);
  });

  test("whose certificate is for another name gets no token", async () => {
    await using it = new Setup(await KubeApi.start("DNS:elsewhere"));
    const { node } = await it.run(install("kata-qemu"));
    expect(node?.failure?.message).toMatch(/certificate/);
    expect(it.api.requests).toEqual([]);
  });

  test.each(["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])(
    "whose authority cannot be read gets no token, and keeps no uninstall: %j",
    async (authority) => {
      await using it = await setup();
      await it.run(install("kata-qemu"));
      const asked = it.api.requests.length;
      writeFileSync(`${it.api.folder}/ca.crt`, authority);
      const outcome = await it.run(all);
      expect([outcome.result, outcome.notes.length, it.api.requests.length]).toEqual(["changed", 1, asked]);
      expect(it.recorded).toMatchObject([{ key: kata, pending: expect.any(String) }]);
    },
  );

  for (const how of ["silent", "refused"] as const)
    test(`that is ${how} does not keep an uninstall: the label is pending, and goes with the next run`, async () => {
      await using it = await setup();
      await it.run(install("kata-qemu"));
      const { env } = it;
      if (how === "silent") it.api.trouble = () => "silent";
      else it.env = { ...env, KUBERNETES_SERVICE_PORT: "1" };
      it.overallMs = 300;
      const begin = performance.now();
      const outcome = await it.run(all);
      expect(performance.now() - begin).toBeLessThan(5_000);
      expect([outcome.result, it.served, outcome.notes.length]).toEqual(["changed", false, 1]);
      expect(outcome.notes[0]).toContain("kubectl label node node-1");
      expect(it.recorded).toMatchObject([{ key: kata, pending: expect.any(String) }]);
      const status = await it.node.run(["status"]);
      expect(status.out).toContain(`pending: ${kata}=true of owner 'default'`);
      it.api.trouble = () => "none";
      it.env = env;
      it.overallMs = 5_000;
      await it.run(install("runsc"), "other", ["install"]);
      expect([it.api.labels?.[kata], it.recorded]).toEqual([undefined, []]);
    });

  test("that is silent when we are told to stop is given up at once, with nothing changed", async () => {
    await using it = await setup();
    await it.run(install("kata-qemu"));
    const before = it.node.text("/etc/containerd/conf.d/50-shimctl-default.toml");
    it.api.trouble = () => "silent";
    it.overallMs = 20_000;
    setTimeout(() => it.stop.abort("SIGTERM"), 50);
    const begin = performance.now();
    const error = await it.run(all).catch((thrown: unknown) => thrown);
    expect(performance.now() - begin).toBeLessThan(15_000);
    expect(error instanceof ShimctlError && error.code).toBe("interrupted");
    expect(it.node.text("/etc/containerd/conf.d/50-shimctl-default.toml")).toBe(before);
    expect(it.recorded).toMatchObject([{ key: kata }]);
    expect(it.recorded[0]?.pending).toBeUndefined();
  });
});

describe("the options of the node object", () => {
  const inPod = { KUBERNETES_SERVICE_HOST: "127.0.0.1" };
  test.each([
    [["--node-label", "a=b"], inPod, /--node-name.*\n.*\n.*spec\.nodeName/],
    [["--node-label", "a=b", "--node-name", "n"], {}, /outside a pod/],
    [["--node-label", "a", "--node-name", "n"], inPod, /KEY=VALUE/],
    [["--node-label", "a=b,a=c", "--node-name", "n"], inPod, /twice/],
    [["--node-label", "-a=b", "--node-name", "n"], inPod, /a key must/],
    [["--node-label", "A.B/c=b c", "--node-name", "n"], inPod, /a key must/],
    [["--node-label", "a=b c", "--node-name", "n"], inPod, /a value must/],
    [["--node-label", "a=b", "--node-name", "../n"], inPod, /no name of a Kubernetes node/],
    [["--remove-taint", "a:Never", "--node-name", "n"], inPod, /NoExecute/],
  ] as const)("%p are refused before anything is written", async (args, env, words) => {
    using node = new Node("2.1.9", "version = 3\n");
    const before = node.tree();
    const ran = await node.run(["install", "kata-qemu", ...args], env);
    expect([ran.code, node.tree()]).toEqual([2, before]);
    expect(ran.err).toMatch(words);
  });
});
