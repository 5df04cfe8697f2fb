import { afterAll, describe, expect, mock, test } from "bun:test";
import { distributionsPage } from "../../build/distributions.ts";
import { openHost } from "../../src/host/root.ts";
import { ownContainerd } from "../../src/layout/containerd.ts";
import { detect } from "../../src/layout/detect.ts";
import { present } from "../../src/layout/evidence.ts";
import { type Daemon, type Layout, runs } from "../../src/layout/layout.ts";
import { layouts } from "../../src/layout/registry.ts";
import { bluewhale } from "../support/made_up_distribution.ts";
import { Node } from "../support/node.ts";

const k3sRoot = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";

/** For as long as k3s' own layout is not in the registry: what counts here is that there is another engine. */
const standIn: Layout = {
  ...ownContainerd,
  name: "k3s-server",
  title: "k3s server",
  evidence: (host) => present(host, [k3sRoot]),
  isDaemon: (daemon) => runs(daemon, "k3s") && daemon.argv[1] === "server",
  places: () => ({ ...ownContainerd.places(), rootFile: k3sRoot }),
  survives: "restarts",
};

// The one registry line, and that of the stand-in.
const real = [...layouts];
const withK3s = real.some(({ name }) => name === standIn.name) ? real : [...real, standIn];
mock.module("../../src/layout/registry.ts", () => ({ layouts: [...withK3s, bluewhale] }));
afterAll(() => {
  mock.module("../../src/layout/registry.ts", () => ({ layouts: real }));
});

const config = `version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`;

describe("a made-up distribution, in one file and one registry line", () => {
  function whale(): Node {
    const node = new Node("2.1.9");
    node.place("/etc/bluewhale/release", "1\n");
    node.place("/etc/bluewhale/containerd.toml", config);
    return node;
  }

  test("is found, changed and brought back by the whole command line", async () => {
    using node = whale();
    // What its image has besides speaks for more general layouts.
    for (const path of ["/usr/bin/containerd", "/usr/bin/dockerd", "/etc/containerd/config.toml"])
      node.place(path, "");
    const before = node.tree();
    const installed = await node.run(["install", "kata-qemu"]);
    expect([installed.code, installed.err]).toEqual([
      0,
      "warn: this does not outlive the next whale upgrade\n",
    ]);
    expect(node.text("/etc/bluewhale/conf.d/50-shimctl-default.toml")).toContain("kata-qemu");
    expect(node.text("/etc/containerd/config.toml")).toBe("");
    const status = await node.run(["status", "--json"]);
    expect(status.json()["layout"]).toMatchObject({ name: "bluewhale", wipes: "the next whale upgrade" });
    expect((await node.run(["status"])).out).toContain("layout    bluewhale (by /etc/bluewhale/release");
    expect((await node.run(["install", "kata-qemu", "--layout", "bluewhale"])).code).toBe(0);
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    expect(node.tree()).toEqual(before);
  });

  test("is one of the options where another one is evident too", async () => {
    using node = whale();
    node.place("/kind/version", "v1.34.0\n");
    const { code, err } = await node.run(["install", "kata-qemu"]);
    expect(code).toBe(6);
    expect(err).toContain("/kind/version and /etc/bluewhale/release");
    expect(err).toContain("pass --layout kind or --layout bluewhale");
  });

  test("has its rows in the page on distributions", () => {
    const rows = distributionsPage([...real, bluewhale])
      .split("\n")
      .filter((line) => line.startsWith("| `bluewhale` |"));
    expect(rows).toHaveLength(2);
    expect(rows[0]).toContain("`/etc/bluewhale/containerd.toml`");
    expect(rows[1]).toContain("`whale-containerd.service`");
    expect(rows[1]).toContain("the next whale upgrade");
  });
});

describe("k3s and docker on one node", () => {
  function both(): Node {
    const node = new Node("2.1.9", config);
    for (const path of ["/usr/bin/dockerd", "/usr/bin/containerd", "/usr/local/bin/k3s"])
      node.place(path, "#!/bin/sh\n", 0o755);
    node.place("/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server\n");
    node.place(k3sRoot, config);
    return node;
  }
  const daemon = (argv: string[], unit: string, active: boolean): Daemon => ({
    unit,
    argv,
    environment: {},
    active,
    source: unit,
  });
  const docker = (active: boolean) => daemon(["/usr/bin/containerd"], "containerd.service", active);
  const k3s = (active: boolean) => daemon(["/usr/local/bin/k3s", "server"], "k3s.service", active);
  const found = (node: Node, daemons: Daemon[]) =>
    detect(
      openHost(node.root),
      { engine: "auto", config: undefined, version: "2.1.9" },
      daemons,
      () => undefined,
    ).site;

  test("are told apart by nobody: the change is refused, and each option leads to its own file", async () => {
    using node = both();
    const before = node.tree();
    const { code, err } = await node.run(["install", "kata-qemu"]);
    expect([code, node.tree()]).toEqual([6, before]);
    expect(err).toContain("Cannot choose between two engines on this node: ");
    expect(err).toMatch(/\/var\/lib\/rancher\/k3s\/agent\/etc\/containerd|k3s\.service/);
    expect(err).toMatch(/pass --layout (docker or --layout k3s-server|k3s-server or --layout docker)/);
    for (const [layout, rootFile] of [
      ["docker", "/etc/containerd/config.toml"],
      ["k3s-server", k3sRoot],
    ] as const) {
      const status = await node.run(["status", "--json", "--layout", layout]);
      expect(status.json()["engine"]).toMatchObject({ rootFile });
    }
  });

  test("are told apart where k3s alone runs; docker's engine runs for itself while k3s is stopped", () => {
    using node = both();
    expect(found(node, [k3s(true), docker(false)])).toMatchObject({
      layout: "k3s-server",
      rootFile: k3sRoot,
    });
    for (const daemons of [
      [docker(true), k3s(false)],
      [docker(true), k3s(true)],
    ])
      expect(() => found(node, daemons)).toThrow("Cannot choose between two engines");
  });
});
