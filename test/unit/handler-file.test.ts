import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { parse } from "smol-toml";
import { handlerFileSchema, renderedSchema, schemaPath } from "../../build/schema.ts";
import { parseHandlerFile, resolveFile } from "../../src/cli/handler_file.ts";
import { asShimctlError, errorText } from "../../src/cli/output.ts";

const project = `${import.meta.dirname}/../..`;
const validate = new Ajv2020({ strict: true }).compile(handlerFileSchema());

/** What this program says of a handler file: nothing, or the error as people see it. */
function complaint(text: string): string | undefined {
  try {
    parseHandlerFile(new TextEncoder().encode(text), "handlers.toml");
    return undefined;
  } catch (error) {
    return errorText(asShimctlError(error));
  }
}

/** Every example that we show somebody. */
function examples(): (readonly [name: string, text: string])[] {
  const files = readdirSync(`${project}/docs/examples`).map(
    (name) => [name, readFileSync(`${project}/docs/examples/${name}`, "utf8")] as const,
  );
  const readme = readFileSync(`${project}/README.md`, "utf8");
  const shown = [...readme.matchAll(/```toml\n(.*?)```/gs)].map(
    ([, text], index) => [`README.md, example ${index + 1}`, text ?? ""] as const,
  );
  return [...files, ...shown];
}

describe("the JSON Schema of handler files", () => {
  test("is shipped as the model makes it", () => {
    expect(readFileSync(schemaPath, "utf8"), "When the model's change is meant: npm run schema").toBe(
      renderedSchema(),
    );
  });

  test("has examples to be tested on", () => {
    expect(examples().length).toBeGreaterThan(2);
  });

  for (const [name, text] of examples()) {
    test(`takes ${name}, as this program does`, () => {
      expect([validate(parse(text)), validate.errors, complaint(text)]).toEqual([true, null, undefined]);
    });
  }
});

/** Each file with what the error says first, and where. */
const refused: readonly (readonly [text: string, message: string, place: string])[] = [
  ["[handlers.crun]\n", "as it names no format", "handlers.toml"],
  ["format = 2\n[handlers.crun]\n", "as it is written for a newer shimctl: format 2", "handlers.toml:1:1"],
  ["format = 1\n", "as 'handlers' is missing", "handlers.toml"],
  ["format = 1\nhandlres = 1\n[handlers.crun]\n", "'handlres', as there is no such key", "handlers.toml:2:1"],
  [
    'format = 1\n[handlers.crun]\n  snapshoter = "x"\n',
    "'handlers.crun.snapshoter', as there is no such key",
    "handlers.toml:3:3",
  ],
  [
    "format = 1\n[handlers.x]\npreset = 'crun'\n[handlers.x.crio]\nrun_time_path = '/x'\n",
    "'handlers.x.crio.run_time_path', as there is no such key",
    "handlers.toml:5:1",
  ],
  [
    "format = 1\nhandlers.x = { preset = 'crun', containerd = { runtim_path = '/x' } }\n",
    "'handlers.x.containerd.runtim_path', as there is no such key",
    "handlers.toml:2:48",
  ],
  [
    'format = 1\n[handlers."Größe"]\n',
    "Cannot use 'Größe' as a handler's name, which must be lower-case letters",
    "handlers.toml:2:1",
  ],
  [
    "format = 1\n[handlers.crun]\ncni_max_conf_num = 1.5\n",
    "'handlers.crun.cni_max_conf_num', which has a value of a wrong kind",
    "handlers.toml:3:1",
  ],
  [
    "format = 1\n[handlers.crun.crio]\nmonitor_path = 'conmon'\n",
    "which must be an absolute path: conmon",
    "handlers.toml:3:1",
  ],
  [
    "format = 1\n[handlers.crun.containerd.options]\nSystemdCgroup = 1979-05-27\n",
    "'handlers.crun.containerd.options.SystemdCgroup', which has a value of a wrong kind",
    "handlers.toml:3:1",
  ],
  [
    "format = 1\n[handlers.crun.containerd.options]\n'a\"b' = 1\n",
    "Cannot use 'a\"b' as an option's name, which must hold no double quote",
    "handlers.toml:3:1",
  ],
  ["format = 1\nowner = 'shared'\n[handlers.crun]\n", "and not 'shared': shared", "handlers.toml:2:1"],
];

describe("a handler file that is refused", () => {
  for (const [text, message, place] of refused) {
    test(`${JSON.stringify(text)} says what is wrong and where, and the schema refuses it too`, () => {
      const said = complaint(text) ?? "accepted";
      expect(said).toContain(message);
      expect(said).toContain(`  at: ${place}\n`);
      const value: unknown = JSON.parse(JSON.stringify(parse(text), (_, inner: unknown) => inner));
      if (!text.includes("1979")) expect(validate(value)).toBe(false);
    });
  }

  test("names the nearest known key of that very place", () => {
    const said = complaint(
      "format = 1\n[handlers.x]\npreset = 'crun'\n[handlers.x.crio]\nruntime_typ = 'vm'\n",
    );
    expect(said).toContain("next: did you mean 'runtime_type'? known here: ");
    expect(said).not.toContain("like_runc");
  });
});

test("where something stands in a handler file is looked for only when there is something to say of it", () => {
  const file = parseHandlerFile(new TextEncoder().encode("format = 1\n[handlers.crun]\n"), "handlers.toml");
  const locate = () => {
    throw new Error("it was looked for");
  };
  const facts = { prefix: undefined, snapshotter: undefined, exists: () => true };
  expect(resolveFile({ ...file, locate }, facts).map(({ handler }) => handler.name)).toEqual(["crun"]);
});
