import { afterAll, describe, expect, test } from "bun:test";
import { type Engine, engines } from "../../build/engines.ts";
import type { Handler } from "../../src/handler/model.ts";
import type { Node } from "../support/node.ts";
import { documentedFor, nodeFor } from "./documented_node.ts";
import { at, daemonProblem, dump, handlersOf, jailProblem, normalise, startDaemon } from "./harness.ts";
import { plain, saidByContainerd } from "./said.ts";

const noJail = jailProblem();
const noDaemon = daemonProblem();
const ready = noJail === undefined ? await engines() : [];
if (noJail !== undefined) console.log(`(skip) presets × containerd: ${noJail}`);
else if (noDaemon !== undefined) console.log(`(skip) presets in daemons of containerd: ${noDaemon}`);

let judged = 0;
afterAll(() => console.log(`   ${judged} handlers compared with what real containerds say of them`));

const presets = documentedFor("containerd");
const named = (...names: string[]) => presets.filter(({ name }) => names.includes(name));
const isOld = ({ version }: Engine) => version.startsWith("1.6.");
/** 1.6 has one snapshotter for all handlers, so it is refused what wants one of its own. */
const acceptedBy = (engine: Engine) =>
  isOld(engine) ? presets.filter(({ snapshotter }) => snapshotter === undefined) : presets;

/** Shims that kata-deploy's chart gives the snapshotter that it brings along. */
const guests = named("kata-qemu-snp", "kata-qemu-tdx-runtime-rs", "kata-qemu-coco-dev", "kata-remote");
const nydus = "nydus-for-kata-tee";
const proxy = `[proxy_plugins.${nydus}]\ntype = "snapshot"\naddress = "/run/${nydus}/nydus.sock"\n`;

/** A node's root file before anything of ours. */
interface Root {
  readonly schema: number;
  readonly systemdCgroup?: boolean | undefined;
  readonly text: string;
}

function rootWith(schema: number, systemdCgroup: boolean | undefined, more = ""): Root {
  const plugin = schema === 2 ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
  const runc = `plugins."${plugin}".containerd.runtimes.runc`;
  const options = systemdCgroup === undefined ? "" : `[${runc}.options]\nSystemdCgroup = ${systemdCgroup}\n`;
  const text = `version = ${schema}\n[${runc}]\nruntime_type = "io.containerd.runc.v2"\n${options}${more}`;
  return { schema, systemdCgroup, text };
}

function schemasOf({ version }: Engine): number[] {
  if (version.startsWith("1.")) return [2];
  return version.startsWith("2.3.") ? [2, 3, 4] : [2, 3];
}

function newestRoot(engine: Engine, more = ""): Root {
  return rootWith(schemasOf(engine).at(-1) ?? 2, true, more);
}

function rootsOf(engine: Engine): (readonly [name: string, root: Root])[] {
  const drivers = { "set to true": true, "set to false": false, "not set": undefined };
  return [
    ["an empty file", { schema: schemasOf(engine).at(-1) ?? 2, text: "" }],
    ...schemasOf(engine).flatMap((schema) =>
      Object.entries(drivers).map(
        ([how, driver]) =>
          [
            `a version ${schema} file where SystemdCgroup of runc is ${how}`,
            rootWith(schema, driver),
          ] as const,
      ),
    ),
  ];
}

/** Runc-like handlers have runc's cgroup driver: where runc says nothing, neither do they. */
function onNode(handler: Handler, { systemdCgroup }: Root): Handler {
  const { containerd } = handler;
  if (containerd?.like_runc !== true || systemdCgroup === undefined) return handler;
  const options = { ...containerd.options, SystemdCgroup: systemdCgroup };
  return { ...handler, containerd: { ...containerd, options } };
}

/** What the engine says of all handlers, of the default one, and of snapshotters for images. */
function saidBy(engine: Engine, node: Node) {
  const { rc, stdout } = dump(engine, node.root);
  expect(rc).toBe(0);
  const dumped = normalise(stdout);
  const id = engine.version.startsWith("1.") ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
  const { runc, ...others } = handlersOf(stdout, engine.version);
  return {
    runc: plain(runc),
    others: plain(others),
    defaultHandler: at(dumped, "plugins", id, "containerd", "default_runtime_name"),
    platforms: plain(at(dumped, "plugins", "io.containerd.cri.v1.images", "runtime_platforms") ?? {}),
  };
}

/** Installs these, and compares what the engine says of them with their definition. */
async function judge(
  node: Node,
  engine: Engine,
  root: Root,
  handlers: readonly Handler[],
  ...options: string[]
): Promise<void> {
  const before = saidBy(engine, node);
  const ran = await node.run(["install", ...handlers.map(({ name }) => name), "--json", ...options]);
  expect([ran.code, ran.json()["error"]]).toEqual([0, null]);
  const own = <T>(say: (handler: Handler) => T[]) =>
    Object.fromEntries(handlers.flatMap((handler) => say(handler).map((said) => [handler.name, said])));
  // A version 2 file has no place for it.
  const told = engine.version.startsWith("2.") && root.schema > 2;
  expect(saidBy(engine, node)).toEqual({
    ...before,
    others: own((handler) => [saidByContainerd(onNode(handler, root), engine.version)]),
    platforms: own(({ snapshotter }) =>
      told && snapshotter !== undefined ? [{ platform: "", snapshotter }] : [],
    ),
  });
  expect(before.defaultHandler).toBe("runc");
  judged += handlers.length;
}

function nodeOn(engine: Engine, root: Root, handlers: readonly Handler[]): Node {
  return nodeFor("containerd", engine.version, handlers, { "/etc/containerd/config.toml": root.text });
}

describe.skipIf(noJail !== undefined)("presets are to the real containerd what is documented", () => {
  for (const engine of ready) {
    for (const [name, root] of rootsOf(engine)) {
      test(`${engine.version}, all of them at once, on ${name}`, async () => {
        using node = nodeOn(engine, root, acceptedBy(engine));
        await judge(node, engine, root, acceptedBy(engine));
      });
    }

    for (const handler of acceptedBy(engine)) {
      test(`${engine.version}, ${handler.name} alone`, async () => {
        const root = newestRoot(engine);
        using node = nodeOn(engine, root, [handler]);
        await judge(node, engine, root, [handler]);
      });
    }

    if (!isOld(engine)) {
      test(`${engine.version}, with a snapshotter that the node has by proxy`, async () => {
        const root = newestRoot(engine, proxy);
        using node = nodeOn(engine, root, guests);
        const wanted = guests.map((handler) => ({ ...handler, snapshotter: nydus }));
        await judge(node, engine, root, wanted, "--snapshotter", nydus);
      });
    }

    test(`${engine.version}, not with a snapshotter that it does not have`, async () => {
      using node = nodeOn(engine, newestRoot(engine), guests);
      const before = node.tree();
      const ran = await node.run(["install", "kata-qemu-snp", "--snapshotter", nydus]);
      expect([ran.code, ran.err.includes(nydus), node.tree()]).toEqual([3, true, before]);
    });

    for (const handler of presets.filter((preset) => !acceptedBy(engine).includes(preset))) {
      test(`${engine.version}, ${handler.name} only where all handlers have its snapshotter`, async () => {
        const bare = newestRoot(engine);
        using refused = nodeOn(engine, bare, [handler]);
        const before = refused.tree();
        const ran = await refused.run(["install", handler.name]);
        expect([ran.code, refused.tree()]).toEqual([3, before]);
        const cri = '[plugins."io.containerd.grpc.v1.cri".containerd]\n';
        const root = newestRoot(engine, `${cri}snapshotter = "${handler.snapshotter}"\n`);
        using node = nodeOn(engine, root, [handler]);
        await judge(node, engine, root, [handler]);
      });
    }
  }
});

describe.skipIf(noDaemon !== undefined)("the real containerd loads its CRI plugin with all presets", () => {
  for (const engine of ready) {
    test(engine.version, async () => {
      const root = newestRoot(engine, proxy);
      using node = nodeOn(engine, root, acceptedBy(engine));
      await judge(node, engine, root, acceptedBy(engine));
      if (!isOld(engine)) {
        const names = guests.map(({ name }) => name);
        expect((await node.run(["install", ...names, "--snapshotter", nydus])).code).toBe(0);
      }
      const daemon = await startDaemon(engine, node.root);
      try {
        expect(daemon.criLoaded() || daemon.log().slice(-2000)).toBe(true);
      } finally {
        await daemon.stop();
      }
    });
  }
});
