import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { backends } from "../../src/engine/registry.ts";
import { managedSystems } from "../../src/managed/registry.ts";
import { comment, inComment, printable } from "../../src/managed/yaml.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { anyHandler } from "../support/any_handler.ts";
import { engineTextIn, kinds, valueAt } from "../support/rendered.ts";

/** What YAML's versions take for line breaks, or do not allow, and what means something there. */
const hostile = fc
  .array(
    fc.constantFrom(
      ..."\u0000\t\n\r\u007f\u0085\u00a0\u009f\u2028\u2029\ufeff\ufffe\uffff#:-{&*!|>'\"%@` üa",
    ),
  )
  .map((characters) => characters.join(""));

describe("any handler is the same once it went through a document", () => {
  for (const kind of kinds) {
    test(`for ${kind}`, () => {
      const system = managedSystems.find(({ name }) => name === kind);
      const backend = backends.find(({ name }) => name === system?.engine);
      if (system === undefined || backend === undefined) throw new Error(`no system ${kind}`);
      fc.assert(
        fc.property(anyHandler, hostile, (handler, value) => {
          const with_ = {
            ...handler,
            name: "any",
            containerd: {
              runtime_type: "a.b",
              like_runc: false,
              options: { [`k${value.replaceAll('"', "")}`]: value },
            },
            crio: { runtime_type: "vm" as const, like_default: false, runtime_path: `/${value}` },
            ...(handler.containerd === undefined ? {} : { containerd: handler.containerd }),
          };
          const { target, wrap } = system.rendering(undefined);
          const toml = backend.render(with_, target) ?? "";
          const found = parseToml(engineTextIn(kind, wrap(printable(toml))), "document");
          const wanted = parseToml(toml, "rendered");
          const at = kind === "machineconfig" ? ["crio", "runtime"] : [...pluginOf(wanted), "containerd"];
          expect(valueAt(found, ...at, "runtimes", "any")).toEqual(valueAt(wanted, ...at, "runtimes", "any"));
          expect(valueAt(wanted, ...at, "runtimes", "any")).toBeDefined();
        }),
        { numRuns: 300 },
      );
    });
  }
});

function pluginOf(table: unknown): string[] {
  const ids = Object.keys((valueAt(table, "plugins") ?? {}) as object);
  return ["plugins", ids.find((id) => id.endsWith("cri") || id.endsWith("runtime")) ?? ""];
}

test("what others wrote never leaves its comment", () => {
  fc.assert(
    fc.property(hostile, (text) => {
      const lines = comment(inComment(text)).split(/[\n\r\u0085\u2028\u2029]/u);
      expect(lines.filter((line) => !line.startsWith("#"))).toEqual([]);
    }),
  );
});
