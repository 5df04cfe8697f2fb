import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { type Engine, engines } from "../../build/engines.ts";
import { Node } from "../support/node.ts";
import {
  corpus,
  corpusFile,
  defaultConfigPath,
  dump,
  jailProblem,
  normalise,
  placeMissingImports,
} from "./harness.ts";
import { type Expected, judge, type RealEngine } from "./judge.ts";

const lines = ["1.6", "1.7", "2.1", "2.2", "2.3"] as const;
type Line = (typeof lines)[number];

const tooNew: Expected = [3, /Cannot use a configuration of version/];
const noVersion: Expected = [3, /without 'version'/];
const notToml: Expected = [3, /TOML 1\.0/i];
const version2 = (expected: Expected): Record<Line, Expected> => ({
  "1.6": expected,
  "1.7": expected,
  "2.1": expected,
  "2.2": expected,
  "2.3": expected,
});
const version3 = (expected: Expected): Record<Line, Expected> => ({
  ...version2(expected),
  "1.6": tooNew,
  "1.7": tooNew,
});
const version4 = (expected: Expected): Record<Line, Expected> => ({
  ...version3(expected),
  "2.1": tooNew,
  "2.2": tooNew,
});
const closed: Expected = [3, /inline table/];

/** The one expected outcome of `install kata-qemu runsc crun` on each file and release. */
const table: Readonly<Record<string, Record<Line, Expected>>> = {
  "01-containerd-1.6.20-default-v2.toml": version2("installed"),
  "02-containerd-1.7.24-default-v2.toml": version2("installed"),
  "03-containerd-2.1.9-default-v3.toml": version3("installed"),
  "04-containerd-2.0.11-default-v3.toml": version3("installed"),
  "06-containerd-2.3.4-default-v4.toml": version4("installed"),
  "07-containerd-2.4.0-beta0-default-v4.toml": version4("installed"),
  "08-debian-packaged-v2.toml": version2("installed"),
  "09-docker-ce-packaged-v1-cri-disabled.toml": version2([3, /disables the CRI plugin/]),
  "10-kubeadm-1.7-sed-v2.toml": version2("installed"),
  "11-eks-al2023-nodeadm-ctrd1-v2.toml": version2("installed"),
  "12-eks-al2023-nodeadm-ctrd2-v3.toml": version3("installed"),
  "20-nvidia-dropin-v2.toml": version2("installed"),
  "21-nvidia-dropin-full-copy-v2.toml": version2("installed"),
  "22-nvidia-dropin-v3.toml": version3("installed"),
  "23-kind-v2.toml": version2("installed"),
  "24-minikube-kicbase-v2.toml": version2("installed"),
  "25-flatcar-v2.toml": version2("installed"),
  "26-talos-cri-containerd-v3.toml": version3("installed"),
  "28-microk8s-containerd-template-v2.toml": version2("installed"),
  "29-microk8s-1.19-containerd-template-v2.toml": version2("installed"),
  "31-bottlerocket-rendered-v2.toml": version2("installed"),
  "32-aks-ctrd2-nogpu-v2-with-v3-ids.toml": version2("installed"),
  "34-aks-ctrd2-kata-mixed-ids-v2.toml": version2("installed"),
  "35-aks-ctrd1-v2.toml": version2("installed"),
  "37-k3s-rendered-nvidia-v2.toml": version2("installed"),
  "38-k3s-rendered-imports-v3.toml": version3({ conflict: "crun", others: "installed" }),
  "39-rke2-rendered-noimports-v3.toml": version3("installed"),
  "43-k3s-dropin-kata-noversion.toml": version2(noVersion),
  "44-k0s-1.36-managed-v3.toml": version3("installed"),
  "45-k0s-1.35-managed-v2.toml": version2("installed"),
  "48-kata-deploy-dropin-v2.toml": version2(noVersion),
  "60-crlf-v2.toml": version2("installed"),
  "61-mixed-eol-v2.toml": version2("installed"),
  "62-bom-v2.toml": version2([3, /byte order mark/]),
  "63-no-final-newline-v2.toml": version2("installed"),
  "64-dotted-keys-v3.toml": version3("installed"),
  // On 1.x the handlers stand in a closed inline table: no splice can add one beside them.
  "65-inline-tables-v2.toml": {
    ...version2({ conflict: "runsc", others: "installed" }),
    "1.6": { conflict: "runsc", others: closed },
    "1.7": { conflict: "runsc", others: closed },
  },
  "67-array-of-tables-v3.toml": version3("installed"),
  "69-tabs-comments-unicode-v2.toml": version2("installed"),
  "70-strings-numbers-v3.toml": version3("installed"),
  "71-empty.toml": version2("installed"),
  "72-comment-only.toml": version2("installed"),
  "73-version-only-v3.toml": version3("installed"),
  "74-imports-only-v2.toml": version2("installed"),
  "75-quoted-header-parts-v2.toml": version2("installed"),
  "77-v1-legacy.toml": version2(noVersion),
  "78-server-plugins-v4.toml": version4("installed"),
  "79-nydus-proxy-plugin-v2.toml": version2({ conflict: "kata-qemu", others: "installed" }),
  "invalid/cr-only.toml": version2(notToml),
  "invalid/docker-plus-version.toml": version2([3, /disables the CRI plugin/]),
  "invalid/dup-key.toml": version2(notToml),
  "invalid/non-utf8.toml": version2([3, /UTF-8/]),
  "invalid/nul.toml": version2(notToml),
  "invalid/toml11-multiline-inline.toml": version2(notToml),
  "invalid/truncated.toml": version2(notToml),
  "invalid/version-string.toml": version2([3, /whole number/]),
  "invalid/wrong-type.toml": version2([3, /wrong type/]),
};

const wanted = ["kata-qemu", "runsc", "crun"];
const problem = jailProblem();
const ready = problem === undefined ? await engines() : [];
const missing =
  problem ?? (existsSync(corpus) ? undefined : "the shared corpus is not beside this repository");
if (missing !== undefined) console.log(`(skip) corpus × engines: ${missing}`);

describe.skipIf(missing !== undefined)(
  "install and uninstall on every file of the corpus, judged by every real engine",
  () => {
    test("the table names every file of the corpus", () => {
      const files = [
        ...readdirSync(corpus),
        ...readdirSync(`${corpus}/invalid`).map((name) => `invalid/${name}`),
      ];
      expect(files.filter((name) => name.endsWith(".toml")).sort()).toEqual(Object.keys(table).sort());
    });

    let dumps = 0;
    afterAll(() => console.log(`   ${dumps} dumps of real engines`));

    for (const engine of ready) {
      const line = lines.find((candidate) => engine.version.startsWith(`${candidate}.`));
      if (line === undefined) continue;
      for (const [file, outcomes] of Object.entries(table)) {
        test(`${engine.version} ${file}`, async () => {
          using node = new Node(engine.version, corpusFile(file));
          placeMissingImports(node.root, corpusFile(file));
          await judge(node, containerd(engine), outcomes[line], wanted, defaultConfigPath);
          dumps += 2;
        });
      }
    }
  },
);

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
