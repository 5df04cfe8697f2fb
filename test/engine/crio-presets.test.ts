import { afterAll, describe, expect, test } from "bun:test";
import { bringCrio, type CrioEngine } from "../../build/crio.ts";
import type { CrioPart, Handler } from "../../src/handler/model.ts";
import { documented } from "../support/documented.ts";
import type { Node } from "../support/node.ts";
import { crioConfig, startCrio } from "./crio-harness.ts";
import { documentedFor, nodeFor } from "./documented_node.ts";
import { at, daemonProblem, jailProblem } from "./harness.ts";
import { plain, saidByCrio } from "./said.ts";

const problem = jailProblem() ?? daemonProblem();
const ready = problem === undefined ? (await bringCrio()).engines : [];
if (problem !== undefined) console.log(`(skip) presets × CRI-O: ${problem}`);

let judged = 0;
afterAll(() => console.log(`   ${judged} handlers compared with what the real CRI-O says of them`));

/** CRI-O before 1.37 ignores gVisor's shim for its name: crio-corpus.test.ts. */
const presets = documentedFor("crio").filter(({ name }) => name !== "runsc");

/** A node's own configuration, with what a runc-like handler takes over of it. */
interface Base {
  readonly defaultHandler: string;
  readonly files: Readonly<Record<string, string>>;
  readonly monitor: Partial<CrioPart>;
}

const own = "/etc/crio/crio.conf.d/10-crio.conf";
const runc =
  '[crio.runtime]\ndefault_runtime = "runc"\n[crio.runtime.runtimes.runc]\nruntime_path = "/usr/libexec/crio/runc"\n';
const packaged: Base = {
  defaultHandler: "runc",
  files: {
    [own]: `${runc}monitor_path = "/usr/libexec/crio/conmon"\nmonitor_cgroup = "pod"\nmonitor_env = ["PATH=/usr/bin"]\n`,
  },
  monitor: {
    monitor_path: "/usr/libexec/crio/conmon",
    monitor_cgroup: "pod",
    monitor_env: ["PATH=/usr/bin"],
  },
};
const bases: Readonly<Record<string, Base>> = {
  "the built-in default": { defaultHandler: "crun", files: {}, monitor: {} },
  "a packaged runc with its conmon": packaged,
  "a runc behind conmon-rs": {
    defaultHandler: "runc",
    files: {
      [own]: `${runc}runtime_type = "pod"\nmonitor_path = "/opt/conmonrs"\n`,
      "/opt/conmonrs": `#!/bin/sh\necho '{"version": "0.8.0", "tag": "v0.8.0"}'\n`,
    },
    monitor: { runtime_type: "pod", monitor_path: "/opt/conmonrs" },
  },
};

function onNode(handler: Handler, { monitor }: Base): Handler {
  const { crio } = handler;
  return crio?.like_default === true ? { ...handler, crio: { ...crio, ...monitor } } : handler;
}

/** What the daemon says of its handlers and of the default one. */
async function saidBy(engine: CrioEngine, node: Node) {
  expect(crioConfig(engine, node.root).rc).toBe(0);
  const daemon = await startCrio(engine, node.root);
  try {
    expect(daemon.ignored()).toEqual([]);
    const config = daemon.config();
    return {
      handlers: plain(at(config, "crio", "runtime", "runtimes")) as Record<string, unknown>,
      defaultHandler: at(config, "crio", "runtime", "default_runtime"),
    };
  } finally {
    await daemon.stop();
  }
}

async function judge(engine: CrioEngine, base: Base, handlers: readonly Handler[]): Promise<void> {
  using node = nodeFor("crio", engine.version, handlers, base.files);
  const before = await saidBy(engine, node);
  const ran = await node.run(["install", ...handlers.map(({ name }) => name), "--json"], env);
  expect([ran.code, ran.json()["error"]]).toEqual([0, null]);
  expect(await saidBy(engine, node)).toEqual({
    ...before,
    handlers: {
      ...before.handlers,
      ...Object.fromEntries(handlers.map((handler) => [handler.name, saidByCrio(onNode(handler, base))])),
    },
  });
  expect(before.defaultHandler).toBe(base.defaultHandler);
  judged += handlers.length;
}

const env = { SHIMCTL_ENGINE: "crio" };

describe.skipIf(problem !== undefined)("presets are to the real CRI-O what is documented", () => {
  for (const engine of ready) {
    for (const [name, base] of Object.entries(bases)) {
      test(`${engine.version}, all of them at once, beside ${name}`, async () => {
        await judge(engine, base, presets);
      });
    }

    for (const handler of presets) {
      test(`${engine.version}, ${handler.name} alone`, async () => {
        await judge(engine, packaged, [handler]);
      });
    }

    for (const [name, { crio }] of Object.entries(documented)) {
      if (crio !== undefined) continue;
      test(`${engine.version}, not ${name}, which nobody documents for it`, async () => {
        using node = nodeFor("containerd", engine.version, documentedFor("containerd"), {});
        const before = node.tree();
        const ran = await node.run(["install", name], env);
        expect([ran.code, ran.err.includes("not defined for CRI-O"), node.tree()]).toEqual([2, true, before]);
      });
    }
  }
});
