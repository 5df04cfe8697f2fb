import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { engines } from "../../build/engines.ts";
import { microk8sConfig, microk8sNode, ownTemplate, startMicroK8s } from "../support/microk8s_sed.ts";
import { corpus, corpusFile, daemonProblem, dump, handlersOf, startDaemon } from "./harness.ts";

const problem = daemonProblem();
if (problem !== undefined) console.log(`(skip) MicroK8s with real engines: ${problem}`);
const all = problem === undefined ? await engines() : [];
const templates: Record<string, string | Uint8Array> = { "its own": ownTemplate };
if (existsSync(corpus))
  for (const name of [
    "28-microk8s-containerd-template-v2.toml",
    "29-microk8s-1.19-containerd-template-v2.toml",
  ])
    templates[name] = corpusFile(name);

describe.skipIf(problem !== undefined)("a real containerd takes what MicroK8s makes of the template", () => {
  for (const engine of all.filter(({ version }) => !version.startsWith("1.6."))) {
    for (const [name, template] of Object.entries(templates)) {
      test(`${engine.version}, ${name}: with what two owners install, and without it again`, async () => {
        using node = microk8sNode(engine.version, template);
        startMicroK8s(node.root);
        const before = node.tree();
        const had = Object.keys(handlersOf(dump(engine, node.root, microk8sConfig).stdout, engine.version));
        const prove = ["--prove-with", engine.containerd];
        expect((await node.run(["install", "kata-qemu", "--owner", "a", ...prove])).code).toBe(0);
        expect((await node.run(["install", "runsc", "crun", "--owner", "b", ...prove])).code).toBe(0);
        for (const runtime of ["nvidia-container-runtime", "runc"] as const) {
          startMicroK8s(node.root, runtime);
          const { rc, stdout } = dump(engine, node.root, microk8sConfig);
          expect([rc, Object.keys(handlersOf(stdout, engine.version)).sort()]).toEqual([
            0,
            [...had, "crun", "kata-qemu", "runsc"].sort(),
          ]);
        }
        if (template === ownTemplate) {
          const daemon = await startDaemon(engine, node.root, microk8sConfig);
          try {
            expect(daemon.criLoaded()).toBe(true);
          } finally {
            await daemon.stop();
          }
        }
        for (const owner of ["a", "b"])
          expect((await node.run(["uninstall", "--all", "--owner", owner])).code).toBe(0);
        startMicroK8s(node.root);
        expect(node.tree()).toEqual(before);
      }, 60_000);
    }
  }
});
