import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeToml, encodeToml } from "../../src/toml/decode.ts";
import {
  addArrayElement,
  canExtend,
  removeArrayElement,
  removeBlock,
  removeRootLine,
  setBlock,
  setRootLine,
} from "../../src/toml/edit.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { proveEdit, withPath } from "../../src/toml/prove.ts";
import { redactText } from "../../src/toml/redact.ts";

/** Configurations of real distributions; kept outside the repository, as they are not ours to publish. */
const corpus = join(import.meta.dir, "../../../shared/corpus");
const files = existsSync(corpus)
  ? readdirSync(corpus, { recursive: true, encoding: "utf8" }).filter((name) =>
      /\.(toml|conf)$|99-kata-deploy$/.test(name),
    )
  : [];
if (files.length === 0) console.log("corpus test skipped: no configurations beside the repository");

for (const name of files) {
  const path = join(corpus, name);
  const bytes = readFileSync(path);
  if (/^invalid\/(?!docker-plus|version-string|wrong-type)|bom/.test(name)) {
    test(`the corpus file is refused: ${name}`, () => {
      expect(() => parseToml(decodeToml(bytes, name), name)).toThrow(
        expect.objectContaining({ code: "invalid-config" }),
      );
    });
    continue;
  }
  test(`every edit of the corpus file is proved and inverted: ${name}`, () => {
    const before = decodeToml(bytes, name);
    const table = parseToml(before, name);
    expect(encodeToml(before)).toEqual(new Uint8Array(bytes));
    expect(redactText(before).split("\n").length).toBe(before.split("\n").length);
    expect(canExtend(before, ["shimctl"])).toBeNull();
    const path = name;
    proveEdit({
      before,
      after: setBlock(before, { owner: "default", body: "[shimctl]\na = 1\n" }),
      expected: withPath(table, ["shimctl", "a"], 1n),
      path,
      inverse: (text) => removeBlock(text, "default"),
    });
    proveEdit({
      before,
      after: setRootLine(before, "shimctl", '["x"]', "test"),
      expected: withPath(table, ["shimctl"], ["x"]),
      path,
      inverse: (text) => removeRootLine(text, "shimctl"),
    });
    const imports = table["imports"];
    if (!Array.isArray(imports)) return;
    proveEdit({
      before,
      after: addArrayElement(before, ["imports"], "/x"),
      expected: withPath(table, ["imports"], [...imports, "/x"]),
      path,
      inverse: (text) => removeArrayElement(text, ["imports"], "/x"),
      elements: [{ keyPath: ["imports"], value: "/x" }],
    });
  });
}
