import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { Node } from "../support/node.ts";

/** The system calls by which anything on the node changes; a run is killed at each of them in turn. */
const calls = "mkdir,openat,write,pwrite64,fsync,fchmod,fchown,rename,renameat2,unlink,rmdir,link";
const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) kills at every system call: strace is not installed");

const configs: readonly (readonly [version: string, config: string | undefined])[] = [
  ["2.1.9", "# theirs\nversion = 3\n"],
  [
    "1.7.24",
    '# theirs\nversion = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n',
  ],
  ["2.1.9", undefined],
];

function run(node: Node, args: readonly string[], inject: readonly string[] = []): number | null {
  const options = ["--root", node.root, "--engine-version", node.version];
  const argv = [...inject, compiled(), ...args, ...options];
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
    Object.entries(node.tree()).filter(
      ([path]) => path.startsWith("/etc/containerd") && !path.endsWith(".tmp"),
    ),
  );
}

/** Every file that the engine would read is one that it can read. */
function assertReadable(node: Node): void {
  for (const folder of ["/etc/containerd", "/etc/containerd/conf.d"]) {
    if (!existsSync(node.root + folder)) continue;
    for (const name of readdirSync(node.root + folder))
      if (name.endsWith(".toml")) expect(() => parse(node.text(`${folder}/${name}`))).not.toThrow();
  }
}

describe.skipIf(!strace)("a run that is killed at any system call", () => {
  for (const [version, config] of configs) {
    for (const command of ["install", "uninstall"] as const) {
      test(`${command} on ${config === undefined ? "a node without configuration" : version}`, () => {
        const prepare = () => {
          const node = new Node(version, config);
          if (command === "uninstall") expect(run(node, ["install", "kata-qemu"])).toBe(0);
          return node;
        };
        const args = command === "install" ? ["install", "kata-qemu"] : ["uninstall", "--all"];
        using counted = prepare();
        const points = killPoints(counted, args);
        expect(points.length).toBeGreaterThan(50);
        const step = config === configs[0]?.[1] ? 1 : 3;
        let kills = 0;
        for (const { name, nth } of points.filter((_, index) => index % step === 0)) {
          using node = prepare();
          using untouched = new Node(version, config);
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
          assertReadable(node);
          const now = configuration(node);
          const root = "/etc/containerd/config.toml";
          if (now[root] !== before[root]) expect(configuration(counted)[root]).toBe(now[root] as string);
          expect(run(node, ["install", "runsc"])).toBe(0);
          expect(run(node, ["status"])).toBe(0);
          expect(run(node, ["uninstall", "--all"])).toBe(0);
          expect(configuration(node)).toEqual(configuration(untouched));
          expect(Object.keys(node.tree()).filter((path) => path.endsWith(".tmp"))).toEqual([]);
        }
        expect(kills).toBeGreaterThan(15);
        console.log(
          `   killed ${command} on ${config === undefined ? "no configuration" : version} at ${kills} system calls`,
        );
      });
    }
  }
});
