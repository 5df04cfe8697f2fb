import { describe, expect, test } from "bun:test";
import { bringCrio } from "../../build/crio.ts";
import { engines } from "../../build/engines.ts";
import type { Handler } from "../../src/handler/model.ts";
import { manyHandlers } from "../support/many_handlers.ts";
import { Node } from "../support/node.ts";
import { roundTrip } from "../support/round_trip.ts";
import { crioConfig, startCrio } from "./crio-harness.ts";
import { at, daemonProblem, dump, handlersOf, jailProblem } from "./harness.ts";
import { plain, saidByContainerd, saidByCrio } from "./said.ts";

const noJail = jailProblem();
const noDaemon = daemonProblem();
const containerds = noJail === undefined ? await engines() : [];
const crios = noJail === undefined ? (await bringCrio()).engines : [];
if (noJail !== undefined) console.log(`(skip) 1,000 handlers: ${noJail}`);
else if (noDaemon !== undefined) console.log(`(skip) 1,000 handlers in CRI-O: ${noDaemon}`);

const many = manyHandlers(1000);

function each(handlers: Record<string, Handler>, say: (handler: Handler) => unknown): unknown {
  return Object.fromEntries(Object.entries(handlers).map(([name, handler]) => [name, say(handler)]));
}

/** CRI-O runs it as its default handler, runc, whatever its own table says. */
function asInherited(handler: Handler, said: Record<string, unknown>): Record<string, unknown> {
  if (handler.crio?.inherit_default_runtime !== true) return said;
  return { ...said, runtime_path: "/usr/libexec/crio/runc", runtime_type: "" };
}

describe.skipIf(noJail !== undefined)(
  "1,000 handlers of one file are to the real engine what they say",
  () => {
    for (const engine of containerds.filter(({ version }) => !version.startsWith("1.6."))) {
      test(`containerd ${engine.version}`, async () => {
        await roundTrip(many, "containerd", engine.version, async (node, handlers) => {
          const { rc, stdout } = dump(engine, node.root);
          expect(rc).toBe(0);
          const { runc: _, ...served } = handlersOf(stdout, engine.version);
          expect(plain(served)).toEqual(
            each(handlers, (handler) => saidByContainerd(handler, engine.version)),
          );
        });
      });
    }

    for (const engine of crios) {
      test.skipIf(noDaemon !== undefined)(`CRI-O ${engine.version}`, async () => {
        await roundTrip(many, "crio", engine.version, async (node, handlers) => {
          expect(crioConfig(engine, node.root).rc).toBe(0);
          const daemon = await startCrio(engine, node.root);
          try {
            expect(daemon.ignored()).toEqual([]);
            const {
              runc: _,
              crun: __,
              ...served
            } = at(daemon.config(), "crio", "runtime", "runtimes") as Record<string, unknown>;
            expect(plain(served)).toEqual(
              each(handlers, (handler) => asInherited(handler, saidByCrio(handler))),
            );
          } finally {
            await daemon.stop();
          }
        });
      });
    }
  },
);

describe.skipIf(noJail !== undefined)("an option's name with a double quote", () => {
  for (const engine of containerds.filter(({ version }) => version.startsWith("1."))) {
    test(`is refused, as containerd ${engine.version} would not start on it`, async () => {
      using node = new Node(engine.version, "version = 2\n");
      const table = "[handlers.x.containerd]\nruntime_type = 'a.b'\noptions = { 'a\"b' = 1 }\n";
      node.place("/handlers.toml", `format = 1\n${table}`);
      const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`, "--allow-missing"]);
      expect([ran.code, node.text()]).toEqual([2, "version = 2\n"]);
      const runtime = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.x';
      node.place("/etc/containerd/config.toml", `version = 2\n[${runtime}.options]\n"a\\"b" = 1\n`);
      expect(dump(engine, node.root)).toMatchObject({
        rc: 1,
        stderr: expect.stringContaining("invalid key"),
      });
    });
  }
});
