import { afterAll, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { main } from "../../src/cli/main.ts";
import { type Looked, parseLooked } from "../../src/watch/looked.ts";
import { begin, type Event, next, type Step } from "../../src/watch/machine.ts";
import { importedCase } from "../support/engine_case.ts";
import { LiveEngine } from "../support/live_engine.ts";
import { Node } from "../support/node.ts";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const engine = new LiveEngine();
afterAll(() => engine.stop());

/** What somebody does to the node at a time. */
interface Deed {
  readonly at: number;
  readonly deed: (node: Node) => void;
}

/** `watch` on a node, by a clock that is set forward: real looks and repairs, an engine that really starts. */
async function simulate(node: Node, deeds: readonly Deed[], end: number) {
  engine.start(node.root, "containerd");
  const starts = engine.starts;
  const startTime = Date.now();
  let now = 0;
  const results: { readonly at: number; readonly result: string; readonly starts: number }[] = [];
  const look = async (mode: "look" | "act"): Promise<Looked | undefined> => {
    let out = "";
    const args = ["watch", "kata-qemu", "--once", "--json", ...(mode === "look" ? ["--dry-run"] : [])];
    await main([...args, ...engine.options(node.root)], {
      out: (text) => {
        out += text;
      },
      err: () => undefined,
      env: node.env,
      outIsTerminal: false,
      errIsTerminal: false,
      signal: new AbortController().signal,
      now: () => new Date(startTime + now),
    });
    return parseLooked(out);
  };
  const settings = {
    settleMs: 30_000,
    intervalMs: 10 * minute,
    delayMs: 0,
    hangMs: hour,
    onDrift: "repair",
  } as const;
  let step: Step = begin(settings, now);
  const waiting = [...deeds].sort((one, other) => one.at - other.at);
  const send = (event: Event) => {
    step = next(step.state, event, now);
  };
  while (now < end) {
    const { child } = step.state;
    if (child !== undefined) {
      const looked = await look(child.mode);
      if (looked !== undefined && child.mode === "act")
        results.push({ at: now, result: looked.result, starts: engine.starts - starts });
      now += 1_000;
      send({ kind: "looked", looked });
      continue;
    }
    const [deed] = waiting;
    const wakeAt = step.wakeAt ?? end;
    if (deed !== undefined && deed.at <= wakeAt) {
      waiting.shift();
      now = Math.max(now, deed.at);
      deed.deed(node);
      send({ kind: "changed" });
    } else {
      now = Math.max(now, wakeAt);
      send({ kind: "tick" });
    }
  }
  return { starts: engine.starts - starts, results, last: step.state.last };
}

const overwrite = (node: Node) => node.overwrite(importedCase);

test("drift at random times over two days is mended each time, within the restart budget", async () => {
  using node = Node.of(importedCase);
  const random = () => Math.floor(Math.random() * 10 * hour);
  // Twice a day is no second writer yet.
  const times = [
    hour + random(),
    13 * hour + random(),
    day + 12 * hour + random(),
    day + 24 * hour + 11 * hour,
  ];
  const { starts, results, last } = await simulate(
    node,
    times.map((at) => ({ at, deed: overwrite })),
    3 * day,
  );
  expect(times).toHaveLength(4);
  expect(starts).toBe(5);
  expect(results.map(({ result }) => result)).toEqual(["changed", ...times.map(() => "repaired")]);
  for (const [index, at] of times.entries()) expect((results[index + 1]?.at ?? 0) - at).toBeLessThan(60_000);
  expect(last?.ready).toBe(true);
});

test("a program that rewrites the file every 5 min for a day costs three restarts, and then nothing more", async () => {
  using node = Node.of(importedCase);
  const block = importedCase.block("default");
  // It leaves nothing of ours, or what it had read, or it takes the drop-in alone.
  const ways = [
    overwrite,
    (each: Node) => each.place(block, each.text(block).replace("privileged", "#privileged")),
    (each: Node) => rmSync(each.root + block, { force: true }),
  ];
  const deeds = Array.from({ length: 287 }, (_, index) => ({
    at: (index + 1) * 5 * minute,
    deed: (each: Node) => {
      try {
        ways[index % ways.length]?.(each);
      } catch {
        // There is nothing of ours to change.
      }
    },
  }));
  const { starts, results, last } = await simulate(node, deeds, day);
  expect(starts).toBe(3);
  const [first, second, third, ...rest] = results.map(({ result }) => result);
  expect([first, second, third]).toEqual(["changed", "repaired", "repaired"]);
  expect(new Set(rest)).toEqual(new Set(["contended"]));
  expect(last?.result).toBe("contended");
  const status = (await node.run(["status", "--json"])).json();
  expect(status).toMatchObject({ contended: { default: { handlers: ["kata-qemu"] } } });
});
