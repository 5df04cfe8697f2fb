import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { compiled } from "../support/binary.ts";
import { type EngineCase, engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

/** The system calls by which a repair changes anything. */
const calls = "mkdir,openat,write,fsync,fchmod,rename,renameat2,unlink";
const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) a killed repair: strace is not installed");

const args = ["repair", "--yes", "--no-restart"];

function run(node: Node, given: readonly string[], inject: readonly string[] = []): number | null {
  const argv = [...inject, compiled(), ...given, ...node.options];
  return spawnSync(argv[0] ?? "", argv.slice(1), { stdio: "ignore", timeout: 60_000 }).status;
}

/** A node on which kata is installed and several files are damaged, one of them ours. */
function damaged(engineCase: EngineCase): { node: Node; good: Record<string, string> } {
  const node = Node.of(engineCase);
  expect(run(node, ["install", engineCase.handlers[0], "--no-restart"])).toBe(0);
  const good = configuration(node);
  const block = engineCase.block("default");
  for (const path of Object.keys(engineCase.files))
    if (path !== block) node.place(path, `${node.text(path)}3s"\n`);
  const text = node.text(block);
  node.place(block, text.slice(0, text.indexOf("runtime_path") + 9));
  return { node, good };
}

function configuration(node: Node): Record<string, string> {
  return Object.fromEntries(
    Object.entries(node.tree()).filter(([path]) => path.startsWith("/etc/") && !path.endsWith(".tmp")),
  );
}

/** The calls after the lock, as the n-th of their name on the main thread. */
function killPoints(node: Node): { name: string; nth: number }[] {
  run(node, args, ["strace", "-f", "-qq", "-o", `${node.root}/trace`, "-e", `trace=${calls}`]);
  const lines = readFileSync(`${node.root}/trace`, "utf8").split("\n");
  const main = lines.find((line) => line.includes(node.root))?.split(" ")[0];
  const counts = new Map<string, number>();
  let begun = false;
  return lines.flatMap((line) => {
    const [, thread, name] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
    if (name === undefined || thread !== main) return [];
    const nth = (counts.get(name) ?? 0) + 1;
    counts.set(name, nth);
    begun ||= line.includes(`${node.root}/var/lib/shimctl/conflict`);
    return begun && (name !== "openat" || line.includes(node.root)) ? [{ name, nth }] : [];
  });
}

describe.skipIf(!strace)("a repair that is killed at any system call", () => {
  for (const engineCase of engineCases) {
    test(`leaves each file damaged or whole, and the next one ends it: ${engineCase.name}`, () => {
      const { node: counted } = damaged(engineCase);
      const points = killPoints(counted);
      counted[Symbol.dispose]();
      let kills = 0;
      const step = 2;
      for (const { name, nth } of points.filter((_, index) => index % step === 0)) {
        const { node, good } = damaged(engineCase);
        const before = configuration(node);
        const inject = ["-e", `trace=${name}`, "-e", `inject=${name}:signal=KILL:when=${nth}`];
        if (run(node, args, ["strace", "-f", "-qq", "-o", "/dev/null", ...inject]) === null) kills += 1;
        const now = configuration(node);
        const torn = Object.keys(now).filter(
          (path) => now[path] !== before[path] && now[path] !== good[path],
        );
        expect([name, nth, torn]).toEqual([name, nth, []]);
        expect([name, nth, run(node, args)]).toEqual([name, nth, 0]);
        expect(configuration(node)).toEqual(good);
        expect(Object.keys(node.tree()).filter((path) => path.endsWith(".tmp"))).toEqual([]);
        expect(run(node, ["uninstall", "--all", "--no-restart"])).toBe(0);
        node[Symbol.dispose]();
      }
      console.log(`   killed repair on ${engineCase.name} at ${kills} of ${points.length} system calls`);
      expect(kills).toBeGreaterThan(15);
    }, 300_000);
  }
});
