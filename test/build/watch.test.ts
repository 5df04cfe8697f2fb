import { expect, test } from "bun:test";
import process from "node:process";
import { compiled, compiledToWatch } from "../support/binary.ts";
import { importedCase } from "../support/engine_case.ts";
import { childrenOf, Holder } from "../support/holder.ts";
import { idle, memoryAfter } from "../support/holder_memory.ts";
import { Node } from "../support/node.ts";

test("watch holds no more memory after 300 looks than after 100, compiles nothing, and takes 12 MB at most", async () => {
  using node = Node.of(importedCase);
  const [first, last] = await memoryAfter(compiledToWatch(), node, [100, 300]);
  expect(last?.own ?? 0).toBeGreaterThan(1e6);
  expect(last?.own ?? 0).toBeLessThanOrEqual((first?.own ?? 0) * 1.1);
  // Within 300 looks little is compiled yet, and 2 MB within 10,000.
  expect(first?.code ?? 0).toBeGreaterThan(0);
  expect(last?.code).toBe(first?.code ?? 0);
  const still = await idle(compiled(), node, 2_000, 500);
  expect(still.own).toBeLessThanOrEqual(12e6);
});

test("the executable watches by itself, and ends its look and itself within a second", async () => {
  using node = Node.of(importedCase);
  using holder = new Holder(node, undefined, ["kata-qemu"], compiled());
  await holder.until("changed");
  using other = new Holder(node, undefined, ["kata-qemu"], compiled());
  const child = await other.when("there is a look", () => childrenOf(other.pid)[0]);
  const ended = await other.end();
  expect(ended).toMatchObject({ code: 0, signal: null });
  expect(ended.ms).toBeLessThan(1_000);
  expect(() => process.kill(child, 0)).toThrow();
  expect(await holder.end()).toMatchObject({ code: 0 });
});
