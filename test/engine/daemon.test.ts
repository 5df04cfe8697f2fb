import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { type Engine, engines } from "../../build/engines.ts";
import { Node } from "../support/node.ts";
import { corpus, corpusFile, daemonProblem, startDaemon } from "./harness.ts";

const problem = daemonProblem();
const ready = problem === undefined ? await engines() : [];
if (problem !== undefined) console.log(`(skip) real daemons: ${problem}`);

/** Files that the real daemon must start on with its CRI plugin, after an install. */
const files = [
  "08-debian-packaged-v2.toml",
  "10-kubeadm-1.7-sed-v2.toml",
  "12-eks-al2023-nodeadm-ctrd2-v3.toml",
  "34-aks-ctrd2-kata-mixed-ids-v2.toml",
  "38-k3s-rendered-imports-v3.toml",
];

const own: Readonly<Record<string, string | undefined>> = {
  "no file": undefined,
  "an empty file": "",
  "dotted keys":
    'version = 2\nplugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.runtime_type = "io.containerd.runc.v2"\n',
  "an inherited cgroup driver":
    'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nSystemdCgroup = true\n',
};

async function judge(node: Node, engine: Engine): Promise<void> {
  const daemon = await startDaemon(engine, node.root);
  try {
    expect(daemon.criLoaded() || daemon.log().slice(-2000)).toBe(true);
  } finally {
    await daemon.stop();
  }
}

/**
 * File 34 wants the erofs differ: 1.x has none, and 2.2 and later load theirs only beside a newer mkfs.erofs than
 * Debian 12 has. Without it no CRI plugin loads, with or without us, so there the differ is left out.
 */
function onThisMachine(file: string, engine: Engine): Uint8Array {
  const bytes = corpusFile(file);
  if (!file.startsWith("34") || engine.version.startsWith("2.1.")) return bytes;
  return new TextEncoder().encode(
    new TextDecoder().decode(bytes).replace('["erofs", "walking"]', '["walking"]'),
  );
}

async function handlersOn(node: Node): Promise<string[]> {
  const status = (await node.run(["status", "--json"])).json();
  return (status["handlers"] as { name: string }[]).map((handler) => handler.name);
}

describe.skipIf(problem !== undefined)("real daemons load their CRI plugin on what install leaves", () => {
  for (const engine of ready) {
    for (const [name, content] of Object.entries(own)) {
      test(`${engine.version} on ${name}`, async () => {
        using node = new Node(engine.version, content);
        expect((await node.run(["install", "kata-qemu", "runsc", "crun"])).code).toBe(0);
        await judge(node, engine);
        expect(await handlersOn(node)).toEqual(["crun", "kata-qemu", "runc", "runsc"]);
      });
    }
    for (const file of existsSync(corpus) ? files : []) {
      const version3 = file.endsWith("v3.toml");
      if (version3 && engine.version.startsWith("1.")) continue;
      test(`${engine.version} on ${file}`, async () => {
        using node = new Node(engine.version, onThisMachine(file, engine));
        node.place("/etc/containerd/base-runtime-spec.json", "{}");
        const names = file.startsWith("38") ? ["kata-qemu", "runsc"] : ["kata-qemu", "runsc", "crun"];
        expect((await node.run(["install", ...names])).code).toBe(0);
        await judge(node, engine);
        expect(await handlersOn(node)).toContain("runc");
      });
    }
  }
});

/** Every order in which three owners can install and later uninstall: 6! / 2^3 = 90. */
function orders(): string[][] {
  const found: string[][] = [];
  const extend = (steps: string[]) => {
    if (steps.length === 6) found.push(steps);
    for (const owner of ["a", "b", "c"]) {
      const install = `install ${owner}`;
      const uninstall = `uninstall ${owner}`;
      if (!steps.includes(install)) extend([...steps, install]);
      else if (!steps.includes(uninstall)) extend([...steps, uninstall]);
    }
  };
  extend([]);
  return found;
}

const handlerOf: Readonly<Record<string, string>> = { a: "kata-qemu", b: "runsc", c: "crun" };

describe.skipIf(problem !== undefined)("three owners in every order on 1.x", () => {
  for (const engine of ready.filter((candidate) => candidate.version.startsWith("1."))) {
    const cases = existsSync(corpus)
      ? ["08-debian-packaged-v2.toml", "71-empty.toml", "74-imports-only-v2.toml"]
      : [];
    for (const file of cases) {
      test(`${engine.version} loads CRI after each step of 90 orders on ${file}, with the first bytes at the end`, async () => {
        // The same bytes need not be judged twice: what a daemon does depends on nothing else here.
        const judged = new Set<string>();
        expect(orders()).toHaveLength(90);
        for (const steps of orders()) {
          using node = new Node(engine.version, corpusFile(file));
          const before = node.tree();
          for (const step of steps) {
            const [command = "", owner = ""] = step.split(" ");
            expect((await node.run([command, handlerOf[owner] ?? "", "--owner", owner])).code).toBe(0);
            const hash = createHash("sha256").update(node.text()).digest("hex");
            if (judged.has(hash)) continue;
            await judge(node, engine);
            judged.add(hash);
          }
          expect(node.tree()).toEqual(before);
        }
        console.log(`   ${judged.size} different results judged by ${engine.version}`);
      });
    }
  }
});
