import { describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { recover } from "../../src/transaction/recover.ts";
import { engineCases, markedCase } from "../support/engine_case.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, stateOf } from "../support/transaction.ts";

const path = "/var/lib/shimctl/record.json";

const losses: Readonly<Record<string, (node: Node) => void>> = {
  deleted: (node) => rmSync(node.root + path),
  empty: (node) => node.place(path, "", 0o600),
  torn: (node) => node.place(path, node.text(path).slice(0, 300), 0o600),
  zeros: (node) => node.place(path, "\0".repeat(512), 0o600),
  garbage: (node) => node.place(path, '{"format":2,"roots":[7]}', 0o600),
};

interface Known {
  readonly roots: Record<string, { readonly owners: Record<string, { handlers: object; bases?: object }> }>;
  readonly folders: readonly string[];
}

/** Who owns what by the record, without the times. */
function holdingsOf(node: Node): unknown {
  const { roots, folders } = JSON.parse(node.text(path)) as Known;
  const owners = Object.entries(Object.values(roots)[0]?.owners ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    folders,
    owners.map(([owner, { handlers, bases }]) => [owner, Object.keys(handlers).sort(), bases]),
  ];
}

for (const engineCase of engineCases) {
  const [first, second, third] = engineCase.handlers;

  async function installed(): Promise<Node> {
    const node = Node.of(engineCase);
    expect((await node.run(["install", first])).code).toBe(0);
    expect((await node.run(["install", second, "--owner", "other"])).code).toBe(0);
    return node;
  }

  describe(`${engineCase.name}: a record that is lost`, () => {
    for (const [how, lose] of Object.entries(losses)) {
      test(`(${how}) is rebuilt by the next change, other owners and folders included`, async () => {
        using node = await installed();
        using like = await installed();
        lose(node);
        expect((await node.run(["install", third])).code).toBe(0);
        expect((await like.run(["install", third])).code).toBe(0);
        expect(holdingsOf(node)).toEqual(holdingsOf(like));
        for (const args of [
          ["uninstall", "--all"],
          ["uninstall", "--all", "--owner", "other"],
        ])
          expect((await node.run(args)).code).toBe(0);
        using untouched = Node.of(engineCase);
        expect(node.tree()).toEqual(untouched.tree());
      });
    }

    test("is told by status, and diff does not take it for a wish to remove everything", async () => {
      using node = await installed();
      losses["torn"]?.(node);
      const status = await node.run(["status"]);
      expect([status.code, status.out]).toEqual([0, expect.stringContaining("The record cannot be read")]);
      losses["deleted"]?.(node);
      expect((await node.run(["status"])).out).toContain("The record is not there");
      expect((await node.run(["diff"])).out).toBe("");
    });

    test("is rebuilt as it was when the change that found it so is undone", async () => {
      using node = await installed();
      const before = holdingsOf(node);
      losses["empty"]?.(node);
      const { code } = await node.run(["install", third, "--prove-with", "/bin/false"]);
      expect(code).toBe(3);
      // Nothing was written: not even a record.
      expect(node.text(path)).toBe("");
      expect((await node.run(["install", first])).code).toBe(0);
      expect(holdingsOf(node)).toEqual(before);
    });
  });
}

describe("an operation that was cut short on a node whose record is lost", () => {
  function cutShort(node: Node): void {
    stateOf(node).append("1", {
      step: "begin",
      command: "install",
      owner: "default",
      engine: "containerd",
      rootFile: "/etc/containerd/config.toml",
      previous: [],
      desired: [handler("crun")],
      folders: [],
    });
  }

  test("is undone, and the other owners' handlers are in the record", async () => {
    using node = Node.of(markedCase);
    expect((await node.run(["install", "kata-qemu", "--owner", "other"])).code).toBe(0);
    losses["torn"]?.(node);
    cutShort(node);
    expect((await recover(environmentOf(node), stateOf(node))).outcome).toBe("undone");
    expect(holdingsOf(node)).toEqual([[], [["other", ["kata-qemu"], expect.anything()]]]);
  });

  test("may have restarted the engine: that is held, and nothing else is lost", async () => {
    using node = Node.of(markedCase);
    expect((await node.run(["install", "kata-qemu", "--owner", "other"])).code).toBe(0);
    losses["empty"]?.(node);
    cutShort(node);
    const state = stateOf(node);
    const line = { unit: "u", way: "", invocation: "", present: [], absent: [], kept: [], inputs: "i" };
    state.append("1", { step: "restart", ...line });
    state.append("1", { step: "failed", why: "it failed" });
    await recover(environmentOf(node), stateOf(node));
    expect(holdingsOf(node)).toEqual([[], [["other", ["kata-qemu"], expect.anything()]]]);
    const { record } = stateOf(node).readRecord();
    expect(record.roots["/etc/containerd/config.toml"]?.held?.["default"]?.why).toBe("it failed");
    // A lost record does not forget how often the engine was restarted.
    expect(record.restarts?.length).toBe(1);
  });
});

test("a part of a record that is damaged is rebuilt like a whole one, and the rest of it stays", async () => {
  using node = Node.of(markedCase);
  using like = Node.of(markedCase);
  for (const each of [node, like]) {
    expect((await each.run(["install", "kata-qemu"])).code).toBe(0);
    expect((await each.run(["install", "kata-clh", "--owner", "other"])).code).toBe(0);
  }
  const record = JSON.parse(node.text(path)) as Known & {
    roots: Record<string, { owners: Record<string, object> }>;
  };
  const { owners } = record.roots[markedCase.rootFile] ?? { owners: {} };
  owners["other"] = { handlers: [7] };
  node.place(path, JSON.stringify({ ...record, later: "kept" }), 0o600);
  expect((await node.run(["diff", "--owner", "other"])).out).toBe("");
  for (const each of [node, like])
    expect((await each.run(["install", "crun", "--owner", "third"])).code).toBe(0);
  expect(holdingsOf(node)).toEqual(holdingsOf(like));
  expect(JSON.parse(node.text(path))).toMatchObject({ later: "kept" });
});

test("a block that somebody edited is not owned by a rebuilt record, and status says so", async () => {
  using node = Node.of(markedCase);
  expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
  expect((await node.run(["install", "kata-clh", "--owner", "other"])).code).toBe(0);
  node.place(markedCase.rootFile, node.text().replace("kata-qemu.v2", "kata-qemu.v3"));
  losses["deleted"]?.(node);
  const { code, out } = await node.run(["status"]);
  expect([code, out]).toEqual([
    10,
    expect.stringContaining("owner 'default': somebody edited inside the block"),
  ]);
  expect((await node.run(["install", "crun", "--owner", "third"])).code).toBe(0);
  expect(
    Object.keys((JSON.parse(node.text(path)) as Known).roots[markedCase.rootFile]?.owners ?? {}).sort(),
  ).toEqual(["other", "third"]);
  const again = await node.run(["install", "kata-fc"]);
  expect([again.code, again.err]).toEqual([5, expect.stringContaining("edited inside it")]);
});
