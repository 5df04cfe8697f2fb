import { describe, expect, test } from "bun:test";
import { existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { engineCases, markedCase } from "../support/engine_case.ts";
import { handler } from "../support/memory.ts";
import { Node, type Ran } from "../support/node.ts";
import { stateOf } from "../support/transaction.ts";

const [kata, second] = markedCase.handlers;
const stateFolder = "/var/lib/shimctl";

function handlersOf(ran: Ran): string[] {
  return (ran.json()["handlers"] as { name: string }[]).map(({ name }) => name).sort();
}

/** Runs with `--json`: the result, and what the owner is left with. */
async function left(node: Node, ...args: string[]): Promise<unknown[]> {
  const ran = await node.run([...args, "--json"]);
  expect(ran.code).toBe(0);
  return [ran.json()["result"], ...handlersOf(ran)];
}

/** Everything that shimctl keeps for itself, with when it was written. */
function stateFiles(node: Node): string[] {
  const folder = node.root + stateFolder;
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const { mtimeNs, ino, size } = lstatSync(`${folder}/${name}`, { bigint: true });
      return `${name} ${ino} ${size} ${mtimeNs}`;
    });
}

describe.each(engineCases)("on $name", (engineCase) => {
  const [kata, second] = engineCase.handlers;

  test("the seed's sequence ends as its newest epoch wants it, whatever arrives late", async () => {
    using node = Node.of(engineCase);
    const before = node.tree();
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["changed", kata]);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["unchanged", kata]);
    expect(await left(node, "uninstall", "--all", "--epoch", "1")).toEqual(["superseded", kata]);
    expect(await left(node, "uninstall", "--all", "--epoch", "2")).toEqual(["changed"]);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded"]);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["superseded"]);
    expect(node.tree()).toEqual(before);
    expect(await left(node, "install", kata, "--epoch", "3")).toEqual(["changed", kata]);
  });

  test("an automatic uninstall or rollback without an epoch does not pass by one that is recorded", async () => {
    using node = Node.of(engineCase);
    await left(node, "install", kata, "--epoch", "2", "--automatic");
    const tree = node.tree();
    for (const late of [["uninstall", "--all"], ["rollback"]]) {
      const ran = await node.run([...late, "--automatic"]);
      expect([ran.code, ran.err]).toEqual([5, expect.stringContaining("without --epoch")]);
      expect(node.tree()).toEqual(tree);
    }
    expect(await left(node, "uninstall", "--all")).toEqual(["changed"]);
  });

  test("a person's uninstall ends an epoch of which only tombstones are left", async () => {
    using node = Node.of(engineCase);
    const [a, b] = ["a", "b"].map((name) => ["--epoch", "2", "--instance", name, "--automatic"]);
    await left(node, "install", kata, ...(a ?? []));
    await left(node, "uninstall", "--all", ...(a ?? []));
    expect(await left(node, "uninstall", "--all")).toEqual(["unchanged"]);
    expect(await left(node, "install", kata, ...(b ?? []))).toEqual(["superseded"]);
  });

  test("an epoch that is damaged in the record comes back from the journal", async () => {
    using node = Node.of(engineCase);
    const damage = (from: RegExp, to: string) => {
      const record = node.text(`${stateFolder}/record.json`);
      expect(record).toMatch(from);
      node.place(`${stateFolder}/record.json`, record.replace(from, to), 0o600);
    };
    await left(node, "install", kata, "--epoch", "5", "--automatic");
    damage(/"epoch": "5"/, '"epoch": 5');
    expect(await left(node, "uninstall", "--all", "--epoch", "1", "--automatic")).toEqual([
      "superseded",
      kata,
    ]);
    await left(node, "uninstall", "--all", "--epoch", "5", "--automatic");
    damage(/"epoch": "5"/, '"epoch": 5');
    expect(await left(node, "install", kata, "--epoch", "4", "--automatic")).toEqual(["superseded"]);
  });

  test("what is superseded writes nothing at all, and is the same for diff and --dry-run", async () => {
    using node = Node.of(engineCase);
    await node.run(["install", kata, "--epoch", "2", "--instance", "b"]);
    const before = [node.tree(), stateFiles(node)];
    const late = ["uninstall", "--all", "--epoch", "1", "--instance", "a"];
    for (const args of [late, ["diff", ...late], [...late, "--dry-run"]]) {
      const ran = await node.run([...args, "--json"]);
      const { result, recorded, changes } = ran.json();
      expect([ran.code, result, changes]).toEqual([0, "superseded", []]);
      expect(recorded).toEqual({ epoch: "2", instance: "b", uninstalled: false });
      const told = await node.run(args);
      expect([told.code, told.out, told.err]).toEqual([
        0,
        "superseded: nothing was done, as owner 'default' is at epoch 2, instance b, which is newer than epoch 1, instance a\n",
        "",
      ]);
    }
    expect([node.tree(), stateFiles(node)]).toEqual(before);
  });

  test("of equal epochs, an uninstall removes what its own instance installed, and says what stays", async () => {
    using node = Node.of(engineCase);
    const a = ["--epoch", "1", "--instance", "a"];
    const b = ["--epoch", "1", "--instance", "b"];
    await node.run(["install", kata, ...a]);
    expect(await left(node, "install", second, ...b)).toEqual(["changed", ...[kata, second].sort()]);
    const removed = await node.run(["uninstall", "--all", ...a, "--json"]);
    expect(removed.json()["notes"]).toEqual([
      `handler '${second}' stays, as instance b of the same epoch asked for it`,
    ]);
    expect(handlersOf(removed)).toEqual([second]);
    // It is gone, and what it asked for comes late; the other is still there, and may ask.
    expect(await left(node, "install", kata, ...a)).toEqual(["superseded", second]);
    expect(await left(node, "install", kata, ...b)).toEqual(["changed", ...[kata, second].sort()]);
    expect(await left(node, "uninstall", "--all", ...b)).toEqual(["changed"]);
  });

  test("a handler is the last instance's that asked for it, though that changed no file", async () => {
    using node = Node.of(engineCase);
    await node.run(["install", kata, "--epoch", "1", "--instance", "old-pod"]);
    expect(await left(node, "install", kata, "--epoch", "1", "--instance", "new-pod")).toEqual([
      "unchanged",
      kata,
    ]);
    expect(await left(node, "uninstall", kata, "--epoch", "1", "--instance", "old-pod")).toEqual([
      "unchanged",
      kata,
    ]);
    expect(await left(node, "uninstall", kata, "--epoch", "1", "--instance", "new-pod")).toEqual(["changed"]);
  });
});

describe("what is recorded", () => {
  test("is a newer epoch that finds nothing to change, once and without a journal line", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "1"]);
    const journal = node.text(`${stateFolder}/journal`);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["unchanged", kata]);
    expect(node.text(`${stateFolder}/journal`)).toBe(journal);
    const before = stateFiles(node);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["unchanged", kata]);
    expect(stateFiles(node)).toEqual(before);
  });

  test("is the uninstall of an owner that has nothing: a late install is superseded", async () => {
    using node = Node.of(markedCase);
    expect(await left(node, "uninstall", kata, "--epoch", "1")).toEqual(["unchanged"]);
    const before = stateFiles(node);
    expect(await left(node, "uninstall", kata, "--epoch", "1")).toEqual(["unchanged"]);
    expect(await left(node, "install", kata, "--epoch", "0")).toEqual(["superseded"]);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded"]);
    expect(stateFiles(node)).toEqual(before);
    expect(await left(node, "install", kata, "--epoch", "now")).toEqual(["changed", kata]);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["unchanged", kata]);
  });

  test("is no end where an uninstall leaves something of its instance", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, second, "--epoch", "1"]);
    expect(await left(node, "uninstall", kata, "--epoch", "2")).toEqual(["changed", second]);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded", second]);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["changed", kata, second].sort());
  });

  test("is the epoch of a file that asks for nothing, and no end", async () => {
    using node = Node.of(markedCase);
    node.place("/none.toml", "format = 1\n[handlers]\n");
    const none = ["apply", "-f", `${node.root}/none.toml`];
    await node.run(["install", kata, "--epoch", "1"]);
    expect(await left(node, ...none, "--epoch", "2")).toEqual(["changed"]);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded"]);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["changed", kata]);
    expect(await left(node, ...none, "--epoch", "3")).toEqual(["changed"]);
    expect(await left(node, "uninstall", "--all")).toEqual(["unchanged"]);
    expect(await left(node, "install", kata, "--epoch", "3")).toEqual(["superseded"]);
  });

  test("is each owner's own, and each configuration's", async () => {
    using node = Node.of(markedCase);
    node.place("/etc/other.toml", node.text(markedCase.main));
    await node.run(["install", kata, "--epoch", "9"]);
    // A name that every object knows has no order either.
    expect(await left(node, "install", second, "--epoch", "1", "--owner", "constructor")).toEqual([
      "changed",
      second,
    ]);
    const elsewhere = ["--config", "/etc/other.toml"];
    expect(await left(node, "install", kata, "--epoch", "1", ...elsewhere)).toEqual(["changed", kata]);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded", kata]);
  });

  test("is told by status", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "2026-01-01T00:00:00.5+01:00", "--instance", "a"]);
    await node.run(["uninstall", "--all", "--epoch", "7", "--owner", "gone"]);
    const { out } = await node.run(["status"]);
    expect(out).toContain("epoch: owner 'default' is at 2025-12-31T23:00:00.5Z, instance a\n");
    expect(out).toContain("epoch: owner 'gone' was uninstalled at 7\n");
    expect((await node.run(["status", "--json"])).json()["epochs"]).toEqual({
      default: { epoch: "2025-12-31T23:00:00.5Z", instance: "a", uninstalled: false },
      gone: { epoch: "7", instance: "", uninstalled: true },
    });
  });

  test("lasts 30 days where nothing is left", async () => {
    using node = Node.of(markedCase);
    await node.run(["uninstall", "--all", "--epoch", "5"]);
    const path = `${stateFolder}/record.json`;
    const monthAgo = new Date(Date.now() - 31 * 86_400_000).toISOString();
    node.place(path, node.text(path).replace(/"time": "[^"]*"/, `"time": "${monthAgo}"`), 0o600);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["changed", kata]);
    expect(node.text(path)).not.toContain("tombstones");
  });
});

describe("a lost record", () => {
  const lose = (node: Node) => rmSync(`${node.root}${stateFolder}/record.json`);

  test("is no way back for what is late, as the journal tells of every change", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "2"]);
    lose(node);
    expect(await left(node, "uninstall", "--all", "--epoch", "1")).toEqual(["superseded"]);
    expect((await node.run(["install", second])).err).toContain("has one recorded: epoch 2");
    expect(await left(node, "uninstall", "--all", "--epoch", "2")).toEqual(["changed"]);
    lose(node);
    for (const epoch of ["1", "2"])
      expect(await left(node, "install", kata, "--epoch", epoch)).toEqual(["superseded"]);
    expect(await left(node, "install", kata, "--epoch", "3")).toEqual(["changed", kata]);
  });

  test("keeps whose handlers they are, and that a person ended an epoch", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "2", "--instance", "a"]);
    await node.run(["install", second, "--epoch", "2", "--instance", "b"]);
    lose(node);
    expect(await left(node, "uninstall", "--all", "--epoch", "2", "--instance", "a")).toEqual([
      "changed",
      second,
    ]);
    expect(await left(node, "uninstall", "--all")).toEqual(["changed"]);
    lose(node);
    expect(await left(node, "install", kata, "--epoch", "2", "--instance", "c")).toEqual(["superseded"]);
  });

  test("keeps the epoch of another owner, which the next change does not write away", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "2", "--owner", "other"]);
    await node.run(["uninstall", "--all", "--epoch", "3", "--owner", "gone"]);
    await node.run(["install", second, "--epoch", "4", "--owner", "gone"]);
    await node.run(["uninstall", "--all", "--epoch", "5", "--owner", "gone"]);
    lose(node);
    expect(await left(node, "install", second, "--epoch", "1")).toEqual(["changed", second]);
    expect(await left(node, "uninstall", "--all", "--epoch", "1", "--owner", "other")).toEqual([
      "superseded",
      kata,
    ]);
    expect(await left(node, "install", second, "--epoch", "5", "--owner", "gone")).toEqual(["superseded"]);
  });
});

describe("a command without an epoch", () => {
  test("is refused where one is recorded, with what to pass, and writes nothing", async () => {
    using node = Node.of(markedCase);
    node.place("/handlers.toml", `format = 1\n[handlers.${second}]\n`);
    for (const setUp of [
      ["install", kata],
      ["uninstall", "--all"],
    ] as const) {
      await node.run([...setUp, "--epoch", "5", "--instance", "a"]);
      const before = [node.tree(), stateFiles(node)];
      for (const args of [
        ["install", second],
        ["apply", "-f", `${node.root}/handlers.toml`],
        ["diff", "install", second],
      ]) {
        const { code, err } = await node.run(args);
        expect(code).toBe(5);
        expect(err).toContain("without --epoch, as owner 'default' has one recorded: epoch 5, instance a");
        expect(err).toContain("next: pass --epoch now");
      }
      expect([node.tree(), stateFiles(node)]).toEqual(before);
    }
    expect(await left(node, "install", second, "--epoch", "now")).toEqual(["changed", second]);
  });

  test("is `diff` alone, which shows what would mend the owner's drift", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "5"]);
    node.overwrite(markedCase);
    const { code, out } = await node.run(["diff"]);
    expect([code, out.includes(`+runtime_type = `)]).toEqual([0, true]);
  });

  test("is a person's uninstall: it removes any instance's, and only a newer epoch comes back", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "5", "--instance", "a"]);
    await node.run(["install", second, "--epoch", "5", "--instance", "b"]);
    // Of a part, it changes nothing of the order.
    expect(await left(node, "uninstall", kata)).toEqual(["changed", second]);
    expect(await left(node, "install", kata, "--epoch", "4")).toEqual(["superseded", second]);
    expect(await left(node, "uninstall", "--all")).toEqual(["changed"]);
    for (const instance of ["a", "b", "c"])
      expect(await left(node, "install", kata, "--epoch", "5", "--instance", instance)).toEqual([
        "superseded",
      ]);
    expect(await left(node, "install", kata, "--epoch", "6", "--instance", "c")).toEqual(["changed", kata]);
  });
});

describe("an epoch that cannot be used", () => {
  const hourAhead = new Date(Date.now() + 2 * 3_600_000).toISOString();
  test.each([
    [["--epoch", "soon"], "Cannot read --epoch, which must be a whole number of up to 18 digits"],
    [["--epoch", "-1"], "Cannot read --epoch"],
    [["--epoch", "1", "--instance", "a b"], "Cannot use --instance, which must be at most 128 letters"],
    [["--instance", "a"], "Cannot use --instance without --epoch"],
    [["--epoch", hourAhead], "Cannot use --epoch, which is more than an hour ahead of the node's clock"],
  ])("is a usage error before anything is written: %j", async (more, message) => {
    using node = Node.of(markedCase);
    const before = node.tree();
    for (const args of [
      ["install", kata],
      ["uninstall", "--all"],
      ["diff", "install", kata],
    ]) {
      const { code, err } = await node.run([...args, ...more]);
      expect([code, err]).toEqual([2, expect.stringContaining(message)]);
    }
    // Not even the lock was waited for.
    expect([node.tree(), stateFiles(node), existsSync(`${node.root}/run/shimctl`)]).toEqual([
      before,
      [],
      false,
    ]);
  });

  test("is told by the variable that gave it", async () => {
    using node = Node.of(markedCase);
    const run = (env: Record<string, string>) => node.run(["install", kata], env);
    expect((await run({ SHIMCTL_EPOCH: "x" })).err).toContain("Cannot read SHIMCTL_EPOCH");
    expect((await run({ SHIMCTL_EPOCH: "1", SHIMCTL_INSTANCE: "/" })).err).toContain("SHIMCTL_INSTANCE");
    expect((await run({ SHIMCTL_EPOCH: "2", SHIMCTL_INSTANCE: "pod" })).code).toBe(0);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded", kata]);
  });

  test("is a number beside a recorded time, or a time beside a number", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "5"]);
    const before = [node.tree(), stateFiles(node)];
    for (const command of [
      ["install", second],
      ["uninstall", "--all"],
    ]) {
      const { code, err } = await node.run([...command, "--epoch", "2026-01-01T00:00:00Z"]);
      expect(code).toBe(5);
      expect(err).toContain(
        "Cannot compare a time as --epoch with what owner 'default' has recorded, a number",
      );
      expect(err).toContain("next: pass a number, or --epoch now");
    }
    expect([node.tree(), stateFiles(node)]).toEqual(before);
  });
});

describe("an operation that was cut short", () => {
  const order = (epoch: string, ends: boolean, instances = {}) => ({ epoch, instance: "p", instances, ends });
  const begin = { step: "begin" as const, owner: "default", engine: "containerd", folders: [] };

  test("and is undone leaves its epoch: an older one is superseded, its own may try again", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "1"]);
    const previous =
      stateOf(node).readRecord().record.roots[markedCase.rootFile]?.owners["default"]?.handlers;
    stateOf(node).append("1", {
      ...begin,
      command: "uninstall",
      rootFile: markedCase.rootFile,
      previous: Object.values(previous ?? {}),
      desired: [],
      order: order("2", true),
    });
    expect(await left(node, "uninstall", "--all", "--epoch", "1")).toEqual(["superseded", kata]);
    expect(await left(node, "uninstall", "--all", "--epoch", "2", "--instance", "p")).toEqual(["changed"]);
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded"]);
  });

  test("and was the first of its owner leaves its epoch as well", async () => {
    using node = Node.of(markedCase);
    const before = node.tree();
    stateOf(node).append("1", {
      ...begin,
      command: "install",
      rootFile: markedCase.rootFile,
      previous: [],
      desired: [handler(kata)],
      order: order("2", false, { [kata]: "p" }),
    });
    expect(await left(node, "install", kata, "--epoch", "1")).toEqual(["superseded"]);
    expect((await node.run(["status"])).code).toBe(0);
    expect(node.tree()).toEqual(before);
    expect(await left(node, "install", kata, "--epoch", "2")).toEqual(["changed", kata]);
  });

  test("and is finished leaves its tombstone", async () => {
    using node = Node.of(markedCase);
    stateOf(node).append("1", {
      ...begin,
      command: "uninstall",
      rootFile: markedCase.rootFile,
      previous: [handler(kata)],
      desired: [],
      order: order("2", true),
    });
    stateOf(node).append("1", { step: "complete" });
    expect(await left(node, "install", kata, "--epoch", "2", "--instance", "p")).toEqual(["superseded"]);
    expect(await left(node, "install", kata, "--epoch", "3", "--instance", "p")).toEqual(["changed", kata]);
  });

  test("is told with the notes where what comes then is superseded", async () => {
    using node = Node.of(markedCase);
    await node.run(["install", kata, "--epoch", "3"]);
    stateOf(node).append("1", {
      ...begin,
      command: "uninstall",
      rootFile: markedCase.rootFile,
      previous: [],
      desired: [],
    });
    const { out, err } = await node.run(["install", second, "--epoch", "1"]);
    expect(err).toContain("undid an uninstall of owner 'default' that was cut short");
    expect(out).toStartWith("superseded: ");
  });
});
