import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { engineCases, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

describe("kata-containers#10924: install, quickly uninstall, install again", () => {
  test("two writers that truncate leave a stray line, so this race is known to bite", () => {
    using node = Node.of(markedCase);
    const path = node.root + markedCase.main;
    // It ends as `containerd config default` does, in its timeouts.
    const defaults = node.text(markedCase.main);
    const long = `# kata\n${defaults}`;
    const short = `#k\n${defaults}`;
    const first = openSync(path, "w");
    const second = openSync(path, "w");
    writeSync(first, long);
    writeSync(second, short);
    closeSync(first);
    closeSync(second);
    const lines = readFileSync(path, "utf8").split("\n");
    expect(long.length - short.length).toBe(4);
    expect(lines.at(-2)).toBe('3s"');
    expect(() => parse(lines.join("\n"))).toThrow();
  });

  for (const engineCase of engineCases) {
    test(`the same sequence by shimctl on ${engineCase.name}, many times at once, never does`, async () => {
      const [kata, second, third] = engineCase.handlers;
      using node = Node.of(engineCase);
      const before = node.tree();
      const run = (...args: string[]) =>
        new Promise<number | null>((resolve) => {
          spawn(compiled(), [...args, ...node.options], { stdio: "ignore" }).on("close", resolve);
        });
      for (let round = 0; round < 8; round++) {
        const codes = await Promise.all([
          run("install", kata, second),
          run("uninstall", "--all"),
          run("install", kata),
          run("uninstall", second),
          run("install", second, third),
        ]);
        expect(codes).toEqual([0, 0, 0, 0, 0]);
        for (const path of node.loaded(engineCase)) {
          const text = node.text(path);
          expect(() => parse(text)).not.toThrow();
          expect(text.replace(/^imports = .*\n/m, "").startsWith(engineCase.files[path] ?? "")).toBe(true);
        }
      }
      await run("uninstall", "--all");
      expect(node.tree()).toEqual(before);
    });
  }
});
