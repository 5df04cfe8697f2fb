import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { compiled } from "../support/binary.ts";
import { k3sNode, middleK3s, newK3s, type Release, renderedFile, startK3s } from "../support/k3s_render.ts";
import type { Node } from "../support/node.ts";

const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) kills on k3s: strace is not installed");

/** Calls that change the tree or make it durable. */
const calls = ["renameat2", "rename", "fsync", "unlink", "link"] as const;

function run(node: Node, args: readonly string[], inject: readonly string[] = []): number | null {
  const argv = [...inject, compiled(), ...args, ...node.options];
  return spawnSync(argv[0] ?? "", argv.slice(1), { stdio: "ignore", timeout: 60_000 }).status;
}

function configuration(node: Node): Record<string, string> {
  return Object.fromEntries(Object.entries(node.tree()).filter(([path]) => path.includes("/containerd/")));
}

const handlersIn = (node: Node, release: Release) => {
  startK3s(node, release);
  const status = spawnSync(compiled(), ["status", "--json", ...node.options], { encoding: "utf8" });
  const { handlers } = JSON.parse(status.stdout) as { handlers: { name: string }[] };
  return handlers.map(({ name }) => name).filter((name) => name === "kata-qemu" || name === "runsc");
};

describe.skipIf(!strace).each([
  ["to one that imports drop-ins", middleK3s, newK3s, ["install", "runsc"]],
  ["to one that imports drop-ins", middleK3s, newK3s, ["uninstall", "--all"]],
  ["back to one that imports none", newK3s, middleK3s, ["install", "runsc"]],
] as const)("after an upgrade of k3s %s", (_, from, to, command) => {
  const nodeWith = async () => {
    const node = k3sNode("2.2.7", from);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    startK3s(node, to);
    return node;
  };

  test(`a run of ${command.join(" ")} that is killed at any change is ended by the next one, and loses nothing`, async () => {
    using whole = await nodeWith();
    expect(run(whole, command)).toBe(0);
    let kills = 0;
    for (const call of calls) {
      for (let nth = 1; ; nth++) {
        using node = await nodeWith();
        const rendered = node.text(renderedFile(to));
        const inject = ["-e", `trace=${call}`, "-e", `inject=${call}:signal=KILL:when=${nth}`];
        if (run(node, command, ["strace", "-f", "-qq", "-o", "/dev/null", ...inject]) !== null) break;
        kills++;
        expect([call, nth, run(node, ["uninstall", "no-such-handler", "--owner", "other"])]).toEqual([
          call,
          nth,
          0,
        ]);
        expect(node.text(renderedFile(to))).toBe(rendered);
        // Undone or done; what nothing imported before may be as it was.
        const kept = handlersIn(node, to);
        const ends = [["kata-qemu"], command[0] === "install" ? ["kata-qemu", "runsc"] : []];
        if (to === middleK3s) ends.push([]);
        expect(ends).toContainEqual(kept);
        expect([call, nth, run(node, command)]).toEqual([call, nth, 0]);
        startK3s(whole, to);
        startK3s(node, to);
        expect(configuration(node)).toEqual(configuration(whole));
      }
    }
    expect(kills).toBeGreaterThan(10);
  }, 300_000);
});
