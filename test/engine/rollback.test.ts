import { describe, expect, test } from "bun:test";
import { bringCrio } from "../../build/crio.ts";
import { engines } from "../../build/engines.ts";
import { crioCase, type EngineCase, importedCase, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";
import { crioConfig, handlersOf as handlersOfCrio, normalise as normaliseCrio } from "./crio-harness.ts";
import { dump, handlersOf, jailProblem, normalise } from "./harness.ts";

const problem = jailProblem();
if (problem !== undefined) console.log(`(skip) rollbacks before real engines: ${problem}`);

interface Judge {
  readonly name: string;
  readonly engineCase: EngineCase;
  /** What the engine would run with, as text that is the same where the meaning is. */
  meaning(node: Node): { readonly all: unknown; readonly handlers: readonly string[] };
}

async function judges(): Promise<Judge[]> {
  if (problem !== undefined) return [];
  const containerds = (await engines()).flatMap((engine): Judge[] => {
    const engineCase = [markedCase, importedCase].find(
      ({ version }) => version.split(".")[0] === engine.version.split(".")[0],
    );
    if (engineCase === undefined) return [];
    return [
      {
        name: `containerd ${engine.version}`,
        engineCase: { ...engineCase, version: engine.version },
        meaning(node) {
          const { rc, stdout, stderr } = dump(engine, node.root);
          expect([rc, stderr.slice(0, 500)]).toEqual([0, expect.any(String)]);
          return { all: normalise(stdout), handlers: Object.keys(handlersOf(stdout, engine.version)).sort() };
        },
      },
    ];
  });
  const crios = (await bringCrio()).engines.map(
    (engine): Judge => ({
      name: `CRI-O ${engine.version}`,
      engineCase: crioCase,
      meaning(node) {
        const { rc, stdout, stderr } = crioConfig(engine, node.root);
        expect([rc, stderr.slice(0, 500)]).toEqual([0, expect.any(String)]);
        return { all: normaliseCrio(stdout), handlers: Object.keys(handlersOfCrio(stdout)).sort() };
      },
    }),
  );
  return [...containerds, ...crios];
}

for (const { name, engineCase, meaning } of await judges()) {
  describe(`to ${name}`, () => {
    const [kata, second] = engineCase.handlers;

    test("a rollback means what was there before, at every step back and forth", async () => {
      using node = Node.of(engineCase);
      node.place("/usr/bin/conmon", "#!/bin/sh\n", 0o755);
      const said = [meaning(node)];
      for (const args of [
        ["install", kata],
        ["install", second],
        ["uninstall", kata],
      ]) {
        expect((await node.run(args)).code).toBe(0);
        said.push(meaning(node));
      }
      expect(said[2]?.handlers).toEqual(expect.arrayContaining([kata, second]));
      const ids = ((await node.run(["log", "--json"])).json()["operations"] as { id: string }[]).map(
        ({ id }) => id,
      );
      const back = async (...more: string[]) => {
        const ran = await node.run(["rollback", ...more]);
        expect([ran.code, ran.err]).toEqual([0, ""]);
        return meaning(node);
      };
      expect<unknown>(await back()).toEqual(said[2]);
      expect<unknown>(await back()).toEqual(said[3]);
      expect<unknown>(await back("--to", ids[0] ?? "")).toEqual(said[1]);
      expect<unknown>(await back("--to", ids[1] ?? "")).toEqual(said[2]);
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect<unknown>(meaning(node)).toEqual(said[0]);
    });

    test("one on a file that others have edited since keeps their edits and takes only ours", async () => {
      using node = Node.of(engineCase);
      expect((await node.run(["install", kata])).code).toBe(0);
      node.place(engineCase.main, `${node.text(engineCase.main)}\n${engineCase.define("theirs")}`);
      const both = meaning(node);
      expect(both.handlers).toEqual(expect.arrayContaining([kata, "theirs"]));
      expect((await node.run(["rollback"])).code).toBe(0);
      expect(meaning(node).handlers).toEqual(both.handlers.filter((handler) => handler !== kata));
    });
  });
}
