import { beforeAll, describe, expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { openHost } from "../../src/host/root.ts";
import { detect } from "../../src/layout/detect.ts";
import type { Daemon, Found, Wish } from "../../src/layout/layout.ts";
import { readEngine } from "../../src/transaction/gather.ts";
import { run } from "../../src/transaction/run.ts";
import { type Generation, k0sFolder, k0sInto, k0sRoot, renderByK0s } from "../support/k0s_merge.ts";
import { k0sNode } from "../support/k0s_node.ts";
import { microk8sNode, microk8sTemplate } from "../support/microk8s_sed.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing } from "../support/transaction.ts";

beforeAll(async () => {
  await loadLibc();
});

function find(node: Node, daemons: readonly Daemon[] = [], wish: Partial<Wish> = {}): Found {
  const whole: Wish = { engine: "auto", config: undefined, version: undefined, ...wish };
  return detect(openHost(node.root), whole, daemons, () => undefined);
}

function daemon(unit: string | undefined, ...argv: string[]): Daemon {
  return { unit, argv, environment: {}, active: true, source: unit ?? argv.join(" ") };
}

const unitFile = (name: string) => `/etc/systemd/system/${name}.service`;

describe("k0s", () => {
  for (const [role, ...argvs] of [
    ["worker", ["/usr/local/bin/k0s", "worker", "--token-file=/etc/k0s/token"]],
    [
      "controller",
      ["/usr/local/bin/k0s", "controller", "--enable-worker"],
      ["/usr/local/bin/k0s", "--debug", "controller", "--single"],
      ["/usr/local/bin/k0s", "single"],
    ],
  ] as const) {
    test(`a ${role} is told by its daemon, under whatever unit, and by its unit's file`, () => {
      using node = k0sNode("1.36", "2.3.4");
      for (const argv of argvs) {
        for (const unit of [`k0s${role}.service`, "mine.service", undefined]) {
          const found = find(node, [daemon(unit, ...argv)]);
          expect([found.layout.name, found.daemon?.unit]).toEqual([`k0s-${role}`, unit]);
          expect(found.evidence[0]).toStartWith(unit ?? argv.join(" "));
        }
      }
      node.place(unitFile(`k0s${role}`), "");
      expect([find(node).layout.name, find(node).layout.unit]).toEqual([`k0s-${role}`, `k0s${role}.service`]);
      expect(find(node, [], { layout: "k0s" }).layout.name).toBe(`k0s-${role}`);
    });
  }

  test("that was told of another engine leaves the node to that one", () => {
    using node = k0sNode("1.36", "2.3.4");
    node.place("/etc/containerd/config.toml", "version = 3\n");
    const other = daemon("containerd.service", "/usr/bin/containerd");
    for (const said of [
      ["--cri-socket=remote:unix:///run/containerd/containerd.sock"],
      ["--cri-socket", "remote:/x"],
    ])
      for (const role of ["worker", "controller"]) {
        const k0s = daemon(`k0s${role}.service`, "/usr/local/bin/k0s", role, ...said);
        expect(find(node, [k0s, other]).layout.name).toBe("vanilla");
      }
  });

  test("files that say no role are a worker's, as it makes no difference to them", () => {
    using node = k0sNode("1.36", "2.3.4");
    expect(find(node).layout.name).toBe("k0s-worker");
  });

  test("units of both roles are refused with the option that settles it, unless one of them runs", () => {
    using node = k0sNode("1.36", "2.3.4");
    for (const role of ["worker", "controller"]) node.place(unitFile(`k0s${role}`), "");
    let error: unknown;
    try {
      find(node);
    } catch (thrown) {
      error = thrown;
    }
    if (!(error instanceof ShimctlError)) throw error;
    expect([error.code, error.facts.hint]).toEqual([
      "unsupported-node",
      "pass --layout k0s-controller or --layout k0s-worker",
    ]);
    const running = daemon("k0scontroller.service", "/usr/bin/k0s", "controller");
    expect(find(node, [running]).layout.name).toBe("k0s-controller");
    expect(find(node, [], { layout: "k0s-worker" }).layout.name).toBe("k0s-worker");
  });

  test("the generation is told by what k0s itself has written", () => {
    using old = k0sNode("1.35", "1.7.24");
    expect(find(old).site.source).toMatchObject({ kind: "merged", folder: k0sFolder, into: k0sInto });
    using recent = k0sNode("1.36", "2.3.4");
    expect(find(recent).site.source).toMatchObject({ kind: "rendered", dropIns: [k0sFolder] });
    for (const node of [old, recent])
      expect(find(node).site).toMatchObject({ rootFile: k0sRoot, restartedBy: "k0s" });
  });

  for (const generation of ["1.35", "1.36"] as const) {
    test(`nobody has to tell the version of the engine that k0s ${generation} brings`, async () => {
      using node = k0sNode(generation, "2.0");
      const env = { ...environmentOf(node), site: find(node).site };
      expect(env.site.version).toBeUndefined();
      expect((await run(env, installing("kata-qemu"))).result).toBe("changed");
      renderByK0s(node.root, generation);
      const { state } = readEngine(env.host, env.backend, env.site).view;
      expect([state.schema, state.handlers.map(({ name }) => name)]).toEqual([
        generation === "1.35" ? 2 : 3,
        ["kata-qemu", "runc"],
      ]);
    });
  }

  test("with --config another file is the administrator's, and k0s does not look at it", () => {
    using node = k0sNode("1.36", "2.3.4");
    const { site } = find(node, [], { config: "/etc/k0s/mine.toml" });
    expect([site.source, site.restartedBy]).toEqual([undefined, undefined]);
  });

  for (const argument of [["--data-dir=/data/k0s/"], ["--data-dir", "/data/k0s"]]) {
    test(`its engine is below ${argument.join(" ")}`, () => {
      using node = k0sNode("1.36", "2.3.4");
      const found = find(node, [daemon("k0sworker.service", "/usr/bin/k0s", "worker", ...argument)]);
      expect(found.places.binaries).toEqual(["/data/k0s/bin/containerd"]);
    });
  }

  for (const [before, after, version] of [
    ["1.35", "1.36", "1.7.24"],
    ["1.36", "1.35", "2.3.4"],
  ] as const satisfies readonly (readonly [Generation, Generation, string])[]) {
    test(`that becomes ${after} while a change waits for the lock is not written for as ${before}`, async () => {
      using node = k0sNode(before, version);
      const { site } = find(node, [], { version });
      renderByK0s(node.root, after);
      const tree = node.tree();
      const env = { ...environmentOf(node), site };
      const error = await run(env, installing("kata-qemu")).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        code: before === "1.35" ? "conflict" : "unsupported-config",
        facts: { path: k0sRoot },
      });
      expect(node.tree()).toEqual(tree);
    });
  }
});

describe("MicroK8s", () => {
  test("is told by its template and by its unit, and its template is the root file", () => {
    using node = microk8sNode("1.7.24");
    expect(find(node)).toMatchObject({
      layout: { name: "microk8s", unit: "snap.microk8s.daemon-containerd.service" },
      site: { rootFile: microk8sTemplate, source: { kind: "template" } },
      places: { socket: "/var/snap/microk8s/common/run/containerd.sock" },
    });
    const unit = "snap.microk8s.daemon-containerd.service";
    const run = daemon(unit, "/usr/bin/snap", "run", "microk8s.daemon-containerd");
    using bare = new Node("1.7.24");
    expect(find(bare, [run]).layout.name).toBe("microk8s");
  });

  test("beside docker's containerd is refused with the option that settles it", () => {
    using node = microk8sNode("1.7.24");
    node.place("/etc/containerd/config.toml", 'disabled_plugins = ["cri"]\n');
    expect(() => find(node)).toThrow("Cannot choose between two engines on this node");
    expect(find(node, [], { layout: "microk8s" }).layout.name).toBe("microk8s");
  });
});
