import { afterAll, describe, expect, mock, test } from "bun:test";
import { backends } from "../../src/engine/registry.ts";
import { layouts } from "../../src/layout/registry.ts";
import { Node } from "../support/node.ts";
import { toy, toyLayout } from "../support/toy_engine.ts";

// The registry lines of a third engine.
const real = { backends: [...backends], layouts: [...layouts] };
mock.module("../../src/engine/registry.ts", () => ({ backends: [...real.backends, toy] }));
mock.module("../../src/layout/registry.ts", () => ({ layouts: [...real.layouts, toyLayout] }));
afterAll(() => {
  mock.module("../../src/engine/registry.ts", () => ({ backends: real.backends }));
  mock.module("../../src/layout/registry.ts", () => ({ layouts: real.layouts }));
});

const config = "# the toy's\n[toy]\nlevel = 1\n";

function toyNode(): Node {
  const node = new Node("");
  node.place("/etc/toy.toml", config);
  return node;
}

describe("a third engine, made up, with one folder and one registry line", () => {
  test("goes through the whole command line", async () => {
    using node = toyNode();
    const before = node.tree();
    const codes: number[] = [];
    for (const command of [
      ["diff", "install", "kata-qemu"],
      ["install", "kata-qemu", "runsc"],
      ["install", "kata-qemu"],
      ["status"],
      ["check"],
      ["presets", "kata-qemu"],
      ["uninstall", "runsc"],
      ["install", "crun", "--owner", "two"],
      ["uninstall", "--all", "--owner", "two"],
    ]) {
      codes.push((await node.run(command)).code);
    }
    expect(codes.filter((code) => code !== 0)).toEqual([]);
    expect(node.text("/etc/toy.toml")).toContain("[handler.kata-qemu]");
    await node.run(["uninstall", "--all"]);
    expect(node.tree()).toEqual(before);
  });

  test("gets drift, conflict and redaction from the rest of the program", async () => {
    using node = toyNode();
    await node.run(["install", "kata-qemu"]);
    node.place("/etc/toy.toml", `${config}[handler.runsc]\nshim = "/x"\npassword = "hunter2"\n`);
    expect((await node.run(["status"])).code).toBe(10);
    expect((await node.run(["install", "runsc"])).code).toBe(5);
    expect((await node.run(["diff", "install", "crun"])).out).not.toContain("hunter2");
  });
});
