import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { renderCommand } from "../../src/cli/lasting.ts";
import type { Node } from "../../src/cli/node.ts";
import { parseArguments } from "../../src/cli/options.ts";
import { talos } from "../../src/layout/talos.ts";

const found = {
  layout: talos,
  site: { layout: "talos", rootFile: "/", version: undefined },
} as Node["found"];

/** What a command line may hold: no NUL, and nothing that is an option again. */
const word = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
  .filter((text) => !/^-|\0/.test(text));

test("a shell takes the command of a refusal apart into the very words that were given", () => {
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 3 }), word, (names, file) => {
      const parsed = parseArguments(["install", ...names, "-f", file, "--prefix", `/opt/${file}`], {});
      const command = renderCommand(found, parsed);
      const ran = spawnSync("sh", ["-c", `shimctl() { printf '%s\\0' "$@"; }; ${command}`], {
        encoding: "utf8",
      });
      expect(ran.stdout.split("\0").slice(0, -1)).toEqual([
        ...["render", "--for", "talos", "--prefix", parsed.options.prefix ?? "", "-f", file],
        ...names,
      ]);
    }),
    { numRuns: 60 },
  );
});
