import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { nvidiaCtk } from "../../bench/nvidia.ts";
import { bringCrio } from "../../build/crio.ts";
import { type Engine, engines } from "../../build/engines.ts";
import { allPresets } from "../../src/handler/presets/registry.ts";
import { crioCase } from "../support/engine_case.ts";
import { kataHandler, kataHandlerCrio } from "../support/leftovers.ts";
import { Node } from "../support/node.ts";
import { crioConfig, normalise as normaliseCrio } from "./crio-harness.ts";
import {
  corpus,
  corpusFile,
  dump,
  handlersOf,
  jailProblem,
  normalise,
  placeMissingImports,
} from "./harness.ts";

const noJail = jailProblem();
const ready = noJail === undefined ? await engines() : [];
const crios = noJail === undefined ? (await bringCrio()).engines : [];
const peer = await nvidiaCtk();
if (noJail !== undefined) console.log(`(skip) adopting before real engines: ${noJail}`);
if (peer === undefined) console.log("(skip) adopting what nvidia-ctk writes: it cannot be built here");

const root = "/etc/containerd/config.toml";
const isOld = ({ version }: Engine) => version.startsWith("1.");
const schemaOf = (engine: Engine) => (isOld(engine) ? 2 : 3);
const pluginOf = (engine: Engine) =>
  isOld(engine) ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";

/** The administrator's file: comments, a secret, runc with its cgroup driver. */
function rootOf(engine: Engine, imports = ""): string {
  return `# the platform team's
version = ${schemaOf(engine)}
${imports}
[plugins."${pluginOf(engine)}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."${pluginOf(engine)}".containerd.runtimes.runc.options]
    SystemdCgroup = true
`;
}

/** Without keys that say what the engine does anyway, which nvidia-ctk writes and we do not. */
function meaning(engine: Engine, node: Node): unknown {
  const { rc, stdout, stderr } = dump(engine, node.root);
  expect([rc, rc === 0 ? "" : stderr]).toEqual([0, ""]);
  return JSON.parse(
    JSON.stringify(normalise(stdout), (_, value: unknown) => {
      if (typeof value === "bigint") return value === 0n ? undefined : Number(value);
      const isNothing = value === "" || value === false || (Array.isArray(value) && value.length === 0);
      return isNothing ? undefined : value;
    }),
  );
}

/** Adopts, and asks the engine: it runs with what it ran with before. Then removes it, and asks again. */
async function adoptAndRemove(
  engine: Engine,
  node: Node,
  names: readonly string[],
  how: string,
): Promise<void> {
  const before = meaning(engine, node);
  const refused = await node.run(["install", ...names]);
  expect(refused.code).toBe(5);
  const ran = await node.run(["install", ...names, how, "--json", "--prove-with", engine.containerd]);
  expect([ran.code, ran.json()["error"]]).toEqual([0, null]);
  expect(ran.json()["adopted"]).not.toEqual([]);
  if (how === "--adopt") expect(meaning(engine, node)).toEqual(before);
  expect((await node.run(["status", "--json"])).json()["result"]).toBe("in sync");
  expect((await node.run(["uninstall", "--all"])).code).toBe(0);
  const left = handlersOf(dump(engine, node.root).stdout, engine.version);
  expect(Object.keys(left).filter((name) => names.includes(name))).toEqual([]);
  expect(Object.keys(left)).toContain("runc");
}

for (const engine of ready) {
  describe.skipIf(noJail !== undefined)(`containerd ${engine.version}`, () => {
    test.skipIf(peer === undefined)(
      "nvidia-ctk's own output is adopted, and the engine sees no difference",
      async () => {
        using node = new Node(engine.version, rootOf(engine));
        byNvidia(node);
        const status = (await node.run(["status", "--json"])).json();
        expect(status["leftBy"]).toMatchObject([
          {
            tool: "nvidia-ctk",
            mode: "drop-in",
            path: "/etc/containerd/conf.d/99-nvidia.toml",
            handlers: ["nvidia"],
          },
        ]);
        await adoptAndRemove(engine, node, ["nvidia"], "--adopt");
      },
    );

    test.skipIf(peer === undefined)(
      "what nvidia-ctk has written anew without our markers is ours still, and goes with uninstall",
      async () => {
        using node = new Node(engine.version, rootOf(engine));
        expect((await node.run(["install", "kata-qemu", "runsc"])).code).toBe(0);
        byNvidia(node);
        for (const command of ["install", "uninstall"]) {
          const ran = await node.run([command, "kata-qemu", "--json", "--prove-with", engine.containerd]);
          expect([ran.code, ran.json()["error"]]).toEqual([0, null]);
        }
        const left = handlersOf(dump(engine, node.root).stdout, engine.version);
        expect(Object.keys(left).sort()).toEqual(["nvidia", "runc", "runsc"]);
        byNvidia(node);
        expect((await node.run(["uninstall", "--all"])).code).toBe(0);
        const last = handlersOf(dump(engine, node.root).stdout, engine.version);
        expect(Object.keys(last).sort()).toEqual(["nvidia", "runc"]);
        expect(node.text(root)).not.toMatch(/shimctl|kata|runsc/);
      },
    );

    test.skipIf(peer === undefined)(
      "nvidia-ctk's next run after that is drift, and the next install mends it",
      async () => {
        using node = new Node(engine.version, rootOf(engine));
        byNvidia(node);
        expect((await node.run(["install", "nvidia", "--adopt"])).code).toBe(0);
        byNvidia(node);
        const { result, drift } = (await node.run(["status", "--json"])).json();
        expect([result, JSON.stringify(drift)]).toEqual(["drifted", expect.stringContaining("nvidia")]);
        const ran = await node.run(["install", "nvidia", "--json", "--prove-with", engine.containerd]);
        expect([ran.code, ran.json()["error"]]).toEqual([0, null]);
        expect((await node.run(["status", "--json"])).json()["result"]).toBe("in sync");
        expect(ran.json()["handlers"]).toMatchObject([{ name: "nvidia" }]);
        meaning(engine, node);
      },
    );

    test("what kata-deploy wrote into the administrator's file is adopted", async () => {
      const own = kataHandler(schemaOf(engine), "qemu") + kataHandler(schemaOf(engine), "clh");
      using node = new Node(engine.version, `${rootOf(engine)}\n${own}`);
      await adoptAndRemove(engine, node, ["kata-qemu", "kata-clh"], "--adopt");
      expect(node.text()).toBe(rootOf(engine));
    });

    test.skipIf(isOld(engine))("kata-deploy's drop-in, reached by its import, is adopted", async () => {
      const dropIn = "/opt/kata/containerd/config.d/kata-deploy.toml";
      using node = new Node(engine.version, rootOf(engine, `imports = ["${dropIn}"]`));
      // As the tool writes it: without a version of its own.
      node.place(dropIn, kataHandler(3, "qemu") + kataHandler(3, "clh"));
      await adoptAndRemove(engine, node, ["kata-qemu", "kata-clh"], "--adopt");
      expect([node.text(), node.text(dropIn)]).toEqual([rootOf(engine, `imports = ["${dropIn}"]`), ""]);
    });

    test.skipIf(isOld(engine))("kata-deploy's drop-in in conf.d is adopted", async () => {
      const imports = 'imports = ["/etc/containerd/conf.d/*.toml"]';
      using node = new Node(engine.version, rootOf(engine, imports));
      node.place("/etc/containerd/conf.d/kata-deploy-dev.toml", kataHandler(3, "qemu"));
      await adoptAndRemove(engine, node, ["kata-qemu"], "--adopt");
      expect(node.text()).toBe(rootOf(engine, imports));
    });

    test.skipIf(!existsSync(corpus))(
      "kata-deploy's older output of the corpus is taken over by --adopt=replace",
      async () => {
        const dropIn = "/opt/kata/containerd/config.d/kata-deploy.toml";
        const text = rootOf(engine, isOld(engine) ? "" : `imports = ["${dropIn}"]`);
        const own = new TextDecoder().decode(corpusFile("48-kata-deploy-dropin-v2.toml"));
        using node = new Node(engine.version, isOld(engine) ? `${text}\n${own}` : text);
        if (!isOld(engine)) node.place(dropIn, own.replaceAll("io.containerd.grpc.v1.cri", pluginOf(engine)));
        expect((await node.run(["install", "kata-qemu", "--adopt"])).code).toBe(5);
        await adoptAndRemove(engine, node, ["kata-qemu", "kata-clh"], "--adopt=replace");
      },
    );
  });
}

describe.skipIf(noJail !== undefined || !existsSync(corpus))(
  "the handlers in the files of the corpus",
  () => {
    for (const engine of ready) {
      test(`are taken over on containerd ${engine.version}, or the file is left as it was`, async () => {
        let adopted = 0;
        for (const file of readdirSync(corpus).filter((name) => name.endsWith(".toml"))) {
          const bytes = corpusFile(file);
          using node = new Node(engine.version, bytes);
          placeMissingImports(node.root, bytes);
          const status = await node.run(["status", "--json"]);
          const handlers = (status.json()["handlers"] ?? []) as { name: string; path?: string }[];
          const known = new Set(allPresets().map(({ name }) => name));
          const theirs = handlers.flatMap(({ name, path }) =>
            path !== undefined && known.has(name) ? [name] : [],
          );
          if (theirs.length === 0) continue;
          const before = dump(engine, node.root);
          const tree = node.tree();
          const flags = ["--adopt=replace", "--allow-missing", "--json", "--prove-with", engine.containerd];
          const ran = await node.run(["install", ...theirs, ...flags]);
          const said = `${file}: ${JSON.stringify(ran.json()["error"])}`;
          if (ran.code !== 0) {
            expect([said, ran.code]).toEqual([expect.stringContaining("inline table"), 3]);
            expect(node.tree()).toEqual(tree);
            continue;
          }
          adopted++;
          const after = dump(engine, node.root);
          expect([file, before.rc, after.rc]).toEqual([file, 0, 0]);
          // On 1.x the built-in handler comes back that the file had lost.
          const names = (output: string) =>
            Object.keys(handlersOf(output, engine.version))
              .filter((name) => name !== "runc")
              .sort();
          expect([file, names(after.stdout)]).toEqual([file, names(before.stdout)]);
          expect([file, (await node.run(["uninstall", "--all"])).code]).toEqual([file, 0]);
          const left = dump(engine, node.root);
          expect([file, left.rc]).toEqual([file, 0]);
          expect(names(left.stdout).filter((name) => theirs.includes(name))).toEqual([]);
        }
        expect(adopted).toBeGreaterThan(2);
      }, 120_000);
    }
  },
);

for (const engine of crios) {
  describe.skipIf(noJail !== undefined)(`CRI-O ${engine.version}`, () => {
    const said = (node: Node) => {
      const { rc, stdout, stderr } = crioConfig(engine, node.root);
      expect([rc, rc === 0 ? "" : stderr]).toEqual([0, ""]);
      return normaliseCrio(stdout);
    };
    const adoptIn = async (node: Node, name: string, how: string) => {
      const before = said(node);
      expect((await node.run(["install", name])).code).toBe(5);
      const ran = await node.run(["install", name, how, "--json", "--prove-with", engine.crio]);
      expect([ran.code, ran.json()["error"]]).toEqual([0, null]);
      if (how === "--adopt") expect(JSON.stringify(said(node), plain)).toBe(JSON.stringify(before, plain));
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect(JSON.stringify(said(node), plain)).not.toContain(`"${name}"`);
    };
    const plain = (_: string, value: unknown) => (typeof value === "bigint" ? Number(value) : value);

    test("kata-deploy's own drop-in is adopted, and the engine sees no difference", async () => {
      using node = Node.of({ ...crioCase, version: engine.version });
      node.place("/etc/crio/crio.conf.d/99-kata-deploy", kataHandlerCrio("qemu"));
      node.place("/etc/crio/crio.conf.d/100-debug", "");
      const { leftBy } = (await node.run(["status", "--json"])).json();
      expect(leftBy).toMatchObject([{ mode: "debug drop-in" }, { mode: "drop-in", handlers: ["kata-qemu"] }]);
      await adoptIn(node, "kata-qemu", "--adopt");
    });

    test.skipIf(!existsSync(corpus))(
      "kata-deploy's output of the corpus is taken over by --adopt=replace",
      async () => {
        using node = Node.of({ ...crioCase, version: engine.version });
        node.place("/etc/crio/crio.conf.d/99-kata-deploy", readFileSync(`${corpus}/crio/99-kata-deploy`));
        await adoptIn(node, "kata-qemu", "--adopt=replace");
      },
    );

    test.skipIf(peer === undefined)("nvidia-ctk's own output is adopted", async () => {
      using node = Node.of({ ...crioCase, version: engine.version });
      const path = "/etc/crio/crio.conf.d/99-nvidia.toml";
      configure(node, "crio", `${node.root}/etc/crio/crio.conf.d/10-crio.conf`, node.root + path);
      node.place(path, node.text(path).replaceAll(node.root, ""));
      const { leftBy } = (await node.run(["status", "--json"])).json();
      expect(leftBy).toMatchObject([{ tool: "nvidia-ctk", mode: "drop-in", path, handlers: ["nvidia"] }]);
      await adoptIn(node, "nvidia", "--adopt");
    });
  });
}

/** Lets the real nvidia-ctk edit a node of containerd, as if it ran on it. */
function byNvidia(node: Node): void {
  const dropIn = "/etc/containerd/conf.d/99-nvidia.toml";
  configure(node, "containerd", node.root + root, node.root + dropIn);
  for (const path of [root, dropIn]) node.place(path, node.text(path).replaceAll(node.root, ""));
}

/** Lets the real nvidia-ctk edit a node's files. */
function configure(node: Node, runtime: string, config: string, dropIn: string): void {
  const path = `${node.root}/usr/bin/nvidia-container-runtime`;
  const args = ["runtime", "configure", "--runtime", runtime, "--config", config, "--drop-in-config", dropIn];
  const ran = spawnSync(peer?.binary ?? "", [...args, "--nvidia-runtime-path", path], { encoding: "utf8" });
  expect([ran.status, ran.status === 0 ? "" : ran.stderr]).toEqual([0, ""]);
}
