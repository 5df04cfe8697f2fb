import { describe, expect, test } from "bun:test";
import { createServer } from "node:net";
import { bringCrio } from "../../build/crio.ts";
import { engines } from "../../build/engines.ts";
import { openCri } from "../../src/host/cri/client.ts";
import { Node } from "../support/node.ts";
import { startCrio } from "./crio-harness.ts";
import { daemonProblem, startDaemon } from "./harness.ts";

const problem = daemonProblem();
if (problem !== undefined) console.log(`(skip) CRI of real engines: ${problem}`);
const containerds = problem === undefined ? await engines() : [];
const crios = problem === undefined ? (await bringCrio()).engines : [];

const runc = (version: string) =>
  version.startsWith("1.")
    ? 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
    : "version = 3\n";

describe.skipIf(problem !== undefined)("what a real engine says on its CRI socket", () => {
  for (const engine of containerds) {
    test(`containerd ${engine.version} tells its version and the handlers that it has loaded`, async () => {
      using node = new Node(engine.version, runc(engine.version));
      expect((await node.run(["install", "kata-qemu", "crun"])).code).toBe(0);
      const daemon = await startDaemon(engine, node.root);
      try {
        const cri = openCri(daemon.socket);
        expect(await cri.status()).toEqual({
          kind: "up",
          version: expect.stringContaining(engine.version),
          ready: true,
          handlers: ["crun", "kata-qemu", "runc"],
          defaultHandler: "runc",
        });
        expect(await cri.sandboxes()).toEqual([]);
        const edited = await node.run(["uninstall", "--all"]);
        expect(edited.code).toBe(0);
        expect(await cri.status()).toMatchObject({ handlers: ["crun", "kata-qemu", "runc"] });
      } finally {
        await daemon.stop();
      }
      expect(await openCri(daemon.socket).status()).toEqual({ kind: "absent" });
    });

    test(`containerd ${engine.version} without its CRI plugin is told from one that does not answer`, async () => {
      using node = new Node(
        engine.version,
        `${runc(engine.version)}disabled_plugins = []\n`.replace(
          /(version = \d\n)(.*)disabled_plugins = \[\]\n/s,
          '$1disabled_plugins = ["io.containerd.grpc.v1.cri"]\n$2',
        ),
      );
      const daemon = await startDaemon(engine, node.root);
      try {
        expect((await openCri(daemon.socket).status()).kind).toBe("without CRI");
      } finally {
        await daemon.stop();
      }
    });
  }

  for (const engine of crios) {
    test(`CRI-O ${engine.version} tells its version and the handlers that it has loaded`, async () => {
      using node = new Node(engine.version);
      node.place("/etc/crio/crio.conf.d/.keep", "");
      expect((await node.run(["install", "kata-qemu"], { SHIMCTL_ENGINE: "crio" })).code).toBe(0);
      const daemon = await startCrio(engine, node.root);
      try {
        expect(await openCri(daemon.socket).status()).toEqual({
          kind: "up",
          version: engine.version,
          ready: true,
          handlers: ["crun", "kata-qemu"],
          defaultHandler: "crun",
        });
      } finally {
        await daemon.stop();
      }
    });
  }
});

test("a socket on which nobody answers is silent, and one that is not there is absent", async () => {
  using node = new Node("2.1.9");
  const path = `${node.root}/silent.sock`;
  expect(await openCri(path).status()).toEqual({ kind: "absent" });
  const server = createServer(() => undefined).listen(path);
  try {
    expect((await openCri(path).status()).kind).toBe("silent");
  } finally {
    server.close();
  }
}, 20_000);
