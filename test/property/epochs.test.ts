import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import process from "node:process";
import fc from "fast-check";
import { importedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const runs = Number(process.env["SHIMCTL_TEST_PROPERTY_RUNS"] ?? "60");
const recordPath = "/var/lib/shimctl/record.json";

let temporary: string | undefined;
beforeAll(() => {
  temporary = process.env["TMPDIR"];
  if (existsSync("/dev/shm")) process.env["TMPDIR"] = "/dev/shm";
});
afterAll(() => {
  if (temporary === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = temporary;
});

interface Step {
  readonly command: "install" | "apply" | "uninstall";
  readonly handlers: readonly string[];
  /** `undefined`: a person, without an epoch. */
  readonly epoch: number | undefined;
  readonly instance: "a" | "b";
}

const step: fc.Arbitrary<Step> = fc.record({
  command: fc.constantFrom("install", "install", "apply", "uninstall", "uninstall"),
  handlers: fc.subarray(importedCase.handlers.slice(0, 3)),
  epoch: fc.option(fc.nat(3), { nil: undefined, freq: 8 }),
  instance: fc.constantFrom("a", "b"),
});

interface Document {
  readonly result: "changed" | "unchanged" | "superseded" | "refused";
  readonly handlers: readonly { readonly name: string }[];
  readonly recorded: { readonly epoch: string } | null;
}

async function run(
  node: Node,
  { command, handlers, epoch, instance }: Step,
): Promise<readonly [code: number, document: Document]> {
  const tables = handlers.map((name) => `[handlers.${name}]\n`).join("");
  node.place("/wanted.toml", `format = 1\n${tables === "" ? "[handlers]\n" : tables}`);
  const args =
    command === "uninstall"
      ? ["uninstall", ...(handlers.length === 0 ? ["--all"] : handlers)]
      : command === "install" && handlers.length > 0
        ? ["install", ...handlers]
        : ["apply", "-f", `${node.root}/wanted.toml`];
  const order = epoch === undefined ? [] : ["--epoch", String(epoch), "--instance", instance];
  const ran = await node.run([...args, ...order, "--json", "--restart", "none"]);
  rmSync(`${node.root}/wanted.toml`);
  return [ran.code, ran.json() as unknown as Document];
}

function recordOf(node: Node): string {
  const path = node.root + recordPath;
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

/** Plays the steps on a node, and holds each result against what was seen before it. */
async function play(steps: readonly Step[]): Promise<void> {
  using node = Node.of(importedCase);
  /** The newest epoch that went on, and what ended in it: instances, or all of it. */
  let newest = -1;
  let ended = new Set<string>();
  /** Which instance asked last, within the newest epoch. */
  let askedBy = new Map<string, string>();
  let installed: readonly string[] = [];
  for (const taken of steps) {
    const { command, handlers, epoch, instance } = taken;
    const before = [node.tree(), recordOf(node)];
    const [code, { result, handlers: after, recorded }] = await run(node, taken);
    const left = after.map(({ name }) => name);
    const isMaking = command !== "uninstall";
    if (epoch === undefined && isMaking && newest >= 0) {
      expect([code, result]).toEqual([5, "refused"]);
      expect([node.tree(), recordOf(node)]).toEqual(before);
      continue;
    }
    expect(code).toBe(0);
    const isLate = epoch !== undefined && epoch < newest;
    const isOver = epoch === newest && isMaking && (ended.has(instance) || ended.has("all"));
    expect(result === "superseded").toBe(isLate || isOver);
    if (result === "superseded") {
      expect([node.tree(), recordOf(node), left.toSorted()]).toEqual([...before, installed.toSorted()]);
      continue;
    }
    // What another instance of the same epoch asked for last is not taken from it.
    const others = epoch === newest ? [...askedBy].filter(([, by]) => by !== instance) : [];
    if (!isMaking && epoch !== undefined)
      expect(left).toEqual(expect.arrayContaining(others.map(([name]) => name)));
    if (epoch !== undefined && epoch > newest) {
      newest = epoch;
      ended = new Set();
      askedBy = new Map(installed.map((name) => [name, instance]));
    }
    if (isMaking) for (const name of handlers) askedBy.set(name, instance);
    askedBy = new Map([...askedBy].filter(([name]) => left.includes(name)));
    if (!isMaking && epoch !== undefined && ![...askedBy.values()].includes(instance)) ended.add(instance);
    // A person's uninstall that leaves nothing ends the epoch, whether or not there was anything left of it.
    if (!isMaking && epoch === undefined && left.length === 0) ended.add("all");
    installed = left;
    if (newest >= 0) expect(Number(recorded?.epoch)).toBe(newest);
    const block = importedCase.block("default");
    const text = existsSync(node.root + block) ? node.text(block) : "";
    for (const name of importedCase.handlers)
      expect([name, text.includes(`runtimes.${name}]`)]).toEqual([name, left.includes(name)]);
  }
}

test("epochs never go back, what is late or over changes nothing, and no instance loses what it asked for last", async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 14 }), play), { numRuns: runs });
}, 120_000);
