import { describe, expect, test } from "bun:test";
import { YAML } from "bun";
import fc from "fast-check";
import { ShimctlError } from "../../src/error.ts";
import { Handler, HandlerName } from "../../src/handler/model.ts";
import { allPresets } from "../../src/handler/presets/registry.ts";
import { resolvePreset } from "../../src/handler/resolve.ts";
import { runtimeClasses } from "../../src/managed/runtime_class.ts";

/** What the YAML says, by a parser that has nothing to do with what wrote it: one value for each document. */
const documentsIn = (text: string): unknown[] => {
  const parsed: unknown = YAML.parse(text);
  return Array.isArray(parsed) ? parsed : [parsed];
};

const label = fc.oneof(
  fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/),
  // What YAML of one version or another takes for a number, a truth value, a date or nothing.
  fc.constantFrom(
    "no",
    "on",
    "y",
    "true",
    "null",
    "1",
    "0x1f",
    "1e3",
    "0o7",
    "2026-11-25",
    "0b1",
    "07",
    "nan",
  ),
);
const handler = fc.record({ name: label, preset: fc.constantFrom(...allPresets()) });
const handlers = fc.uniqueArray(handler, { minLength: 1, maxLength: 6, selector: ({ name }) => name });
const resolved = ({ name, preset }: { name: string; preset: ReturnType<typeof allPresets>[number] }) =>
  resolvePreset(preset, name, { prefix: undefined, snapshotter: undefined, exists: () => false });

describe("RuntimeClasses", () => {
  test("say of each handler its name, twice, and only of Kata's where its pods go and what they need", () => {
    fc.assert(
      fc.property(handlers, (made) => {
        const documents = documentsIn(runtimeClasses(made.map(resolved)));
        expect(documents).toEqual(
          made.map(({ name, preset }) => ({
            apiVersion: "node.k8s.io/v1",
            kind: "RuntimeClass",
            metadata: { name },
            handler: name,
            ...(/^kata-/.test(preset.name)
              ? {
                  overhead: {
                    podFixed: {
                      cpu: expect.stringMatching(/^(1|250m)$/),
                      memory: expect.stringMatching(/^\d{3,5}Mi$/),
                    },
                  },
                }
              : {}),
            ...(/^kata(-|$)/.test(preset.name)
              ? { scheduling: { nodeSelector: { "katacontainers.io/kata-runtime": "true" } } }
              : {}),
          })),
        );
      }),
    );
  });

  test("are refused for a name that is a handler's here and not in Kubernetes", () => {
    const dotted = fc
      .stringMatching(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/)
      .filter((name) => name.includes("."));
    fc.assert(
      fc.property(dotted, (name) => {
        expect(HandlerName.safeParse(name).success).toBe(true);
        const odd = Handler.parse({ name, crio: { runtime_path: "/usr/bin/odd" } });
        expect(() => runtimeClasses([odd])).toThrow(ShimctlError);
      }),
    );
  });
});
