import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import {
  emptyRecord,
  handlersIn,
  ownersOf,
  parseRecord,
  renderRecord,
  withOwner,
} from "../../src/transaction/record.ts";
import { run } from "../../src/transaction/run.ts";
import { importedCase } from "../support/engine_case.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const config =
  'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n';
const rootFile = "/etc/containerd/config.toml";
const folder = "/var/lib/shimctl";

describe("the record", () => {
  test("keeps two configurations of one owner apart", () => {
    const first = withOwner(emptyRecord, "/a", "me", [handler("crun")], "now");
    const both = withOwner(first, "/b", "me", [handler("runsc")], "now");
    const names = (root: string) => handlersIn(both, root, "me").map(({ name }) => name);
    expect([names("/a"), names("/b"), names("/c")]).toEqual([["crun"], ["runsc"], []]);
    expect(withOwner(withOwner(both, "/a", "me", [], ""), "/b", "me", [], "")).toEqual(emptyRecord);
    expect(parseRecord(renderRecord(both))).toEqual({ record: both, lost: false, format: 2 });
  });

  test("has no owner by a name that every object knows", () => {
    expect([ownersOf(emptyRecord, "constructor"), handlersIn(emptyRecord, "toString", "valueOf")]).toEqual([
      {},
      [],
    ]);
  });

  test("handlers of one --config do not come to another", async () => {
    using node = new Node("1.7.24", config);
    node.place("/etc/other/config.toml", config);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    expect((await node.run(["install", "crun", "--config", "/etc/other/config.toml"])).code).toBe(0);
    expect(node.text("/etc/other/config.toml")).not.toContain("kata-qemu");
    for (const more of [[], ["--config", "/etc/other/config.toml"]])
      expect((await node.run(["status", ...more])).code).toBe(0);
  });
});

test("folders that we made go with the last handler, though the engine was not restarted since", async () => {
  using node = Node.of(importedCase);
  const before = node.tree();
  const none = ["--restart", "none"];
  for (const args of [
    ["install", "crun"],
    ["uninstall", "--all"],
  ])
    expect((await node.run([...args, ...none])).code).toBe(0);
  expect(node.tree()).toEqual(before);
});

describe("something else in place of a file of ours", () => {
  for (const name of ["record.json", "journal"]) {
    for (const kind of ["a folder", "a pipe", "a symbolic link"]) {
      test(`${name} being ${kind} is refused with its path and the next step`, async () => {
        using node = new Node("1.7.24", config);
        mkdirSync(node.root + folder, { recursive: true });
        const path = `${node.root}${folder}/${name}`;
        if (kind === "a folder") mkdirSync(path);
        else if (kind === "a pipe") spawnSync("mkfifo", [path]);
        else symlinkSync("/dev/null", path);
        for (const args of [["install", "crun"], ["install", "crun", "--dry-run"], ["status"]]) {
          const { code, err } = await node.run(args);
          expect([code, err]).toEqual([6, expect.stringContaining(`as it is ${kind}`)]);
          expect(err).toContain(`at: ${folder}/${name}\n`);
          expect(err).toContain("next: move it away");
        }
        expect(node.text()).toBe(config);
      });
    }
  }

  test("the state folder being a file is told by its path on the node", async () => {
    using node = new Node("1.7.24", config);
    node.place(folder, "");
    const { code, err } = await node.run(["install", "crun"]);
    expect([code, err.includes(node.root), err.includes(folder)]).toEqual([6, false, true]);
    expect(node.text()).toBe(config);
  });

  test("stored bytes that are damaged are as good as none", () => {
    using node = new Node("1.7.24", config);
    const state = stateOf(node);
    const hash = state.store(new TextEncoder().encode("old"));
    expect(new TextDecoder().decode(state.stored(hash))).toBe("old");
    node.place(`${folder}/store/${hash}`, "other");
    expect([state.stored(hash), state.stored("../record.json")]).toEqual([undefined, undefined]);
    state.store(new TextEncoder().encode("old"));
    expect(new TextDecoder().decode(state.stored(hash))).toBe("old");
  });

  test("what does not belong into the store does not fail a run", async () => {
    using node = new Node("1.7.24", config);
    mkdirSync(`${node.root}${folder}/store`, { recursive: true });
    symlinkSync("/nowhere", `${node.root}${folder}/store/dangling`);
    mkdirSync(`${node.root}${folder}/store/folder.tmp`);
    mkdirSync(`${node.root}${folder}/journal.1`);
    expect((await node.run(["install", "crun"])).code).toBe(0);
    expect(readdirSync(`${node.root}${folder}/store`)).toContain("dangling");
  });
});

describe("a configuration that is a link which leads nowhere", () => {
  for (const args of [
    ["install", "crun"],
    ["install", "crun", "--dry-run"],
    ["diff", "install", "crun"],
  ]) {
    test(`${args.join(" ")} is refused before anything is written`, async () => {
      using node = new Node("1.7.24");
      mkdirSync(`${node.root}/etc/containerd`, { recursive: true });
      symlinkSync("/srv/nothing/config.toml", node.root + rootFile);
      const before = node.tree();
      const { code, err } = await node.run(args);
      expect([code, err]).toEqual([6, expect.stringContaining("leads nowhere: /srv/nothing/config.toml")]);
      expect(err).toContain("nothing was written");
      expect(node.tree()).toEqual(before);
    });
  }
});

describe("a dry run refuses what the run would refuse", () => {
  for (const args of [
    ["install", "crun", "--dry-run"],
    ["diff", "install", "crun"],
    ["install", "crun"],
  ]) {
    test(`${args.join(" ")}: a file with two names`, async () => {
      using node = new Node("1.7.24", config);
      spawnSync("ln", [node.root + rootFile, `${node.root}/second`]);
      const { code, err } = await node.run(args);
      expect([code, err]).toEqual([6, expect.stringContaining("hard links")]);
    });
  }
});

test("a first write that fails leaves no folder and no record of one", async () => {
  using node = new Node("2.1.9");
  const before = node.tree();
  const stop = new AbortController();
  const env = environmentOf(node, (name) => name === "commit" && stop.abort(), stop.signal);
  await expect(run(env, installing("crun"))).rejects.toMatchObject({
    facts: { state: "nothing of the change is in place" },
  });
  expect(node.tree()).toEqual(before);
  const record = JSON.parse(readFileSync(`${node.root}${folder}/record.json`, "utf8"));
  expect(record).toEqual({ format: 2, roots: {}, folders: [], counts: { undone: 1 } });
  expect(lstatSync(`${node.root}${folder}`).mode & 0o777).toBe(0o700);
});

test("a folder of ours that was in use when the last handler went is removed by a later run that has nothing else to do", async () => {
  using node = Node.of(importedCase);
  const before = node.tree();
  const conf = "/etc/containerd/conf.d";
  expect((await node.run(["install", "crun"])).code).toBe(0);
  node.place(`${conf}/theirs`, "");
  expect((await node.run(["uninstall", "--all"])).code).toBe(0);
  expect(readdirSync(node.root + conf)).toEqual(["theirs"]);
  const record = readFileSync(`${node.root}${folder}/record.json`, "utf8");
  expect((await node.run(["uninstall", "--all"])).code).toBe(0);
  expect(readFileSync(`${node.root}${folder}/record.json`, "utf8")).toBe(record);
  rmSync(`${node.root}${conf}/theirs`);
  expect((await node.run(["uninstall", "--all"])).code).toBe(0);
  expect(node.tree()).toEqual(before);
});
