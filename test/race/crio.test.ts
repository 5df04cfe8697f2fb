import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { type FSWatcher, watch } from "node:fs";
import { compiled } from "../support/binary.ts";
import { Node } from "../support/node.ts";

const packaged =
  '[crio.runtime]\ndefault_runtime = "crun"\n\n[crio.runtime.runtimes.crun]\nruntime_path = "/usr/bin/crun"\nmonitor_path = "/usr/bin/conmon"\n';
const handlers = ["kata-qemu", "kata-clh", "nvidia"];
const owners = ["one", "two"];
const operations = 1000;
const processes = 16;

function run(node: Node, args: readonly string[]): Promise<{ code: number | null; out: string }> {
  return new Promise((resolve) => {
    const child = spawn(compiled(), [...args, "--json", "--root", node.root, "--engine", "crio"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.on("close", (code) => resolve({ code, out }));
  });
}

describe("CRI-O's drop-in folder", () => {
  test(`never shows any name but the final ones during ${operations} operations of ${processes} processes`, async () => {
    using node = new Node("");
    node.place("/etc/crio/crio.conf.d/10-crio.conf", packaged);
    const before = node.tree();
    const seen = new Set<string>();
    const watcher: FSWatcher = watch(`${node.root}/etc/crio/crio.conf.d`, (_, name) => {
      if (name !== null) seen.add(name);
    });
    let left = operations;
    const unexpected: string[] = [];
    const loop = async (seed: number) => {
      for (let turn = seed; left > 0; turn++) {
        left--;
        const command = turn % 2 === 0 ? "install" : "uninstall";
        const { code, out } = await run(node, [
          command,
          handlers[turn % handlers.length] ?? "",
          "--owner",
          owners[(turn >> 1) % 2] ?? "",
        ]);
        if (code !== 0 && !out.includes("as owner") && !out.includes("belongs to owner"))
          unexpected.push(out.slice(0, 500));
      }
    };
    await Promise.all(Array.from({ length: processes }, (_, index) => loop(index * 7)));
    for (const owner of owners)
      expect((await run(node, ["uninstall", "--all", "--owner", owner])).code).toBe(0);
    watcher.close();
    expect(unexpected).toEqual([]);
    expect([...seen].sort()).toEqual(["50-shimctl-one.conf", "50-shimctl-two.conf"]);
    expect(node.tree()).toEqual(before);
  });
});
