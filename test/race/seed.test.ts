import { describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { Node } from "../support/node.ts";

/** The shape of `containerd config default`, which ends in its timeouts. */
function defaults(handler: string): string {
  return `version = 2

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
${handler}
[timeouts]
  "io.containerd.timeout.shim.cleanup" = "5s"
  "io.containerd.timeout.shim.load" = "5s"
  "io.containerd.timeout.shim.shutdown" = "3s"
`;
}

describe("kata-containers#10924: install, quickly uninstall, install again", () => {
  test("two writers that truncate leave a stray line, so this race is known to bite", () => {
    using node = new Node("1.7.24", defaults(""));
    const path = `${node.root}/etc/containerd/config.toml`;
    const long = defaults("# kata\n");
    const short = defaults("# k\n").replace("# k\n", "#k\n");
    const first = openSync(path, "w");
    const second = openSync(path, "w");
    writeSync(first, long);
    writeSync(second, short);
    closeSync(first);
    closeSync(second);
    const lines = readFileSync(path, "utf8").split("\n");
    expect(long.length - short.length).toBe(4);
    expect(lines.at(-2)).toBe('3s"');
    expect(() => parse(lines.join("\n"))).toThrow();
  });

  test("the same sequence by shimctl, many times at once, never does", async () => {
    using node = new Node("1.7.24", defaults(""));
    const run = (...args: string[]) =>
      new Promise<number | null>((resolve) => {
        spawn(compiled(), [...args, "--root", node.root, "--engine-version", "1.7.24"], {
          stdio: "ignore",
        }).on("close", resolve);
      });
    for (let round = 0; round < 8; round++) {
      const codes = await Promise.all([
        run("install", "kata-qemu", "kata-clh"),
        run("uninstall", "--all"),
        run("install", "kata-qemu"),
        run("uninstall", "kata-clh"),
        run("install", "kata-clh", "runsc"),
      ]);
      expect(codes).toEqual([0, 0, 0, 0, 0]);
      const text = node.text();
      expect(() => parse(text)).not.toThrow();
      expect(text.startsWith(defaults(""))).toBe(true);
    }
    await run("uninstall", "--all");
    expect(node.text()).toBe(defaults(""));
  });
});
