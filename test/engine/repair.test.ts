import { describe, expect, test } from "bun:test";
import { bringCrio } from "../../build/crio.ts";
import { engines } from "../../build/engines.ts";
import { crioCase, type EngineCase, importedCase, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";
import { crioConfig, normalise as crioMeaning } from "./crio-harness.ts";
import {
  daemonProblem,
  dump,
  handlersOf,
  jailProblem,
  normalise,
  type Output,
  startDaemon,
} from "./harness.ts";

const noJail = jailProblem();
if (noJail !== undefined) console.log(`(skip) repairs, judged by real engines: ${noJail}`);
const noDaemon = daemonProblem();
const containerds = noJail === undefined ? await engines() : [];
const crios = noJail === undefined ? (await bringCrio()).engines : [];

interface Judge {
  readonly engineCase: EngineCase;
  readonly version: string;
  readonly binary: string;
  read(root: string): Output;
  meaning(stdout: string): unknown;
}

const judges: readonly Judge[] = [
  ...containerds.map((engine) => ({
    engineCase: engine.version.startsWith("1.") ? markedCase : importedCase,
    version: engine.version,
    binary: engine.containerd,
    read: (root: string) => dump(engine, root),
    meaning: normalise,
  })),
  ...crios.map((engine) => ({
    engineCase: crioCase,
    version: engine.version,
    binary: engine.crio,
    read: (root: string) => crioConfig(engine, root),
    meaning: crioMeaning,
  })),
];

/** What is done to a file of a working node; the engine does not start on it. */
const damages: Readonly<Record<string, (text: string) => string | Uint8Array>> = {
  'the stray `3s"` of kata-containers#10924': (text) => `${text}3s"\n`,
  "half a line in the middle": (text) => text.replace(/\n\n/, '\n\nime_type = "io.cont\n'),
  "a file that was written twice": (text) => text + text,
  "a tail of NUL bytes": (text) => Buffer.concat([Buffer.from(text), Buffer.alloc(4096)]),
  "a line that is no UTF-8": (text) => Buffer.concat([Buffer.from(text), Buffer.from([0x78, 0xff, 0x0a])]),
};

const blockDamages: Readonly<Record<string, (text: string) => string>> = {
  "our block, cut off in the middle": (text) => text.slice(0, text.indexOf("runtime_path") + 9),
  "our block, with half a line in it": (text) =>
    text.replace("runtime_path", 'ntime_path = "/op\nruntime_path'),
};

describe.skipIf(noJail !== undefined)(
  "a damaged file, which the real engine refuses, and repair mends",
  () => {
    for (const judge of judges) {
      const { engineCase } = judge;
      const rows = [
        ...Object.entries(damages).map(([name, damage]) => ({ name, damage, path: engineCase.main })),
        ...Object.entries(blockDamages).map(([name, damage]) => ({
          name,
          damage,
          path: engineCase.block("default"),
        })),
      ];
      for (const { name, damage, path } of rows) {
        test(`${engineCase.engine} ${judge.version}: ${name}`, async () => {
          using node = nodeFor(judge);
          expect((await node.run(["install", "kata-qemu", "--no-restart"])).code).toBe(0);
          const whole = judge.read(node.root);
          expect([whole.rc, whole.stderr.slice(-300)]).toEqual([0, expect.any(String)]);
          const text = node.text(path);
          node.place(path, damage(text));
          expect(judge.read(node.root).rc).not.toBe(0);
          const ran = await node.run(["repair", "--yes", "--no-restart", "--prove-with", judge.binary]);
          expect([ran.code, ran.err]).toEqual([0, ""]);
          const mended = judge.read(node.root);
          expect(mended.rc).toBe(0);
          expect(judge.meaning(mended.stdout)).toEqual(judge.meaning(whole.stdout));
          expect(node.text(path)).toBe(text);
        });
      }
    }

    for (const engine of containerds.filter(({ version }) => /^(1\.|2\.[0-2]\.)/.test(version))) {
      test(`containerd ${engine.version}: a version line that was lost, and with it every handler`, async () => {
        using node = nodeFor({ engineCase: markedCase, version: engine.version });
        const runc = markedCase.define("theirs");
        node.place(markedCase.main, `${node.text()}\n${runc}`);
        const whole = handlersOf(dump(engine, node.root).stdout, engine.version);
        node.place(markedCase.main, node.text().replace(/^version = .\n/m, ""));
        const lost = dump(engine, node.root);
        expect([lost.rc, lost.stdout.includes("io.containerd.theirs.v1")]).toEqual([0, false]);
        expect((await node.run(["repair", "--yes", "--no-restart"])).code).toBe(0);
        expect(handlersOf(dump(engine, node.root).stdout, engine.version)).toEqual(whole);
      });
    }
  },
);

// What it dumps says nothing of that on 2.x (config-semantics.md, trap 6): the daemon itself is asked.
describe.skipIf((noJail ?? noDaemon) !== undefined)("an import of a file that is missing", () => {
  for (const engine of containerds.filter(({ version }) => /^(1\.7|2\.1|2\.3)/.test(version))) {
    test(`keeps containerd ${engine.version} from starting until repair has taken it out`, async () => {
      const engineCase = engine.version.startsWith("1.") ? markedCase : importedCase;
      using node = nodeFor({ engineCase, version: engine.version });
      const text = node.text();
      node.place(engineCase.main, text.replace(/^version/m, 'imports = ["/etc/gone.toml"]\nversion'));
      await expect(startDaemon(engine, node.root)).rejects.toThrow();
      expect((await node.run(["repair", "--yes", "--no-restart"])).code).toBe(0);
      expect(node.text()).toBe(text.replace(/^version/m, "imports = []\nversion"));
      const daemon = await startDaemon(engine, node.root);
      try {
        expect(daemon.criLoaded()).toBe(true);
      } finally {
        await daemon.stop();
      }
    });
  }
});

function nodeFor({ engineCase, version }: Pick<Judge, "engineCase" | "version">): Node {
  const node = new Node(version);
  for (const [path, content] of Object.entries(engineCase.files)) node.place(path, content);
  // The real CRI-O looks for it.
  node.place("/usr/bin/conmon", "#!/bin/sh\n", 0o755);
  return node;
}
