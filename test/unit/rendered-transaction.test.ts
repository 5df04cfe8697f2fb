import { beforeAll, describe, expect, test } from "bun:test";
import { readTemplate } from "../../src/engine/containerd/template.ts";
import { ShimctlError } from "../../src/error.ts";
import { exactly } from "../../src/handler/asked.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { k3sServer } from "../../src/layout/k3s.ts";
import { setBlock } from "../../src/toml/edit.ts";
import type { Intent } from "../../src/transaction/desire.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import { recover } from "../../src/transaction/recover.ts";
import { run } from "../../src/transaction/run.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import {
  folderOf,
  k3sNode,
  middleK3s,
  newK3s,
  oldK3s,
  type Release,
  startK3s,
} from "../support/k3s_render.ts";
import { handler } from "../support/memory.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

beforeAll(async () => {
  await loadLibc();
});

/** A k3s node with an engine that is made up, and renders its configuration whenever it starts. */
class Setup {
  readonly release: Release;
  readonly node: ReturnType<typeof k3sNode>;
  readonly engine: FakeEngine;

  constructor(version: string, release: Release, files: Readonly<Record<string, string>> = {}) {
    this.release = release;
    this.node = k3sNode(version, release, files);
    this.engine = new FakeEngine(() => this.environment());
    this.engine.onRestart = () => {
      startK3s(this.node, release);
    };
  }

  environment(onStep?: (name: string) => void): Environment {
    const plain = environmentOf(this.node, onStep);
    const { rootFile, source } = k3sServer.places(plain.host, undefined);
    return {
      ...plain,
      site: { ...plain.site, layout: "k3s-server", rootFile, ...(source === undefined ? {} : { source }) },
      activation: (this as Partial<Setup>).engine?.activation(),
    };
  }

  run(intent: Intent, onStep?: (name: string) => void): ReturnType<typeof run> {
    return run(this.environment(onStep), { ...installing(), intent });
  }

  async fails(intent: Intent, onStep?: (name: string) => void): Promise<string> {
    try {
      await this.run(intent, onStep);
    } catch (error) {
      if (error instanceof ShimctlError) return error.code;
      if (error === killed) return "killed";
      throw error;
    }
    return "done";
  }

  [Symbol.dispose](): void {
    this.node[Symbol.dispose]();
  }
}

const killed = new Error("killed");
const install = (...names: string[]): Intent => ({
  command: "install",
  handlers: names.map((name) => exactly(handler(name))),
});
const uninstall: Intent = { command: "uninstall", names: "all" };
const own = '# theirs\r\n{{ template "base" . }}\r\n';

describe.each([
  ["a drop-in", "2.2.7", newK3s, {}],
  ["a template of ours", "2.1.9", middleK3s, {}],
  ["a template of ours for version 2", "1.7.24", oldK3s, {}],
  [
    "the administrator's template",
    "2.1.9",
    middleK3s,
    { [`${folderOf(middleK3s)}/config-v3.toml.tmpl`]: own },
  ],
  ["their template of version 2", "2.1.9", middleK3s, { [`${folderOf(middleK3s)}/config.toml.tmpl`]: own }],
] as const)("in %s", (_, version, release, files) => {
  test("a change is in effect after one restart of k3s", async () => {
    using it = new Setup(version, release, files);
    const before = it.node.tree();
    expect((await it.run(install("kata-qemu"))).result).toBe("changed");
    expect([it.engine.restarts, it.engine.served]).toEqual([1, ["crun", "kata-qemu", "nvidia", "runc"]]);
    expect((await it.run(install("kata-qemu"))).result).toBe("unchanged");
    await it.run(uninstall);
    expect([it.engine.restarts, it.engine.served]).toEqual([2, ["crun", "nvidia", "runc"]]);
    expect(it.node.tree()).toEqual(before);
  });

  test.each(["unit fails", "ignores it", "loses another"] as const)(
    "an install that the engine answers with '%s' undoes itself, and k3s renders what it did before",
    async (fault) => {
      using it = new Setup(version, release, files);
      await it.run(install("runsc"));
      const before = it.node.tree();
      it.engine.fault = (handlers) => (handlers.includes("kata-qemu") ? fault : "none");
      expect(await it.fails(install("kata-qemu"))).toBe("engine-failed");
      expect(it.node.tree()).toEqual(before);
      expect(it.engine.served).toEqual(["crun", "nvidia", "runc", "runsc"]);
    },
  );

  test("an uninstall that the engine does not take undoes itself", async () => {
    using it = new Setup(version, release, files);
    await it.run(install("kata-qemu"));
    const before = it.node.tree();
    it.engine.fault = (handlers) => (handlers.includes("kata-qemu") ? "none" : "unit fails");
    expect(await it.fails(uninstall)).toBe("engine-failed");
    expect(it.engine.served).toContain("kata-qemu");
    expect(it.node.tree()).toEqual(before);
  });

  test.each(["commit", "restart", "verify", "record"])(
    "a run that is killed at '%s' is ended by the next one",
    async (point) => {
      for (const intent of [install("kata-qemu"), uninstall]) {
        using it = new Setup(version, release, files);
        if (intent === uninstall) await it.run(install("kata-qemu"));
        const before = it.node.tree();
        const restarts = it.engine.restarts;
        await it.fails(intent, (name) => {
          // Nothing happens after that step, and no undoing.
          if (name === point || name === "recover") throw killed;
        });
        await recover(it.environment(), stateOf(it.node));
        await it.run(intent);
        const { engine, node } = it;
        expect(engine.served.includes("kata-qemu")).toBe(intent !== uninstall);
        expect(engine.restarts - restarts).toBeLessThanOrEqual(2);
        await it.run(intent === uninstall ? install("kata-qemu") : uninstall);
        expect(node.tree()).toEqual(before);
      }
    },
  );

  test("a line that another program adds at that moment is there afterwards, and stays when ours leaves", async () => {
    using it = new Setup(version, release, files);
    const paths = ["config-v3.toml.tmpl", "config.toml.tmpl"].map((name) => `${folderOf(release)}/${name}`);
    const path = paths.find((each) => Object.hasOwn(files, each));
    if (path === undefined) return;
    let written = false;
    await it.run(install("kata-qemu"), (name) => {
      if (name !== "commit" || written) return;
      written = true;
      it.node.place(path, `{{/* added */}}\n${it.node.text(path)}`);
    });
    expect(it.engine.served).toContain("kata-qemu");
    expect(it.node.text(path).startsWith(`{{/* added */}}\n${own}`)).toBe(true);
    await it.run(uninstall);
    expect(it.node.text(path)).toBe(`{{/* added */}}\n${own}`);
  });
});

test("a handler in a drop-in that k3s renders too by now stays, and leaves without the engine having to lose it", async () => {
  using it = new Setup("2.2.7", newK3s);
  it.node.remove("/usr/bin/crun");
  startK3s(it.node, newK3s);
  it.engine.start();
  const before = it.node.tree();
  await it.run(install("crun"));
  it.node.place("/usr/bin/crun", "#!/bin/sh\n", 0o755);
  startK3s(it.node, newK3s);
  it.engine.start();
  // It is no reason to refuse the owner anything else.
  const { result, handlers } = await it.run(install("kata-qemu"));
  expect([result, handlers.map(({ name }) => name)]).toEqual(["changed", ["crun", "kata-qemu"]]);
  expect((await it.run(uninstall)).result).toBe("changed");
  expect(it.engine.served).toEqual(["crun", "nvidia", "runc"]);
  it.node.remove("/usr/bin/crun");
  startK3s(it.node, newK3s);
  expect(it.node.tree()).toEqual(before);
});

test("a handler in a template that k3s renders too by now leaves it, and the engine that could not start does again", async () => {
  using it = new Setup("2.1.9", middleK3s);
  it.node.remove("/usr/bin/crun");
  startK3s(it.node, middleK3s);
  const template = `${folderOf(middleK3s)}/config-v3.toml.tmpl`;
  await it.run(install("kata-qemu"));
  // By an older release, or by hand: ours does not put it there.
  it.node.place(template, setTemplate(it.node.text(template), "dev", "crun"));
  it.node.place("/usr/bin/crun", "#!/bin/sh\n", 0o755);
  startK3s(it.node, middleK3s);
  await run(it.environment(), { ...installing(), owner: "dev", intent: uninstall });
  expect(it.engine.served).toEqual(["crun", "kata-qemu", "nvidia", "runc"]);
  expect(it.node.text(template)).not.toContain("crun");
});

function setTemplate(text: string, owner: string, name: string): string {
  const { toml, back } = readTemplate(text);
  const body = `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.${name}]\nruntime_type = "io.containerd.runc.v2"\n`;
  return back(setBlock(toml, { owner, body }));
}
