import { describe, expect, test } from "bun:test";
import { readdirSync, rmSync, symlinkSync } from "node:fs";
import { engineCases, importedCase, markedCase } from "../support/engine_case.ts";
import { Node, type Ran } from "../support/node.ts";

interface Shown {
  readonly id: string;
  readonly short: string;
  readonly command: string;
  readonly owner: string;
  readonly result: string;
  readonly why: string | null;
  readonly reverts: readonly string[];
  readonly mends: { readonly cause: string; readonly handlers: readonly string[] } | null;
  readonly handlers: { readonly added: string[]; readonly removed: string[] };
  readonly files: readonly { readonly path: string; readonly action: string }[];
}

async function operations(node: Node, ...more: string[]): Promise<readonly Shown[]> {
  const ran = await node.run(["log", "--json", ...more]);
  expect(ran.code).toBe(0);
  return ran.json()["operations"] as readonly Shown[];
}

async function done(
  node: Node,
  args: readonly string[],
  env?: Readonly<Record<string, string>>,
): Promise<Ran> {
  const ran = await node.run(args, env);
  expect([args, ran.code, ran.err]).toEqual([args, 0, expect.any(String)]);
  return ran;
}

function journalOf(node: Node): string {
  return node.text("/var/lib/shimctl/journal");
}

const inPod = { KUBERNETES_SERVICE_HOST: "10.0.0.1" };

test("a damaged time in the journal keeps no command from working where the record is lost", async () => {
  using node = Node.of(markedCase);
  const [kata, second] = markedCase.handlers;
  await done(node, ["install", kata]);
  await done(node, ["uninstall", "--all"]);
  const damaged = journalOf(node).replace(/"time":"\d{4}-\d\d/g, '"time":"2026-91');
  node.place("/var/lib/shimctl/journal", damaged, 0o600);
  rmSync(`${node.root}/var/lib/shimctl/record.json`);
  for (const args of [["hold"], ["release"], ["install", second], ["rollback"], ["log"]])
    await done(node, args);
});

test("a hold that an install has ended does not come back with a lost record", async () => {
  using node = Node.of(markedCase);
  const [kata, second] = markedCase.handlers;
  await done(node, ["install", kata, second]);
  await done(node, ["uninstall", second]);
  await done(node, ["install", kata]);
  rmSync(`${node.root}/var/lib/shimctl/record.json`);
  await done(node, ["install", kata, "--automatic"]);
});

test("a hold is told where the record is lost, as automatic runs heed it", async () => {
  using node = Node.of(markedCase);
  const [kata, second] = markedCase.handlers;
  await done(node, ["install", kata]);
  await done(node, ["hold", "--reason", "disk"]);
  rmSync(`${node.root}/var/lib/shimctl/record.json`);
  expect((await node.run(["install", second, "--automatic"])).code).toBe(12);
  const { holds } = (await node.run(["status", "--json"])).json();
  expect(holds).toMatchObject({ default: { reason: "disk", by: "hold" } });
  expect((await node.run(["status", "--format", "prometheus"])).out).toContain(
    'shimctl_hold{owner="default"} 1',
  );
});

describe.each(engineCases)("rollback on $name", (engineCase) => {
  const { handlers, block, main } = engineCase;
  const [kata, second, third] = handlers;
  const ours = block("default");

  test("names the owner from whom handlers were taken over, and the command that gives them back does so", async () => {
    using node = Node.of(engineCase);
    await done(node, ["install", kata, "--owner", "one"]);
    await done(node, ["install", kata, "--owner", "two", "--adopt"]);
    const tree = node.tree();
    const ran = await node.run(["rollback", "--owner", "two"]);
    expect([ran.code, ran.err]).toEqual([5, expect.stringContaining("--adopt --owner one")]);
    expect(node.tree()).toEqual(tree);
    await done(node, ["install", kata, "--adopt", "--owner", "one"]);
    expect((await node.run(["status", "--json"])).json()["owners"]).toMatchObject([{ owner: "one" }]);
  });

  test("of an install, an uninstall and a rollback gives the very bytes back, again and again", async () => {
    using node = Node.of(engineCase);
    const empty = node.tree();
    await done(node, ["install", kata]);
    const first = node.tree();
    await done(node, ["install", second]);
    const both = node.tree();
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(first);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(both);
    await done(node, ["uninstall", "--all"]);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(both);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(empty);
    expect((await node.run(["status"])).code).toBe(0);
  });

  test("--to leads to how that operation left things, over all that came after it", async () => {
    using node = Node.of(engineCase);
    node.place("/usr/bin/conmon", "#!/bin/sh\n", 0o755);
    await done(node, ["install", kata]);
    const first = node.tree();
    await done(node, ["install", second]);
    await done(node, ["uninstall", kata]);
    await done(node, ["install", third]);
    const last = node.tree();
    const [one, , , four] = await operations(node);
    const ran = await done(node, ["rollback", "--to", one?.short ?? "", "--json"]);
    expect((ran.json()["handlers"] as { name: string }[]).map(({ name }) => name)).toEqual([kata]);
    expect(node.tree()).toEqual(first);
    expect((await operations(node)).at(-1)?.reverts).toHaveLength(3);
    await done(node, ["rollback", "--to", four?.id ?? ""]);
    expect(node.tree()).toEqual(last);
  });

  test("takes the last change back, with what watch had to put right since, and leads forward again", async () => {
    using node = Node.of(engineCase);
    await done(node, ["install", kata, "--automatic"]);
    const first = node.tree();
    await done(node, ["install", second, "--automatic"]);
    const both = node.tree();
    node.overwrite(engineCase);
    await done(node, ["watch", kata, second, "--once"]);
    expect(node.tree()).toEqual(both);
    const [install, , mended] = await operations(node);
    expect([install?.mends, mended?.mends]).toEqual([
      null,
      { cause: "gone", handlers: [kata, second].sort() },
    ]);
    expect((await node.run(["log"])).out).toMatch(/ {2}mends what others did: gone; by [^\n]*, automatic\n$/);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(first);
    expect((await operations(node)).at(-1)?.reverts).toHaveLength(2);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(both);
  });

  test("of an install that put back what had gone leaves nothing of the owner's, and leads forward again", async () => {
    using node = Node.of(engineCase);
    const empty = node.tree();
    await done(node, ["install", kata]);
    const installed = node.tree();
    const theirs = engineCase.files[ours];
    if (theirs === undefined) rmSync(`${node.root}${ours}`);
    else node.place(ours, theirs);
    await done(node, ["install", kata]);
    expect(node.tree()).toEqual(installed);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(empty);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(installed);
  });

  test("keeps what an administrator wrote in the meantime, and another owner's handlers", async () => {
    using node = Node.of(engineCase);
    await done(node, ["install", second, "--owner", "other"]);
    const without = node.text(main);
    await done(node, ["install", kata]);
    await done(node, ["install", third, "--owner", "late"]);
    node.place(main, `# of the administrator\n${node.text(main)}`);
    await done(node, ["rollback"]);
    expect(node.text(main).startsWith("# of the administrator\n")).toBe(true);
    expect(node.text(main)).not.toContain(kata);
    const status = (await node.run(["status", "--json"])).json();
    const owners = (status["owners"] as { owner: string; handlers: string[] }[]).map((each) => [
      each.owner,
      ...each.handlers,
    ]);
    expect([status["result"], owners.toSorted()]).toEqual([
      "in sync",
      [
        ["late", third],
        ["other", second],
      ],
    ]);
    await done(node, ["uninstall", "--all", "--owner", "late"]);
    expect(node.text(main)).toBe(`# of the administrator\n${without}`);
  });

  test("is refused with the file where somebody changed the same lines, and writes nothing", async () => {
    using node = Node.of(engineCase);
    await done(node, ["install", kata]);
    await done(node, ["install", second]);
    const text = node.text(ours);
    node.place(ours, text.replace(/(.*BEGIN shimctl default.*\n)/, "$1# edited\n"));
    const before = [node.tree(), journalOf(node)];
    const ran = await node.run(["rollback", "--json"]);
    const error = ran.json()["error"] as { code: string; path: string; state: string };
    expect([ran.code, error.code, error.path, error.state]).toEqual([
      5,
      "conflict",
      ours,
      "nothing was written",
    ]);
    node.overwrite(engineCase);
    const gone = await node.run(["rollback"]);
    expect([gone.code, gone.err]).toEqual([5, expect.stringContaining(`at: ${ours}`)]);
    node.place(ours, text.replace(/(.*BEGIN shimctl default.*\n)/, "$1# edited\n"));
    expect([node.tree()[ours], journalOf(node)]).toEqual([
      (before[0] as Record<string, string>)[ours] ?? "",
      before[1] as string,
    ]);
  });

  test("tells why a file cannot be read, and does not take that for somebody's change", async () => {
    using node = Node.of(engineCase);
    await done(node, ["install", kata]);
    rmSync(node.root + ours);
    symlinkSync(ours.slice(ours.lastIndexOf("/") + 1), node.root + ours);
    const tree = node.tree();
    const ran = await node.run(["rollback"]);
    expect(ran.code).not.toBe(0);
    expect(ran.err).toContain("its symbolic links do not end");
    expect(ran.err).not.toContain("somebody changed");
    expect(node.tree()).toEqual(tree);
  });

  test("of an adoption gives others their definition back, and only whole", async () => {
    using node = Node.of(engineCase, {
      ...engineCase.files,
      [main]: `${engineCase.files[main]}\n${engineCase.define(kata)}`,
    });
    const theirs = node.tree();
    await done(node, ["install", kata, "--adopt=replace"]);
    const adopted = node.text(main);
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(theirs);
    expect((await node.run(["status"])).code).toBe(0);
    await done(node, ["install", kata, "--adopt=replace"]);
    expect(node.text(main)).toBe(adopted);
    node.place(main, `# edited since\n${adopted}`);
    const before = node.tree();
    const ran = await node.run(["rollback"]);
    expect([ran.code, ran.err]).toEqual([5, expect.stringContaining("took handlers over from this file")]);
    expect(node.tree()).toEqual(before);
  });

  test("works from what the journal says when the stored bytes are gone", async () => {
    using node = Node.of(engineCase);
    const empty = node.tree();
    await done(node, ["install", kata]);
    const first = node.tree();
    await done(node, ["uninstall", "--all"]);
    rmSync(`${node.root}/var/lib/shimctl/store`, { recursive: true });
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(first);
    rmSync(`${node.root}/var/lib/shimctl/store`, { recursive: true, force: true });
    await done(node, ["rollback"]);
    expect(node.tree()).toEqual(empty);
  });

  test("of an uninstall is refused while what the handlers need is not on the host", async () => {
    using node = Node.of(engineCase, { ...engineCase.files });
    node.place("/opt/mine/shim", "#!/bin/sh\n", 0o755);
    node.place(
      "/handlers.toml",
      "format = 1\n[handlers.mine.containerd]\nruntime_type = '/opt/mine/shim'\n[handlers.mine.crio]\nruntime_path = '/opt/mine/shim'\n",
    );
    await done(node, ["install", "-f", `${node.root}/handlers.toml`]);
    const installed = node.tree();
    await done(node, ["uninstall", "--all"]);
    rmSync(`${node.root}/opt/mine/shim`);
    const before = node.tree();
    const refused = await node.run(["rollback", "--json"]);
    expect([refused.code, refused.json()["error"]]).toMatchObject([3, { code: "missing-on-host" }]);
    expect(node.tree()).toEqual(before);
    await done(node, ["rollback", "--allow-missing"]);
    node.place("/opt/mine/shim", "#!/bin/sh\n", 0o755);
    expect(node.tree()).toEqual(installed);
  });

  test("--dry-run shows what rollback then does, and writes nothing", async () => {
    using node = Node.of(engineCase);
    await done(node, ["install", kata, second]);
    const before = [node.tree(), journalOf(node)];
    const dry = (await done(node, ["rollback", "--dry-run", "--json"])).json();
    expect([node.tree(), journalOf(node)]).toEqual(before);
    expect((dry["changes"] as unknown[]).length).toBeGreaterThan(0);
    expect((await done(node, ["rollback", "--json"])).json()["changes"]).toEqual(dry["changes"]);
  });
});

describe("rollback", () => {
  test("with nothing to take back is unchanged, says so and writes nothing of ours", async () => {
    using node = Node.of(importedCase);
    const ran = await done(node, ["rollback"]);
    expect([ran.out, ran.err]).toEqual([
      "unchanged: owner 'default' has no handlers\n",
      expect.stringContaining("no operation of owner 'default' to take back"),
    ]);
    expect(node.tree()).toEqual(Node.of(importedCase).tree());
    await done(node, ["install", "kata-qemu", "--owner", "other"]);
    expect((await done(node, ["rollback", "--json"])).json()["result"]).toBe("unchanged");
  });

  test("of what only took a second definition out is refused, with where that is kept", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu"]);
    node.place(importedCase.main, `${node.text(importedCase.main)}\n${importedCase.define("kata-qemu")}`);
    await done(node, ["install", "kata-qemu", "--adopt=replace"]);
    const before = node.tree();
    const ran = await node.run(["rollback"]);
    expect([ran.code, ran.err]).toEqual([5, expect.stringContaining("took handlers over from this file")]);
    expect(ran.err).toContain(`at: ${importedCase.main}\n`);
    expect(ran.err).toContain("/var/lib/shimctl/store");
    expect(node.tree()).toEqual(before);
  });

  test("of what only put markers back is told to change nothing, and how to go further", async () => {
    using node = Node.of(importedCase);
    const ours = importedCase.block("default");
    await done(node, ["install", "kata-qemu"]);
    node.place(ours, node.text(ours).replace(/ ?# .*/g, ""));
    await done(node, ["install", "kata-qemu"]);
    const before = node.tree();
    const ran = await done(node, ["rollback"]);
    expect(ran.out).toBe("unchanged: owner 'default' has kata-qemu\n");
    expect(ran.err).toMatch(
      /^warn: [0-9a-f]{8} changed no handler of owner 'default'; --to goes further back/,
    );
    expect(node.tree()).toEqual(before);
  });

  test("brings the definition of a preset back that a handler was installed with", async () => {
    using node = Node.of(importedCase);
    node.place("/handlers.toml", "format = 1\n[handlers.kata-qemu]\nsnapshotter = 'devmapper'\n");
    await done(node, ["install", "kata-qemu"]);
    const record = () =>
      (
        JSON.parse(node.text("/var/lib/shimctl/record.json")) as {
          roots: Record<string, { owners: Record<string, { bases: unknown }> }>;
        }
      ).roots[importedCase.rootFile]?.owners["default"]?.bases;
    const bases = record();
    expect(bases).toBeDefined();
    await done(node, ["uninstall", "--all"]);
    await done(node, ["rollback"]);
    expect(record()).toEqual(bases);
  });

  test("keeps an import that another owner's drop-in has come to need", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu"]);
    await done(node, ["install", "crun", "--owner", "other"]);
    await done(node, ["rollback"]);
    const status = (await node.run(["status", "--json"])).json();
    const names = (status["handlers"] as { name: string }[]).map(({ name }) => name);
    expect([status["result"], names]).toEqual(["in sync", ["crun", "runc"]]);
  });

  test("puts a block back where it stood between the administrator's tables", async () => {
    using node = Node.of(markedCase);
    // The last uninstall of all empties the store, and then only the meaning comes back.
    await done(node, ["install", "crun", "--owner", "other"]);
    await done(node, ["install", "kata-qemu"]);
    node.place(markedCase.main, `${node.text(markedCase.main)}\n[debug]\n  level = "info"\n`);
    const between = node.text(markedCase.main);
    await done(node, ["uninstall", "--all"]);
    const without = node.text(markedCase.main);
    await done(node, ["rollback"]);
    expect(node.text(markedCase.main)).toBe(between);
    await done(node, ["rollback"]);
    expect(node.text(markedCase.main)).toBe(without);
  });

  test("is a person's at any epoch, and leaves the order of incarnations as it is", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "crun", "--epoch", "5"], inPod);
    await done(node, ["install", "kata-qemu", "--epoch", "6"], inPod);
    await done(node, ["rollback"]);
    const late = await done(node, ["rollback", "--epoch", "5", "--json"]);
    expect(late.json()["result"]).toBe("superseded");
    await done(node, ["release"]);
    const again = await done(node, ["install", "kata-qemu", "--epoch", "6", "--json"], inPod);
    expect(again.json()["result"]).toBe("changed");
  });

  test("refuses an ID that is none, another owner's, or of what left nothing, with exit code 2", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu", "--owner", "other"]);
    await done(node, ["hold"]);
    const [install, hold] = await operations(node);
    const before = [node.tree(), journalOf(node)];
    for (const [to, why] of [
      ["ffffffffffff", "no operation has an ID that begins with"],
      [install?.short ?? "", "it is one of owner 'other'"],
      [hold?.short ?? "", "it left nothing"],
      [(install?.id ?? "").slice(0, 2), "so short a part"],
    ] as const) {
      const ran = await node.run(["rollback", "--to", to]);
      expect([ran.code, ran.err]).toEqual([2, expect.stringContaining(why)]);
    }
    expect([node.tree(), journalOf(node)]).toEqual(before);
  });
});

for (const command of [["uninstall", "--all"], ["uninstall", "crun"], ["rollback"], ["hold"], ["release"]])
  test(`${command.join(" ")} names the owners who have handlers, where nobody named one and the usual one has none`, async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu", "--owner", "cluster"]);
    const words = "owner 'default' has no handlers on this node, and others have: --owner cluster";
    expect((await done(node, command)).err).toContain(`${words}\n`);
    expect((await done(node, [...command, "--json"])).json()["notes"]).toContain(words);
    expect((await done(node, [...command, "--owner", "default"])).err).not.toContain("others have");
    await done(node, ["install", "crun"]);
    expect((await done(node, ["hold"])).err).not.toContain("others have");
  });

describe("log", () => {
  test("lists every operation with what it did, in both forms", async () => {
    using node = Node.of(markedCase);
    await done(node, ["install", "kata-qemu"]);
    await done(node, ["apply", "-f", placed(node), "--owner", "platform", "--automatic"]);
    await done(node, ["hold", "--reason", "maintenance"]);
    await done(node, ["rollback"]);
    const all = await operations(node);
    expect<unknown>(
      all.map(({ owner, command, result, handlers, files }) => [
        owner,
        command,
        result,
        handlers,
        files.length,
      ]),
    ).toEqual([
      ["default", "install", "changed", { added: ["kata-qemu"], removed: [], updated: [] }, 1],
      ["platform", "apply", "changed", { added: ["crun"], removed: [], updated: [] }, 1],
      ["default", "hold", "held", { added: [], removed: [], updated: [] }, 0],
      ["default", "rollback", "changed", { added: [], removed: ["kata-qemu"], updated: [] }, 1],
    ]);
    expect(all[3]?.reverts).toEqual([all[0]?.id ?? ""]);
    const lines = (await done(node, ["log"])).out.trimEnd().split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[1]).toContain(`${all[0]?.short}  default   install   changed  +kata-qemu`);
    expect(lines[2]).toMatch(/automatic$/);
    expect(lines[3]).toContain("maintenance");
    expect(lines[4]).toContain(`takes back ${all[0]?.short}`);
  });

  test("is narrowed by owner, file and time", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu"]);
    await done(node, ["install", "crun", "--owner", "other"]);
    const commands = async (...more: string[]) => (await operations(node, ...more)).map(({ owner }) => owner);
    expect(await commands("--owner", "other")).toEqual(["other"]);
    expect(await commands("--file", importedCase.rootFile)).toEqual(["default"]);
    expect(await commands("--file", importedCase.block("other"))).toEqual(["other"]);
    expect(await commands("--since", "1h")).toEqual(["default", "other"]);
    expect(await commands("--since", "2999-01-01")).toEqual([]);
    expect((await node.run(["log", "--since", "2999-01-01"])).out).toBe(
      "nothing of that kind was done, as far as the journal goes, which has 2 in all\n",
    );
    expect(await commands("--since", "2020-01-01T00:00:00Z")).toEqual(["default", "other"]);
    expect((await node.run(["log"], { SHIMCTL_FILE: "/handlers.toml" })).out).toContain("crun");
    expect((await node.run(["log", "--since", "yesterday"])).code).toBe(2);
  });

  test("shows what is unfinished, passes damaged lines over and says how many, and writes nothing", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu"]);
    const whole = journalOf(node);
    const end = whole.trimEnd().lastIndexOf("\n");
    node.place("/var/lib/shimctl/journal.1", whole.replaceAll(/"operation":"\w/g, '"operation":"z'));
    node.place(
      "/var/lib/shimctl/journal",
      `torn {\n{"format":1}\n${whole.slice(0, end)}\n{"format":1,"time"`,
    );
    const before = node.tree();
    const state = readdirSync(`${node.root}/var/lib/shimctl`);
    const { out } = await done(node, ["log"]);
    expect(out.split("\n").map((line) => line.split(/ {2,}/)[4])).toEqual([
      "RESULT",
      "changed",
      "unfinished",
      undefined,
      undefined,
    ]);
    expect(out).toContain("passed over 3 lines of the journal");
    expect([node.tree(), readdirSync(`${node.root}/var/lib/shimctl`)]).toEqual([before, state]);
  });

  test("creates nothing on a node where nothing was done, and needs no engine there", async () => {
    using node = new Node("2.1.9");
    const before = node.tree();
    expect((await done(node, ["log"])).out).toBe("nothing was done yet, as far as the journal goes\n");
    expect([node.tree(), readdirSync(node.root).includes("var")]).toEqual([before, false]);
  });
});

describe("hold", () => {
  const held = async (node: Node, args: readonly string[], env?: Readonly<Record<string, string>>) => {
    const before = [node.tree(), node.text("/var/lib/shimctl/record.json")];
    const ran = await node.run([...args, "--json"], env);
    expect([node.tree(), node.text("/var/lib/shimctl/record.json")]).toEqual(before);
    return [ran.code, ran.json()["error"]] as const;
  };

  test("lets automatic runs of that owner only report, until release", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "crun"]);
    await done(node, ["hold", "--reason", "we look into it"]);
    const error = {
      code: "held",
      state: "nothing was written",
      hold: { since: expect.any(String), who: expect.any(String), reason: "we look into it", by: "hold" },
      hint: expect.stringContaining("`shimctl release`"),
    };
    for (const args of [
      ["install", "kata-qemu"],
      ["uninstall", "--all"],
      ["rollback"],
      ["install", "crun"],
    ]) {
      expect(await held(node, [...args, "--automatic"])).toMatchObject([12, error]);
      expect(await held(node, args, inPod)).toMatchObject([12, error]);
      expect(await held(node, [...args, "--dry-run", "--no-restart"], inPod)).toMatchObject([12, error]);
    }
    await done(node, ["diff", "install", "kata-qemu"], inPod);
    await done(node, ["install", "kata-qemu", "--owner", "other", "--automatic"]);
    await done(node, ["install", "kata-clh"]);
    expect(await held(node, ["install", "crun"], inPod)).toMatchObject([12, error]);
    await done(node, ["release"]);
    await done(node, ["install", "runsc", "--automatic"]);
  });

  test("of the whole node meets every owner, and each owner's stays when it ends", async () => {
    using node = Node.of(importedCase);
    await done(node, ["hold", "--owner", "mine"]);
    await done(node, ["hold", "--all"]);
    expect((await node.run(["install", "crun", "--automatic"])).err).toContain("shimctl release --all");
    expect((await done(node, ["release", "--owner", "mine"])).out).toContain(
      "the whole node is on hold still",
    );
    expect((await node.run(["install", "crun", "--automatic", "--owner", "mine"])).code).toBe(12);
    await done(node, ["release", "--all"]);
    await done(node, ["install", "crun", "--automatic"]);
    expect((await done(node, ["release", "--json"])).json()["result"]).toBe("unchanged");
  });

  test("expires after --for, and goes with the next write", async () => {
    using node = Node.of(importedCase);
    await done(node, ["hold", "--for", "2s"]);
    expect((await node.run(["install", "crun", "--automatic"])).code).toBe(12);
    await Bun.sleep(2_100);
    expect((await node.run(["status", "--json"])).json()["holds"]).toEqual({});
    await done(node, ["install", "crun", "--automatic"]);
    expect(JSON.parse(node.text("/var/lib/shimctl/record.json"))).not.toHaveProperty("holds");
  });

  for (const args of [["--for", "0s"], ["--for", "99999999999d"], ["--reason", "two\nlines"], ["me"]]) {
    test(`${JSON.stringify(args)} is refused before anything is written`, async () => {
      using node = Node.of(importedCase);
      const before = node.tree();
      const folders = readdirSync(node.root);
      expect((await node.run(["hold", ...args])).code).toBe(2);
      expect([node.tree(), readdirSync(node.root)]).toEqual([before, folders]);
    });
  }

  for (const command of ["uninstall", "rollback"] as const) {
    test(`comes by itself with a person's ${command}, and goes with their install`, async () => {
      using node = Node.of(importedCase);
      await done(node, ["install", "kata-qemu", "crun"], inPod);
      const ran = await done(node, command === "uninstall" ? ["uninstall", "crun"] : ["rollback"]);
      expect(ran.out).toContain("`shimctl release` lets them go on");
      expect(await held(node, ["install", "kata-qemu", "crun"], inPod)).toMatchObject([
        12,
        { code: "held", hold: { by: command } },
      ]);
      const status = await node.run(["status"]);
      expect([status.code, status.out]).toEqual([
        0,
        expect.stringContaining("on hold: automatic runs of owner 'default'"),
      ]);
      await done(node, ["install", "kata-qemu"]);
      await done(node, ["install", "crun"], inPod);
    });
  }

  test("goes with a person's install even where that finds nothing to do", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "kata-qemu", "crun"], inPod);
    await done(node, ["uninstall", "crun"]);
    expect((await done(node, ["install", "kata-qemu", "--json"])).json()).toMatchObject({
      result: "unchanged",
      hold: null,
    });
    await done(node, ["install", "crun"], inPod);
  });

  test("does not come with an automatic uninstall, nor where there is nothing to remove", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "crun"]);
    await done(node, ["uninstall", "--all"], inPod);
    await done(node, ["uninstall", "--all"]);
    await done(node, ["install", "crun"], inPod);
  });

  test("outlives the record: the journal tells it as well", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "crun", "kata-qemu"]);
    await done(node, ["uninstall", "crun"]);
    await done(node, ["hold", "--owner", "other", "--reason", "why not"]);
    const { holds } = JSON.parse(node.text("/var/lib/shimctl/record.json"));
    const lose = () => rmSync(`${node.root}/var/lib/shimctl/record.json`);
    lose();
    expect((await node.run(["install", "crun"], inPod)).code).toBe(12);
    await done(node, ["hold", "--owner", "third"]);
    const rebuilt = JSON.parse(node.text("/var/lib/shimctl/record.json"));
    expect(Object.keys(rebuilt.holds).sort()).toEqual(["default", "other", "third"]);
    expect([rebuilt.holds.default.by, rebuilt.holds.other.reason]).toEqual([holds.default.by, "why not"]);
    // What is written in its place knows the owners, too.
    expect((await node.run(["status"])).code).toBe(0);
    await done(node, ["release", "--all"]);
    lose();
    await done(node, ["install", "crun"], inPod);
  });

  test("outlives damage to the record", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "crun"]);
    await done(node, ["hold"]);
    const path = "/var/lib/shimctl/record.json";
    node.place(path, node.text(path).replace('"by": "hold"', '"by": 3'), 0o600);
    expect((await node.run(["install", "crun"], inPod)).code).toBe(12);
    await done(node, ["install", "kata-qemu"]);
    expect((await node.run(["install", "crun"], inPod)).code).toBe(12);
  });

  test("that somebody asked for is not released by an install", async () => {
    using node = Node.of(importedCase);
    await done(node, ["install", "crun"]);
    await done(node, ["hold"]);
    await done(node, ["uninstall", "crun"]);
    await done(node, ["install", "crun"]);
    expect((await node.run(["install", "crun"], inPod)).code).toBe(12);
  });
});

function placed(node: Node): string {
  node.place("/handlers.toml", "format = 1\n[handlers.crun]\n");
  return `${node.root}/handlers.toml`;
}
