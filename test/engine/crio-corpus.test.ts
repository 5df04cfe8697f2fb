import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { bringCrio, type CrioEngine } from "../../build/crio.ts";
import { Node } from "../support/node.ts";
import { crioConfig, normalise, startCrio } from "./crio-harness.ts";
import { corpus, daemonProblem, jailProblem } from "./harness.ts";
import { type Expected, judge, type RealEngine } from "./judge.ts";

const problem =
  jailProblem() ??
  (existsSync(`${corpus}/crio`) ? undefined : "the shared corpus is not beside this repository");
const ready = problem === undefined ? (await bringCrio()).engines : [];
if (problem !== undefined) console.log(`(skip) CRI-O's corpus: ${problem}`);
const noDaemon = daemonProblem();

const files = problem === undefined ? readdirSync(`${corpus}/crio`).sort() : [];
/** Each file by itself, each pair, and all of them together. */
const sets: readonly (readonly string[])[] = [
  [],
  ...files.map((file) => [file]),
  ...files.flatMap((one, index) => files.slice(index + 1).map((other) => [one, other])),
  files,
];

const wanted = ["kata-qemu", "crun", "runsc"];
/** What the corpus files define themselves: a conflict for that handler only. */
const theirs: Readonly<Record<string, readonly string[]>> = {
  "10-crio-package.conf": ["crun"],
  "99-kata-deploy": ["kata-qemu"],
  "99-runsc.conf": ["runsc"],
  "crio-config-default-1.28.11.conf": [],
  "minikube-02-crio.conf": [],
};

function nodeWith(names: readonly string[], version = ""): Node {
  const node = new Node(version);
  node.place("/usr/local/bin/containerd-shim-runsc-v1", "#!/bin/sh\n", 0o755);
  node.place("/etc/containerd/runsc.toml", "");
  node.place("/etc/crio/crio.conf.d/.keep", "");
  for (const name of names) {
    const isRoot = name.startsWith("crio-config-default");
    node.place(
      isRoot ? "/etc/crio/crio.conf" : `/etc/crio/crio.conf.d/${name}`,
      new Uint8Array(readFileSync(`${corpus}/crio/${name}`)),
    );
  }
  return node;
}

describe.skipIf(problem !== undefined)(
  "install and uninstall beside every file of CRI-O's corpus and every pair, judged by the real CRI-O",
  () => {
    for (const engine of ready) {
      for (const names of sets) {
        test(`${engine.version} with ${names.join(" and ") || "no file"}`, async () => {
          using node = nodeWith(names);
          await judge(node, crio(engine), expectedBeside(names), wanted, "/etc/crio/crio.conf");
        });
      }
    }
  },
);

function crio(engine: CrioEngine): RealEngine {
  return {
    binary: engine.crio,
    dump: (root) => crioConfig(engine, root),
    normalise,
    runtimes: ["crio", "runtime", "runtimes"],
    builtin: ["crun"],
  };
}

/** One conflict after the other, in the order in which the handlers are looked at. */
function expectedBeside(names: readonly string[]): Expected {
  const taken = names.flatMap((name) => theirs[name] ?? []).sort();
  return taken.reduceRight<Expected>((others, conflict) => ({ conflict, others }), "installed");
}

describe.skipIf(problem !== undefined || noDaemon !== undefined)("the real CRI-O daemon", () => {
  for (const engine of ready) {
    test(`${engine.version} lists what was installed and ignores none of it`, async () => {
      using node = nodeWith(["10-crio-package.conf"], engine.version);
      expect((await node.run(["install", "kata-qemu", "nvidia"])).code).toBe(0);
      const daemon = await startCrio(engine, node.root);
      try {
        expect(daemon.ignored()).toEqual([]);
        expect((await daemon.handlers()).sort()).toEqual(["crun", "kata-qemu", "nvidia", "runc"]);
      } finally {
        await daemon.stop();
      }
    });

    test(`${engine.version} would ignore gVisor's shim for its name, so that is refused before`, async () => {
      using node = nodeWith(["10-crio-package.conf"], engine.version);
      const ran = await node.run(["install", "runsc"]);
      expect([ran.code, ran.err.includes("containerd-shim-NAME-v2")]).toEqual([3, true]);
    });
  }
});
