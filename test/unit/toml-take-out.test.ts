import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { setBlock, takeOut } from "../../src/toml/edit.ts";
import { parseToml } from "../../src/toml/parse.ts";

const table = ["plugins", "cri", "runtimes", "kata"];
const take = (text: string) => takeOut(text, [table], "me");

describe("takeOut", () => {
  const cases: Readonly<Record<string, readonly [before: string, after: string]>> = {
    "takes the table, its sub-tables and its comments": [
      'a = 1\n\n# kata, of the platform team\n[plugins.cri.runtimes.kata] # here\ntype = "x" # its type\n# options follow\n[plugins.cri.runtimes.kata.options]\nPath = "/p"\n\n[b]\nc = 2\n',
      "a = 1\n\n[b]\nc = 2\n",
    ],
    "leaves a comment that follows the table, and one that ends what stands above": [
      "[a]\nb = 1\n# of a\n[plugins.cri.runtimes.kata]\nx = 1\n# of c\n[c]\n",
      "[a]\nb = 1\n# of a\n# of c\n[c]\n",
    ],
    "leaves the comment that begins the file": [
      "# by hand\n[plugins.cri.runtimes.kata]\nx = 1\n",
      "# by hand\n",
    ],
    "leaves a table whose name only begins the same": [
      "[plugins.cri.runtimes.kata-qemu]\nx = 1\n[plugins.cri.runtimes.kata]\nx = 2\n",
      "[plugins.cri.runtimes.kata-qemu]\nx = 1\n",
    ],
    "takes dotted keys out of the table above": [
      '[plugins.cri.runtimes]\nrunc.type = "r"\nkata.type = "k"\nkata.options.Path = "/p"\n',
      '[plugins.cri.runtimes]\nrunc.type = "r"\n',
    ],
    "takes an inline table that has a line of its own": [
      '[plugins.cri.runtimes]\nkata = { type = "k" }\nrunc = { type = "r" }\n',
      '[plugins.cri.runtimes]\nrunc = { type = "r" }\n',
    ],
    "takes parts that stand apart": [
      "[plugins.cri.runtimes.kata.options]\nx = 1\n\n[a]\nb = 1\n\n[plugins.cri.runtimes.kata]\ny = 2\n",
      "[a]\nb = 1\n",
    ],
    "keeps CRLF and a last line without end": ["a = 1\r\n\r\n[plugins.cri.runtimes.kata]\r\nx = 1", "a = 1"],
    "changes nothing where nothing is": ["a = 1\n", "a = 1\n"],
  };
  for (const [name, [before, after]] of Object.entries(cases)) {
    test(name, () => expect(take(before)).toBe(after));
  }

  test("an inline table that holds others too is refused, with its line", () => {
    const text = '[plugins.cri]\nruntimes = { kata = { type = "k" }, runc = { type = "r" } }\n';
    expect(() => take(text)).toThrow("as it stands in an inline table");
  });

  test("another owner's block loses the table, and goes with its last one", () => {
    const body = (...names: string[]) =>
      names.map((name) => `[plugins.cri.runtimes.${name}]\nx = 1\n`).join("\n");
    const both = setBlock("a = 1\n", { owner: "other", body: body("kata", "runc") });
    expect(take(both)).toBe(setBlock("a = 1\n", { owner: "other", body: body("runc") }));
    expect(take(setBlock("a = 1\n", { owner: "other", body: body("kata") }))).toBe("a = 1\n");
    expect(take(setBlock("a = 1\n", { owner: "me", body: body("kata") }))).toContain("kata");
  });

  test("whatever stands around it keeps its bytes", () => {
    const line = fc.constantFrom(
      "",
      "# a comment",
      "k = 1",
      "[other]",
      "[[list]]",
      '[plugins.cri.runtimes."b.c"]',
    );
    const lines = fc.array(line, { maxLength: 8 });
    fc.assert(
      fc.property(lines, lines, (above, below) => {
        // Keys would belong to the table above them, and names may be defined once only.
        const unique = (list: string[], suffix: string) =>
          list.map((text, at) =>
            text
              .replace("k =", `k${suffix}${at} =`)
              .replace("other", `o${suffix}${at}`)
              .replace("b.c", `b${suffix}${at}`),
          );
        const head = unique(above, "a")
          .map((text) => `${text}\n`)
          .join("");
        const tail = unique(
          below.filter((text) => !text.startsWith("k")),
          "b",
        )
          .map((text) => `${text}\n`)
          .join("");
        const result = take(`${head}\n# its own\n[plugins.cri.runtimes.kata]\nx = 1\n${tail}`);
        parseToml(result, "");
        const others = (text: string) =>
          text.split("\n").filter((each) => each !== "" && each !== "# its own");
        expect(others(result)).toEqual(others(head + tail));
      }),
    );
  });
});
