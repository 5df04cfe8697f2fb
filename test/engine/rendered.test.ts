import { describe, expect, test } from "bun:test";
import { type Engine, engines } from "../../build/engines.ts";
import { openCri } from "../../src/host/cri/client.ts";
import {
  folderOf,
  k3sNode,
  middleK3s,
  newK3s,
  oldK3s,
  type Release,
  renderedFile,
  startK3s,
} from "../support/k3s_render.ts";
import { whyNot } from "../support/needs.ts";
import type { Node } from "../support/node.ts";
import {
  daemonProblem,
  dump,
  handlersOf,
  jailProblem,
  normalise,
  type Output,
  startDaemon,
} from "./harness.ts";

const problem = jailProblem();
const noJail = whyNot(
  "what k3s renders, before real engines",
  problem === undefined ? {} : { also: problem },
);
const ready = noJail === undefined ? await engines() : [];
const noDaemon = noJail ?? daemonProblem();

const releases: readonly { readonly version: string; readonly release: Release; readonly what: string }[] = [
  { version: "1.7.24", release: oldK3s, what: "k3s that renders version 2" },
  { version: "2.1.9", release: middleK3s, what: "k3s that imports nothing" },
  { version: "2.1.9", release: newK3s, what: "k3s that imports drop-ins" },
  { version: "2.3.4", release: middleK3s, what: "k3s that imports nothing" },
  { version: "2.3.4", release: newK3s, what: "k3s that imports drop-ins" },
  {
    version: "2.3.4",
    release: { ...newK3s, program: "rke2", data: "/data/rke2" },
    what: "RKE2 with its data elsewhere",
  },
];

function engineOf(version: string): Engine {
  const engine = ready.find((each) => each.version === version);
  if (engine === undefined) throw new Error(`there is no containerd ${version} here`);
  return engine;
}

/** What the real engine makes of the rendered file. */
function judged(engine: Engine, node: Node, release: Release): { names: string[]; meaning: unknown } {
  const { rc, stdout, stderr } = dump(engine, node.root, renderedFile(release));
  expect([rc, rc === 0 ? "" : stderr]).toEqual([0, ""]);
  return { names: Object.keys(handlersOf(stdout, engine.version)).sort(), meaning: normalise(stdout) };
}

async function served(engine: Engine, node: Node, release: Release): Promise<readonly string[]> {
  const daemon = await startDaemon(engine, node.root, renderedFile(release));
  try {
    const status = await openCri(daemon.socket).status();
    if (status.kind !== "up") throw new Error(`${status.kind}: ${daemon.log().slice(-2000)}`);
    return status.handlers;
  } finally {
    await daemon.stop();
  }
}

async function done(node: Node, ...args: string[]): Promise<void> {
  const ran = await node.run([...args, "--json"]);
  expect([ran.json()["error"], ran.code]).toEqual([null, 0]);
}

describe.skipIf(noJail !== undefined)("what k3s renders", () => {
  for (const { version, release, what } of releases) {
    test(`with two owners' handlers is what containerd ${version} takes, and what it was once they left: ${what}`, async () => {
      const engine = engineOf(version);
      using node = k3sNode(version, release);
      const before = { tree: node.tree(), ...judged(engine, node, release) };
      expect(before.names).toEqual(["crun", "nvidia", "runc"]);
      // The engine's own parser is asked about the candidate as well.
      await done(node, "install", "kata-qemu", "--prove-with", engine.containerd);
      await done(node, "install", "runsc", "--owner", "dev", "--prove-with", engine.containerd);
      startK3s(node, release);
      expect(judged(engine, node, release).names).toEqual(["crun", "kata-qemu", "nvidia", "runc", "runsc"]);
      await done(node, "uninstall", "--all", "--prove-with", engine.containerd);
      startK3s(node, release);
      expect(judged(engine, node, release).names).toEqual(["crun", "nvidia", "runc", "runsc"]);
      await done(node, "uninstall", "--all", "--owner", "dev");
      startK3s(node, release);
      const { meaning } = judged(engine, node, release);
      expect([node.tree(), meaning]).toEqual([before.tree, before.meaning]);
    });

    test.skipIf(noDaemon !== undefined)(
      `is served by a running containerd ${version} with ours: ${what}`,
      async () => {
        const engine = engineOf(version);
        using node = k3sNode(version, release);
        await done(node, "install", "kata-qemu");
        startK3s(node, release);
        expect(await served(engine, node, release)).toEqual(["crun", "kata-qemu", "nvidia", "runc"]);
      },
    );
  }

  test.each(["1.7.24", "2.1.9", "2.3.4"])(
    "with a table that it renders by itself in a template too stops containerd %s, and we make no such thing",
    async (version) => {
      const engine = engineOf(version);
      const release = version.startsWith("1.") ? oldK3s : middleK3s;
      const isOld = release === oldK3s;
      const id = isOld ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
      const template = `${folderOf(release)}/config${isOld ? "" : "-v3"}.toml.tmpl`;
      using node = k3sNode(version, release);
      node.place(
        template,
        `{{ template "base" . }}\n[plugins."${id}".containerd.runtimes."crun"]\n  runtime_type = "io.containerd.runc.v2"\n`,
      );
      startK3s(node, release);
      const refusal: Output = dump(engine, node.root, renderedFile(release));
      expect([refusal.rc === 0, refusal.stderr]).toEqual([
        false,
        expect.stringMatching(/already|twice|duplicate/i),
      ]);
      node.remove(template);
      startK3s(node, release);
      expect((await node.run(["install", "crun"])).code).toBe(5);
      startK3s(node, release);
      expect(judged(engine, node, release).names).toEqual(["crun", "nvidia", "runc"]);
    },
  );

  test.each(["2.1.9", "2.3.4"])(
    "of a version 2 template on containerd %s gets tables of version 2, which it serves",
    async (version) => {
      const engine = engineOf(version);
      using node = k3sNode(version, middleK3s, {
        [`${folderOf(middleK3s)}/config.toml.tmpl`]: '{{ template "base" . }}\n',
      });
      await done(node, "install", "kata-qemu", "--prove-with", engine.containerd);
      expect(startK3s(node, middleK3s)).toEndWith("/config.toml.tmpl");
      expect(node.text(renderedFile(middleK3s))).not.toContain("io.containerd.cri.v1.runtime");
      expect(judged(engine, node, middleK3s).names).toEqual(["crun", "kata-qemu", "nvidia", "runc"]);
    },
  );

  test.each(["2.1.9", "2.3.4"])(
    "of a copy of it in a template of the other version's name is what containerd %s serves with ours",
    async (version) => {
      const engine = engineOf(version);
      using node = k3sNode(version, middleK3s);
      node.place(`${folderOf(middleK3s)}/config.toml.tmpl`, node.text(renderedFile(middleK3s)));
      startK3s(node, middleK3s);
      await done(node, "install", "kata-qemu", "--prove-with", engine.containerd);
      startK3s(node, middleK3s);
      expect(judged(engine, node, middleK3s).names).toEqual(["crun", "kata-qemu", "nvidia", "runc"]);
    },
  );

  test("is what the engine takes at every step of an upgrade from a template to drop-ins", async () => {
    const engine = engineOf("2.1.9");
    using node = k3sNode("2.1.9", middleK3s);
    await done(node, "install", "kata-qemu");
    const names = ["crun", "kata-qemu", "nvidia", "runc"];
    for (const release of [middleK3s, newK3s]) {
      startK3s(node, release);
      expect(judged(engine, node, release).names).toEqual(names);
    }
    await done(node, "install", "kata-qemu", "--prove-with", engine.containerd);
    startK3s(node, newK3s);
    expect(judged(engine, node, newK3s).names).toEqual(names);
  });
});
