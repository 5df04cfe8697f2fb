import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { withTable } from "../../build/metrics_table.ts";
import { repo } from "../../build/source.ts";
import type { Facts } from "../../src/metrics/facts.ts";
import { families, render } from "../../src/metrics/prometheus.ts";
import { parseExposition, sampleValue } from "../support/exposition.ts";

const nothing: Facts = {
  version: "1.2.3",
  revision: undefined,
  engine: "containerd",
  engineVersion: undefined,
  layout: "vanilla",
  recordFormat: 2,
  state: "in sync",
  handlers: [],
  restarts: { change: 0, undo: 0 },
  undone: 0,
  superseded: 0,
  held: [],
  holds: [],
  contended: [],
  pending: false,
  budget: { hour: 3, day: 6 },
  drift: { gone: 0 },
  repaired: { gone: 0 },
  lockWait: undefined,
  changed: {},
  lastSuccess: undefined,
};

const full: Facts = {
  ...nothing,
  handlers: [
    { name: "kata-qemu", owner: "default", served: true },
    { name: "runsc", owner: "other", served: false },
    { name: "crun", owner: "other", served: undefined },
  ],
  held: ["other"],
  holds: ["*"],
  contended: ["default"],
  pending: true,
  changed: { default: 1_700_000_000, other: 1_700_000_001.5 },
  watch: { checks: 7, failures: 1, lastCheck: 1_700_000_002 },
};

describe("metrics", () => {
  test("are of the exposition format, each with the type, help and labels that it is said to have", async () => {
    const found = parseExposition(await render(full));
    expect(found.map(({ name }) => name)).toEqual(families.map(({ name }) => name));
    for (const { name, type, help, labels } of families) {
      const family = found.find((each) => each.name === name);
      expect([name, family?.type, family?.help]).toEqual([name, type, help]);
      expect(family?.samples.length).toBeGreaterThan(0);
      for (const sample of family?.samples ?? []) expect(Object.keys(sample.labels)).toEqual([...labels]);
    }
  });

  test("are there on a node that nothing has happened on, but for those that are said to be absent", async () => {
    const found = parseExposition(await render(nothing)).map(({ name }) => name);
    expect(found).toEqual(families.filter(({ absent }) => absent === undefined).map(({ name }) => name));
  });

  test("tell each owner's state by 1 and 0, and nothing of a handler that nobody could ask about", async () => {
    const text = await render(full);
    expect(["default", "other"].map((owner) => sampleValue(text, "shimctl_held", { owner }))).toEqual([0, 1]);
    expect(["default", "other"].map((owner) => sampleValue(text, "shimctl_contended", { owner }))).toEqual([
      1, 0,
    ]);
    expect(["*", "default"].map((owner) => sampleValue(text, "shimctl_hold", { owner }))).toEqual([1, 0]);
    expect(
      ["kata-qemu", "runsc", "crun"].map((handler) =>
        sampleValue(text, "shimctl_handler_served", { handler }),
      ),
    ).toEqual([1, 0, undefined]);
  });

  test("have one state, whichever it is", async () => {
    for (const state of ["in sync", "drifted", "broken"] as const) {
      const samples = parseExposition(await render({ ...nothing, state })).find(
        ({ name }) => name === "shimctl_state",
      )?.samples;
      expect(samples?.filter(({ value }) => value === 1).map(({ labels }) => labels["state"])).toEqual([
        state,
      ]);
    }
  });

  test("are read back as they were, whatever the names are, and are the same each time", async () => {
    const word = fc.string({
      minLength: 1,
      maxLength: 8,
      unit: fc.constantFrom('"', "\\", "\n", "}", ",", "a", "é"),
    });
    await fc.assert(
      fc.asyncProperty(word, word, fc.nat(), async (owner, cause, count) => {
        const facts: Facts = {
          ...nothing,
          handlers: [{ name: "h", owner, served: true }],
          drift: { [cause]: count },
        };
        const text = await render(facts);
        expect(sampleValue(text, "shimctl_handler_served", { owner })).toBe(1);
        expect(sampleValue(text, "shimctl_drift", { cause })).toBe(count);
        expect(await render(facts)).toBe(text);
      }),
      { numRuns: 50 },
    );
  });

  test("stand in docs/metrics.md as the code has them", () => {
    const page = readFileSync(join(repo, "docs", "metrics.md"), "utf8");
    expect(page, "When this is meant: npm run metrics").toBe(withTable(page));
  });
});
