import { describe, expect, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { compiled } from "../support/binary.ts";
import { denoExecutable } from "../support/deno.ts";
import { Node } from "../support/node.ts";

/** Holds the node's lock until it is killed. */
async function hold(node: Node, executable: string): Promise<ChildProcess> {
  const holder = spawn(executable, ["lock", "--root", node.root, "--", "sleep", "30"], { stdio: "ignore" });
  const path = `${node.root}/run/shimctl/lock`;
  while (!existsSync(path) || !readFileSync(path, "utf8").includes('"start"')) await sleep(20);
  return holder;
}

describe("the lock of the same source under Deno", () => {
  for (const [name, holding, waiting] of [
    ["Deno keeps the executable out", denoExecutable, compiled],
    ["the executable keeps Deno out", compiled, denoExecutable],
  ] as const) {
    test(name, async () => {
      using node = new Node("2.1.9", "version = 3\n");
      const holder = await hold(node, holding());
      const argv = ["install", "kata-qemu", "--root", node.root, "--engine-version", "2.1.9"];
      const ran = spawnSync(waiting(), [...argv, "--lock-timeout", "300ms"], { encoding: "utf8" });
      expect([ran.status, ran.stderr.includes("lock -- sleep")]).toEqual([4, true]);
      const ended = new Promise((resolve) => holder.once("close", resolve));
      holder.kill("SIGTERM");
      await ended;
      expect(spawnSync(waiting(), argv).status).toBe(0);
    });
  }
});
