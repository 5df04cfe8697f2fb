import { describe, expect, test } from "bun:test";
import { hasEnded, parseJournal, renderLine, unfinished } from "../../src/transaction/journal.ts";
import { Node } from "../support/node.ts";
import { stateOf } from "../support/transaction.ts";

const begin = renderLine("1", "now", {
  step: "begin",
  command: "install",
  owner: "default",
  previous: [],
  desired: [],
  folders: [],
});
const committed = renderLine("1", "now", { step: "committed", path: "/x", before: null, after: null });
const complete = renderLine("1", "now", { step: "complete" });
const end = renderLine("1", "now", { step: "end", result: "changed" });
const stepsOf = (text: string): string[] => parseJournal(text).map(({ step }) => step);

describe("a journal that a crash or a power cut has damaged", () => {
  const damages: Readonly<Record<string, readonly [text: string, steps: readonly string[]]>> = {
    "a last line without its end": [`${begin}\n${committed}`, ["begin", "committed"]],
    "a last line cut short": [`${begin}\n${committed.slice(0, -9)}`, ["begin"]],
    "a line cut short in the middle": [
      `${begin}\n${committed.slice(0, 50)}\n${complete}\n`,
      ["begin", "complete"],
    ],
    "a line cut short with the next one behind it": [
      `${begin}\n${committed.slice(0, 50)}${complete}\n`,
      ["begin", "complete"],
    ],
    "zeros at its end": [`${begin}\n${committed}\n${"\0".repeat(4096)}`, ["begin", "committed"]],
    "zeros with a later line behind them": [
      `${begin}\n${"\0".repeat(700)}${complete}\n`,
      ["begin", "complete"],
    ],
    "zeros in the middle of a line": [
      `${begin}\n${committed.slice(0, 60)}${"\0".repeat(60)}\n${complete}\n`,
      ["begin", "complete"],
    ],
    "other bytes in the middle": [
      `${begin}\n\u0001\ufffd{]\n{"format":2}\n7\nnull\n\n${complete}\n`,
      ["begin", "complete"],
    ],
    "nothing but zeros": ["\0".repeat(8192), []],
  };
  for (const [what, [text, steps]] of Object.entries(damages)) {
    test(`${what}: every whole line is read`, () => {
      expect(stepsOf(text)).toEqual([...steps]);
      expect([hasEnded(text), unfinished(parseJournal(text)).length]).toEqual([
        false,
        steps.length === 0 ? 0 : 1,
      ]);
    });
  }

  for (const torn of [
    begin.slice(0, 70),
    begin.slice(0, -5),
    committed.slice(0, 20),
    "\0".repeat(100),
    "\0",
  ]) {
    test(`${JSON.stringify(torn.slice(0, 30))} behind an operation that ended leaves nothing open, and the next one is whole`, () => {
      using node = new Node("1.7.24");
      node.place("/var/lib/shimctl/journal", `${begin}\n${complete}\n${end}\n${torn}`, 0o600);
      const state = stateOf(node);
      expect(unfinished(state.lastOperation())).toEqual([]);
      const next = { command: "uninstall", owner: "other", previous: [], desired: [], folders: [] };
      state.append("2", { step: "begin", ...next });
      expect(unfinished(state.lastOperation()).map((open) => open.begin.owner)).toEqual(["other"]);
      state.append("2", { step: "end", result: "changed" });
      expect(state.lastOperation()).toEqual([]);
      expect(state.journal().map(({ step }) => step)).toEqual(["begin", "complete", "end", "begin", "end"]);
    });
  }
});

test.each([
  ["an owner", { owner: "," }],
  ["an owner of shared pieces", { owner: "shared" }],
  ["a root file", { rootFile: "-" }],
])(
  "a line with %s that no run of ours has written is passed over: undoing would write there",
  (_, damage) => {
    const line = JSON.stringify({ ...(JSON.parse(begin) as object), ...damage });
    expect([stepsOf(`${line}\n${committed}\n`), stepsOf(begin)]).toEqual([["committed"], ["begin"]]);
  },
);
