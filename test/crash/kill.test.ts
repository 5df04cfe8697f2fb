import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { crioCase, type EngineCase, engineCases, importedCase, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

/** The system calls by which anything on the node changes; a run is killed at each of them in turn. */
const calls = "mkdir,openat,write,pwrite64,fsync,fchmod,fchown,rename,renameat2,unlink,rmdir,link";
const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) kills at every system call: strace is not installed");

interface Prepared {
  readonly name: string;
  readonly engineCase: EngineCase;
  readonly files: Readonly<Record<string, string>>;
  /** Killed at each so-many-th call. */
  readonly step: number;
}

const prepared: readonly Prepared[] = [
  ...engineCases.map((engineCase) => ({
    name: engineCase.name,
    engineCase,
    files: engineCase.files,
    step: engineCase === markedCase ? 3 : 1,
  })),
  ...[importedCase, crioCase].map((engineCase) => ({
    name: `${engineCase.name} without configuration`,
    engineCase,
    files: {},
    step: 3,
  })),
];

function run(node: Node, args: readonly string[], inject: readonly string[] = []): number | null {
  const argv = [...inject, compiled(), ...args, ...node.options];
  return spawnSync(argv[0] ?? "", argv.slice(1), { stdio: "ignore", timeout: 60_000 }).status;
}

function tracing(node: Node, file: string, ...more: string[]): string[] {
  return ["strace", "-f", "-qq", "-o", `${node.root}/${file}`, "-e", `trace=${calls}`, ...more];
}

/** Each call that touches the node, as the n-th of its name: strace counts each name by itself. */
function killPoints(node: Node, args: readonly string[]): { name: string; nth: number }[] {
  run(node, args, tracing(node, "trace"));
  const lines = readFileSync(`${node.root}/trace`, "utf8").split("\n");
  const main = lines.find((line) => line.includes(node.root))?.split(" ")[0];
  const counts = new Map<string, number>();
  let begun = false;
  return lines.flatMap((line) => {
    const name = /^(\d+) +(\w+)\(/.exec(line);
    if (name === null || name[1] !== main || name[2] === undefined) return [];
    const nth = (counts.get(name[2]) ?? 0) + 1;
    counts.set(name[2], nth);
    begun ||= line.includes(`${node.root}/run`);
    return begun ? [{ name: name[2], nth }] : [];
  });
}

function configuration(node: Node): Record<string, string> {
  return Object.fromEntries(
    Object.entries(node.tree()).filter(([path]) => path.startsWith("/etc/") && !path.endsWith(".tmp")),
  );
}

/** Every file that the engine would read is one that it can read. */
function assertReadable(node: Node, engineCase: EngineCase): void {
  for (const path of node.loaded(engineCase)) expect(() => parse(node.text(path))).not.toThrow();
}

/** Every file is the complete old one or the complete new one. */
function assertWhole(
  now: Readonly<Record<string, string>>,
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): void {
  const paths = [...new Set([now, before, after].flatMap((tree) => Object.keys(tree)))];
  expect(paths.filter((path) => now[path] !== before[path] && now[path] !== after[path])).toEqual([]);
}

describe.skipIf(!strace)("a run that is killed at any system call", () => {
  for (const { name: what, engineCase, files, step } of prepared) {
    const [kata, second] = engineCase.handlers;
    for (const command of ["install", "uninstall"] as const) {
      test(`${command} on ${what}`, () => {
        const prepare = () => {
          const node = Node.of(engineCase, files);
          if (command === "uninstall") expect(run(node, ["install", kata])).toBe(0);
          return node;
        };
        const args = command === "install" ? ["install", kata] : ["uninstall", "--all"];
        using counted = prepare();
        const points = killPoints(counted, args);
        expect(points.length).toBeGreaterThan(50);
        using untouched = Node.of(engineCase, files);
        const original = configuration(untouched);
        let kills = 0;
        for (const { name, nth } of points.filter((_, index) => index % step === 0)) {
          using node = prepare();
          const before = configuration(node);
          const status = run(node, args, [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            `trace=${name}`,
            "-e",
            `inject=${name}:signal=KILL:when=${nth}`,
          ]);
          if (status === null) kills++;
          assertReadable(node, engineCase);
          assertWhole(configuration(node), before, configuration(counted));
          expect(run(node, ["install", second])).toBe(0);
          expect(run(node, ["status"])).toBe(0);
          expect(run(node, ["uninstall", "--all"])).toBe(0);
          expect(configuration(node)).toEqual(original);
          expect(Object.keys(node.tree()).filter((path) => path.endsWith(".tmp"))).toEqual([]);
        }
        expect(kills).toBeGreaterThan(15);
        console.log(`   killed ${command} on ${what} at ${kills} system calls`);
      });
    }
  }
});
