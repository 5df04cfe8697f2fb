import { afterAll, describe, expect, test } from "bun:test";
import { parse, stringify } from "smol-toml";
import { bringCrio } from "../../build/crio.ts";
import { type Engine, engines } from "../../build/engines.ts";
import { mergeTables } from "../../src/engine/tables.ts";
import type { Handler } from "../../src/handler/model.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { engineTextIn, type Kind } from "../support/rendered.ts";
import { crioConfig, startCrio } from "./crio-harness.ts";
import {
  at,
  daemonProblem,
  defaultConfigPath,
  dump,
  handlersOf,
  jailProblem,
  startDaemon,
} from "./harness.ts";
import { plain, saidByContainerd, saidByCrio } from "./said.ts";

/** The system's own tools put the engine's text to what they generate; the real engine says what comes of it. */

const noJail = jailProblem();
const noDaemon = daemonProblem();
const containerds = noJail === undefined ? await engines() : [];
const crios = noDaemon === undefined ? (await bringCrio()).engines : [];
if (noJail !== undefined) console.log(`(skip) rendered documents × engines: ${noJail}`);
else if (noDaemon !== undefined) console.log(`(skip) rendered documents in daemons: ${noDaemon}`);

let judged = 0;
afterAll(() => console.log(`   ${judged} rendered handlers compared with what real engines say of them`));

const presets = ["crun", "kata-qemu", "nvidia", "runsc"];
const isOld = ({ version }: Engine) => version.startsWith("1.");

interface System {
  readonly kind: Kind;
  /** Where the engine starts to read. */
  readonly rootFile: string;
  /** What the system makes of the text that it finds in the document. */
  readonly files: (text: string, engine: Engine) => Readonly<Record<string, string>>;
  /** What its handlers of runc's kind have. */
  readonly base: (engine: Engine) => {
    readonly base_runtime_spec?: string;
    readonly SystemdCgroup?: boolean;
  };
}

const runcOf = (engine: Engine) =>
  `plugins."${isOld(engine) ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime"}".containerd.runtimes.runc`;

/** Table by table, as Talos and nodeadm merge before containerd reads anything. */
function merged(base: string, more: string): string {
  const read = (text: string) => parse(text, { integersAsBigInt: true });
  return stringify(mergeTables(read(base), read(more)));
}

const systems: readonly System[] = [
  {
    kind: "talos",
    rootFile: "/etc/cri/containerd.toml",
    files(text, engine) {
      const version = isOld(engine) ? 2 : 3;
      const first = isOld(engine)
        ? "version = 2\n"
        : `version = 3\n[${runcOf(engine)}]\nbase_runtime_spec = "/etc/cri/conf.d/base-spec.json"\n`;
      return {
        "/etc/cri/containerd.toml": `version = ${version}\nimports = ["/etc/cri/conf.d/cri.toml"]\n[debug]\nlevel = "info"\n`,
        "/etc/cri/conf.d/cri.toml": merged(first, text),
        "/etc/cri/conf.d/base-spec.json": "{}",
      };
    },
    base: (engine) => (isOld(engine) ? {} : { base_runtime_spec: "/etc/cri/conf.d/base-spec.json" }),
  },
  {
    kind: "nodeadm",
    rootFile: defaultConfigPath,
    files: (text, engine) => ({
      [defaultConfigPath]: merged(
        `version = ${isOld(engine) ? 2 : 3}
root = "/var/lib/containerd"
[${runcOf(engine)}]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/base-runtime-spec.json"
[${runcOf(engine)}.options]
SystemdCgroup = true
`,
        text,
      ),
      "/etc/containerd/base-runtime-spec.json": "{}",
    }),
    base: () => ({ base_runtime_spec: "/etc/containerd/base-runtime-spec.json", SystemdCgroup: true }),
  },
  {
    kind: "flatcar",
    rootFile: defaultConfigPath,
    files: (text) => ({ [defaultConfigPath]: text }),
    base: () => ({ SystemdCgroup: true }),
  },
];

/** A preset's handler as it stands on such a node. */
function expected(name: string, { base }: System, engine: Engine): Handler {
  const wanted = handler(name);
  const { containerd } = wanted;
  if (containerd?.like_runc !== true) return wanted;
  const { SystemdCgroup, ...more } = base(engine);
  const options = { ...(SystemdCgroup === undefined ? {} : { SystemdCgroup }), ...containerd.options };
  return { ...wanted, ...more, containerd: { ...containerd, options } };
}

/** A preset's handler for CRI-O: what it says nothing of comes from the operator's [crio.runtime]. */
function monitored(name: string): Handler {
  const wanted = handler(name);
  const { crio } = wanted;
  return crio?.runtime_type === "oci" ? { ...wanted, crio: { ...crio, monitor_cgroup: "pod" } } : wanted;
}

async function rendered(node: Node, kind: Kind, names: readonly string[], version: string): Promise<string> {
  const engine = kind === "machineconfig" ? "crio" : "containerd";
  const { code, out, err } = await node.run(["render", "--for", kind, ...names], {
    SHIMCTL_ENGINE_VERSION: version,
    SHIMCTL_ENGINE: engine,
  });
  expect([code, err]).toEqual([0, ""]);
  return engineTextIn(kind, out);
}

describe.skipIf(noJail !== undefined)("the real containerd shows every rendered handler", () => {
  for (const system of systems) {
    for (const engine of containerds) {
      test(`${engine.version}, as ${system.kind} sets it up`, async () => {
        using node = new Node(engine.version);
        const text = await rendered(node, system.kind, presets, engine.version);
        for (const [path, content] of Object.entries(system.files(text, engine))) node.place(path, content);
        const { rc, stdout, stderr } = dump(engine, node.root, system.rootFile);
        expect([rc, stderr]).toEqual([0, expect.not.stringContaining("Ignoring unknown key")]);
        const found = handlersOf(stdout, engine.version);
        for (const name of presets)
          expect(plain(found[name])).toEqual(
            plain(saidByContainerd(expected(name, system, engine), engine.version)),
          );
        expect(Object.keys(found).sort()).toEqual([...presets, "runc"].sort());
        judged += presets.length;
      });
    }
  }
});

describe.skipIf(noDaemon !== undefined)("the real containerd serves pods with a rendered document", () => {
  const newest = containerds.at(-1);
  for (const system of newest === undefined ? [] : systems) {
    test(`${newest?.version}, as ${system.kind} sets it up`, async () => {
      if (newest === undefined) return;
      using node = new Node(newest.version);
      const text = await rendered(node, system.kind, presets, newest.version);
      for (const [path, content] of Object.entries(system.files(text, newest))) node.place(path, content);
      const daemon = await startDaemon(newest, node.root, system.rootFile);
      try {
        expect(daemon.criLoaded() || daemon.log().slice(-2000)).toBe(true);
      } finally {
        await daemon.stop();
      }
    });
  }
});

describe.skipIf(noDaemon !== undefined)("the real CRI-O shows every rendered handler", () => {
  const names = ["kata-qemu", "nvidia"];
  for (const engine of crios) {
    test(`${engine.version}, beside what the Machine Config Operator writes`, async () => {
      using node = new Node(engine.version);
      const crun = "/usr/libexec/crio/crun";
      node.place(crun, "#!/bin/sh\n", 0o755);
      node.place(
        "/etc/crio/crio.conf.d/00-default",
        `[crio.runtime]\nconmon = ""\nconmon_cgroup = "pod"\ndefault_runtime = "crun"\n[crio.runtime.runtimes.crun]\nruntime_path = "${crun}"\nruntime_root = "/run/crun"\n`,
      );
      node.place(
        "/etc/crio/crio.conf.d/50-runtime-handlers.conf",
        await rendered(node, "machineconfig", names, engine.version),
      );
      expect(crioConfig(engine, node.root).rc).toBe(0);
      const daemon = await startCrio(engine, node.root);
      try {
        expect(daemon.ignored()).toEqual([]);
        const config = daemon.config();
        for (const name of names)
          expect(plain(at(config, "crio", "runtime", "runtimes", name))).toEqual(saidByCrio(monitored(name)));
        expect(at(config, "crio", "runtime", "default_runtime")).toBe("crun");
        expect(await daemon.handlers()).toEqual(["crun", ...names]);
        judged += names.length;
      } finally {
        await daemon.stop();
      }
    });
  }
});
