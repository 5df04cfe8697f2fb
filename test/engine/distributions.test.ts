import { describe, expect, test } from "bun:test";
import { bringCrio } from "../../build/crio.ts";
import { type Engine, engines } from "../../build/engines.ts";
import { layouts } from "../../src/layout/registry.ts";
import { type Distribution, distributions, nodeOf } from "../support/distributions.ts";
import { crioConfig, normalise as normaliseCrio, startCrio } from "./crio-harness.ts";
import { daemonProblem, dump, jailProblem, normalise, startDaemon } from "./harness.ts";
import { judge, type RealEngine } from "./judge.ts";

/** Every node that may be changed, with the very release that it brings. */

const noJail = jailProblem();
const noDaemon = daemonProblem();
const containerds = noJail === undefined ? await engines() : [];
const crios = noJail === undefined ? (await bringCrio()).engines : [];
if (noJail !== undefined) console.log(`(skip) distributions × engines: ${noJail}`);
else if (noDaemon !== undefined) console.log(`(skip) distributions × daemons: ${noDaemon}`);

const engineOf = ({ layout }: Distribution) => layouts.find(({ name }) => name === layout)?.engine;
/** Those that something renders anew have tests of their own, with what renders them. */
const isPlain = ({ rootFile, refused }: Distribution) => rootFile === undefined && refused === undefined;
const plain = distributions.filter(isPlain);

function containerd(engine: Engine): RealEngine {
  const old = engine.version.startsWith("1.");
  const plugin = old ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
  return {
    binary: engine.containerd,
    dump: (root) => dump(engine, root),
    normalise,
    runtimes: ["plugins", plugin, "containerd", "runtimes"],
    builtin: old ? ["runc"] : [],
  };
}

function only<Found extends { readonly version: string }>(found: readonly Found[], version: string): Found {
  const engine = found.find((each) => each.version === version);
  if (engine === undefined) throw new Error(`there is no engine ${version} here`);
  return engine;
}

describe.skipIf(noJail !== undefined)(
  "install and uninstall, judged by the distribution's own engine",
  () => {
    for (const distribution of plain.filter((each) => engineOf(each) === "containerd")) {
      const { name, version } = distribution;
      test(`${name}: containerd ${version}`, async () => {
        using node = nodeOf(distribution);
        const engine = only(containerds, version);
        await judge(node, containerd(engine), "installed", ["kata-qemu", "runsc", "crun"], "");
      });

      test.skipIf(noDaemon !== undefined)(
        `${name}: containerd ${version} starts and serves CRI`,
        async () => {
          using node = nodeOf(distribution);
          expect((await node.run(["install", "kata-qemu", "runsc"])).code).toBe(0);
          const daemon = await startDaemon(only(containerds, version), node.root);
          try {
            expect(daemon.criLoaded() || daemon.log().slice(-2000)).toBe(true);
          } finally {
            await daemon.stop();
          }
        },
      );
    }

    for (const distribution of plain.filter((each) => engineOf(each) === "crio")) {
      const { name, version } = distribution;
      test(`${name}: CRI-O ${version}`, async () => {
        using node = nodeOf(distribution);
        const engine = only(crios, version);
        const real: RealEngine = {
          binary: engine.crio,
          dump: (root) => crioConfig(engine, root),
          normalise: normaliseCrio,
          runtimes: ["crio", "runtime", "runtimes"],
          builtin: ["crun"],
        };
        await judge(node, real, "installed", ["kata-qemu", "nvidia"], "");
      });

      test.skipIf(noDaemon !== undefined)(
        `${name}: CRI-O ${version} starts and lists the handlers`,
        async () => {
          using node = nodeOf(distribution);
          expect((await node.run(["install", "kata-qemu", "nvidia"])).code).toBe(0);
          const daemon = await startCrio(only(crios, version), node.root);
          try {
            expect(daemon.ignored()).toEqual([]);
            expect(await daemon.handlers()).toEqual(expect.arrayContaining(["kata-qemu", "nvidia"]));
          } finally {
            await daemon.stop();
          }
        },
      );
    }

    test("for every layout in which a plain file is changed", () => {
      const changed = new Set(plain.map(({ layout }) => layout));
      for (const name of [
        "vanilla",
        "docker",
        "kind",
        "minikube",
        "minikube-crio",
        "eks",
        "gke",
        "aks",
        "flatcar",
      ])
        expect(changed).toContain(name);
      expect(changed).toContain("openshift");
    });
  },
);
