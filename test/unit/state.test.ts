import { describe, expect, test } from "bun:test";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, utimesSync } from "node:fs";
import process from "node:process";
import { markedCase } from "../support/engine_case.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { stateOf } from "../support/transaction.ts";

const folder = "/var/lib/shimctl";
const isRoot = process.geteuid?.() === 0;
const modeOf = (node: Node, name: string) => lstatSync(`${node.root}${folder}/${name}`).mode & 0o777;
const storedIn = (node: Node) => readdirSync(`${node.root}${folder}/store`);

describe("the state folder", () => {
  test("is for its owner alone, and is made so where it was open to others", async () => {
    using node = Node.of(markedCase);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    const names = ["", "record.json", "journal", "store"];
    expect(names.map((name) => modeOf(node, name))).toEqual([0o700, 0o600, 0o600, 0o700]);
    for (const name of names) chmodSync(`${node.root}${folder}/${name}`, 0o755);
    expect((await node.run(["install", "kata-clh"])).code).toBe(0);
    expect(names.map((name) => modeOf(node, name))).toEqual([0o700, 0o600, 0o600, 0o700]);
    for (const name of storedIn(node)) expect(modeOf(node, `store/${name}`)).toBe(0o600);
  });

  for (const name of ["", "/record.json", "/journal"]) {
    test(`that others may write to is refused: ${folder}${name}`, async () => {
      using node = Node.of(markedCase);
      expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
      chmodSync(`${node.root}${folder}${name}`, 0o722);
      const { code, err } = await node.run(["install", "kata-clh"]);
      expect([code, err]).toEqual([6, expect.stringContaining("as other users may write to them")]);
      expect(err).toContain(`at: ${folder}${name}\n`);
    });

    test.skipIf(!isRoot)(
      `that another user owns is refused, and can be looked at: ${folder}${name}`,
      async () => {
        using node = Node.of(markedCase);
        expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
        chownSync(`${node.root}${folder}${name}`, 4711, 4711);
        const before = node.text();
        for (const args of [
          ["install", "kata-clh"],
          ["uninstall", "--all"],
          ["install", "kata-clh", "--dry-run"],
        ]) {
          const { code, err } = await node.run(args);
          expect([code, err]).toEqual([6, expect.stringContaining("as another user owns them")]);
          expect(err).toContain(`at: ${folder}${name}\n`);
        }
        expect(node.text()).toBe(before);
        expect((await node.run(["status"])).code).toBe(0);
      },
    );
  }
});

describe("the store of old bytes", () => {
  /** An operation of an owner that replaced these bytes, long ago. */
  function replaced(node: Node, operation: string, owner: string, bytes: string, days: number): string {
    const state = stateOf(node);
    const before = state.store(new TextEncoder().encode(bytes));
    const path = `${node.root}${folder}/store/${before}`;
    utimesSync(path, 1_000_000 - days, 1_000_000 - days);
    const rootFile = markedCase.rootFile;
    const said = {
      command: "install",
      owner,
      engine: "containerd",
      rootFile,
      previous: [],
      desired: [handler("crun")],
      folders: [],
    };
    state.append(operation, { step: "begin", ...said });
    const temp = "/etc/containerd/.config.toml.shimctl-0123456789ab.tmp";
    state.append(operation, {
      step: "intent",
      path: rootFile,
      target: rootFile,
      temp,
      before,
      after: "0".repeat(64),
    });
    state.append(operation, { step: "end", result: "changed" });
    return before;
  }

  test("is bounded, and keeps what the last operation of each owner may need to be undone", async () => {
    using node = Node.of(markedCase);
    const first = replaced(node, "1", "old", "needed by nobody", 9);
    const old = replaced(node, "2", "old", "needed by old", 8);
    const other = replaced(node, "3", "other", "needed by other", 7);
    const state = stateOf(node);
    for (let count = 0; count < 100; count++) state.store(new TextEncoder().encode(String(count)));
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    const left = storedIn(node);
    expect([first, old, other].map((hash) => left.includes(hash))).toEqual([false, true, true]);
    expect(left.length).toBeLessThanOrEqual(64 + 2);
  });

  test("is emptied with the last handler of the last owner, not before", async () => {
    using node = Node.of(markedCase);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    expect((await node.run(["install", "kata-clh", "--owner", "other"])).code).toBe(0);
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    expect(storedIn(node).length).toBeGreaterThan(0);
    expect((await node.run(["uninstall", "--all", "--owner", "other"])).code).toBe(0);
    expect(storedIn(node)).toEqual([]);
  });

  test("keeps everything where a change could not be undone, as a person may look for it", async () => {
    using node = Node.of(markedCase);
    const state = stateOf(node);
    const hash = state.store(new TextEncoder().encode("old"));
    state.writeRecord(state.readRecord().record);
    state.append("1", { step: "end", result: "undo failed", code: "undo-failed" });
    state.prune();
    expect(storedIn(node)).toEqual([hash]);
  });
});

test("what may be named on a command line leads nowhere else", async () => {
  using node = Node.of(markedCase);
  const before = node.tree();
  const refused: readonly (readonly string[])[] = [
    ["install", "../../etc/passwd"],
    ["install", "a/b"],
    ["install", "-x"],
    ["install", "kata-qemu\0"],
    ["install", `${"a".repeat(300)}`],
    ["install", "kata-qemu", "--owner", "../../x"],
    ["install", "kata-qemu", "--owner", "x/y"],
    ["install", "kata-qemu", "--owner", "-x"],
    ["install", "kata-qemu", "--owner", ".x"],
    ["install", "kata-qemu", "--owner", "x\0"],
    ["install", "kata-qemu", "--owner", "a\nb"],
    ["install", "kata-qemu", "--owner", "a".repeat(41)],
    ["install", "kata-qemu", "--config", "/etc/containerd/../../x.toml"],
    ["install", "kata-qemu", "--config", "etc/containerd/config.toml"],
    ["install", "kata-qemu", "--config", "/etc/containerd/config.toml\0"],
    ["install", "kata-qemu", "--config", "/etc/containerd/a\nb.toml"],
    ["install", "kata-qemu", "--config", `/etc/${"a/".repeat(2100)}x.toml`],
    ["install", "kata-qemu", "--prefix", "/opt/../../x"],
    ["install", "kata-qemu", "--prefix", "/opt/\u0007"],
    ["install", "kata-qemu", "--unit", "--user"],
    ["install", "kata-qemu", "--unit", "../x"],
    ["install", "kata-qemu", "--unit", "a".repeat(300)],
    ["install", "kata-qemu", "--root", `${node.root}\0`],
    ["check", "/etc/../etc/passwd"],
    ["check", "/etc/\0"],
  ];
  for (const args of refused) {
    const { code, out, err } = await node.run(args);
    expect([args, code, out]).toEqual([args, 2, ""]);
    expect(err).toContain("nothing was written");
    // A terminal is shown no bytes of its own.
    expect(err.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  }
  expect(node.tree()).toEqual(before);
  mkdirSync(`${node.root}/etc/own`);
  expect(
    (
      await node.run([
        "install",
        "kata-qemu",
        "--config",
        "/etc/own//./config.toml",
        "--unit",
        "containerd@1.service",
      ])
    ).code,
  ).toBe(0);
});
