import { describe, expect, test } from "bun:test";
import process from "node:process";
import { type Verdicts, verdictsOf } from "../engine/verdict.ts";
import { assertWhole, configurationOf, crashCases, isSampled, report, Stage } from "../support/crash.ts";
import { whyNot } from "../support/needs.ts";
import { type Recording, type Remains, recording, remains, without } from "../support/power.ts";

const cannot = whyNot("power losses", {
  root: true,
  ...(process.arch === "x64" ? {} : { also: "not an x86-64 processor" }),
});

function record(stage: Stage): Recording {
  using copy = stage.copy();
  const { watch, recorded } = recording(copy.root);
  expect(stage.run(copy.root, watch).code).toBe(0);
  expect(recorded.steps.length).toBeGreaterThan(20);
  return recorded;
}

/** The configuration is the old or the new one, the engine starts with it, and the next run mends the rest. */
async function judge(stage: Stage, verdicts: Verdicts, found: Remains): Promise<void> {
  using copy = stage.copy();
  const { root } = copy;
  found.build(root);
  assertWhole(root, stage);
  // Whoever was told that it is done may pull the plug.
  if (found.isLast) expect(configurationOf(root)).toEqual(stage.new);
  expect(stage.served).toContain(verdicts.of(root).join(" "));
  expect((await stage.also(root, ["check"])).code).toBe(0);
  await stage.assertConverges(root);
}

async function failures(
  stage: Stage,
  verdicts: Verdicts,
  recorded: Recording,
  options: { readonly oneIn: number; readonly enough: number },
): Promise<{ seen: number; wrong: string[] }> {
  const wrong: string[] = [];
  let seen = 0;
  for (const found of remains(recorded)) {
    if (!found.isLast && !isSampled(found.hash, options.oneIn)) continue;
    seen += 1;
    try {
      await judge(stage, verdicts, found);
    } catch (error) {
      wrong.push(`power lost after ${found.after}: ${Bun.stripANSI(String(error))}`);
      if (wrong.length >= options.enough) break;
    }
  }
  return { seen, wrong };
}

describe.skipIf(cannot !== undefined)("a power loss at any instant", () => {
  for (const crashCase of crashCases) {
    test(`leaves the old or the new configuration, and nothing that the next run cannot mend: ${crashCase.name}`, async () => {
      const verdicts = await verdictsOf(crashCase.engineCase);
      using stage = new Stage(crashCase);
      stage.learn(verdicts);
      const recorded = record(stage);
      const { seen, wrong } = await failures(stage, verdicts, recorded, { oneIn: 1, enough: 5 });
      report("power loss", crashCase.name, {
        steps: recorded.steps.length,
        "trees judged": seen,
        wrong: wrong.length,
        "distinct configurations": verdicts.distinct,
      });
      expect(wrong).toEqual([]);
    });
  }

  for (const what of ["folders", "files"] as const) {
    test(`is what a program that does not flush ${what} does not survive`, async () => {
      // To uninstall a drop-in, CRI-O's own files need no byte: there it is the journal only that is not flushed.
      const writing = crashCases.filter(({ name }) => what === "folders" || !name.startsWith("uninstall"));
      for (const crashCase of writing) {
        const verdicts = await verdictsOf(crashCase.engineCase);
        using stage = new Stage(crashCase);
        stage.learn(verdicts);
        const { wrong } = await failures(stage, verdicts, without(record(stage), what), {
          oneIn: 1,
          enough: 1,
        });
        expect([crashCase.name, wrong.length]).toEqual([crashCase.name, 1]);
      }
    });
  }
});
