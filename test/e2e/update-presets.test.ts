import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { ask } from "../../src/handler/asked.ts";
import type { Handler } from "../../src/handler/model.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { run } from "../../src/transaction/run.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing } from "../support/transaction.ts";

const config = "version = 3\n";
const dropIn = "/etc/containerd/conf.d/50-shimctl-default.toml";
const older: Handler = { ...handler("kata-qemu"), pod_annotations: ["io.katacontainers.older"] };

/** A node on which a release whose preset was another one has installed kata-qemu. */
async function nodeOfOlder(prefix?: string): Promise<Node> {
  const node = new Node("2.1.9", config);
  const basis = { preset: "kata-qemu", handler: older, ...(prefix === undefined ? {} : { prefix }) };
  const { intent, ...request } = installing();
  const handlers = [ask("kata-qemu", basis, {})];
  await loadLibc();
  await run(environmentOf(node), { ...request, intent: { ...intent, command: "install", handlers } });
  expect(node.text(dropIn)).toContain("io.katacontainers.older");
  return node;
}

describe("a preset that a new release defines otherwise", () => {
  for (const command of [
    ["install", "kata-qemu"],
    ["apply", "-f"],
  ]) {
    test(`changes nothing by ${command[0]}, which says how to take it`, async () => {
      using node = await nodeOfOlder();
      node.place("/handlers.toml", "format = 1\n[handlers.kata-qemu]\n");
      const args = command[0] === "apply" ? [...command, `${node.root}/handlers.toml`] : command;
      const before = node.tree();
      const ran = await node.run([...args, "--json"]);
      expect([ran.code, ran.json()["result"], ran.json()["notes"]]).toEqual([
        0,
        "unchanged",
        [
          "handler 'kata-qemu' keeps the definition that it was installed with; --update-presets takes what preset 'kata-qemu' is now",
        ],
      ]);
      expect(node.tree()).toEqual(before);
    });
  }

  test("takes effect with --update-presets, once", async () => {
    using node = await nodeOfOlder();
    const ran = await node.run(["install", "kata-qemu", "--update-presets", "--json"]);
    expect([ran.json()["result"], ran.json()["notes"]]).toEqual(["changed", []]);
    expect(node.text(dropIn)).toContain('pod_annotations = ["io.katacontainers.*"]');
    const again = (await node.run(["install", "kata-qemu", "--json"])).json();
    expect([again["result"], again["notes"]]).toEqual(["unchanged", []]);
  });

  test("does not come with another handler, nor with what is said for this one", async () => {
    using node = await nodeOfOlder();
    node.place(
      "/handlers.toml",
      'format = 1\n[handlers.kata-qemu]\nbase_runtime_spec = "/spec.json"\n[handlers.crun]\n',
    );
    node.place("/spec.json", "{}");
    expect((await node.run(["install", "-f", `${node.root}/handlers.toml`])).code).toBe(0);
    const text = node.text(dropIn);
    expect(text).toContain("io.katacontainers.older");
    expect(text).toContain('base_runtime_spec = "/spec.json"');
    expect(text).toContain("crun");
  });

  test("is taken where another --prefix makes it another runtime", async () => {
    using node = await nodeOfOlder("/opt/elsewhere");
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    expect(node.text(dropIn)).not.toContain("io.katacontainers.older");
  });

  test("is taken by what was uninstalled in between", async () => {
    using node = await nodeOfOlder();
    await node.run(["uninstall", "--all"]);
    await node.run(["install", "kata-qemu"]);
    expect(node.text(dropIn)).not.toContain("io.katacontainers.older");
  });

  test("is kept by a change that was cut short and finished later", async () => {
    using node = await nodeOfOlder();
    await node.run(["install", "crun"]);
    // As a run leaves it that was killed before it wrote the record: files and journal are complete.
    const journal = readFileSync(`${node.root}/var/lib/shimctl/journal`, "utf8").trimEnd().split("\n");
    expect(journal.at(-1)).toContain('"step":"end"');
    node.place("/var/lib/shimctl/journal", `${journal.slice(0, -1).join("\n")}\n`);
    rmSync(`${node.root}/var/lib/shimctl/record.json`);
    const again = (await node.run(["install", "kata-qemu", "--json"])).json();
    expect(again["result"]).toBe("unchanged");
    expect(node.text(dropIn)).toContain("io.katacontainers.older");
  });
});

describe("a runtime that is somewhere else than when its handler was installed", () => {
  async function crunAt(...paths: string[]): Promise<Node> {
    const node = new Node("2.1.9", config);
    rmSync(`${node.root}/usr/bin/crun`);
    for (const path of paths) node.place(path, "", 0o755);
    expect((await node.run(["install", "crun"])).code).toBe(0);
    expect(node.text(dropIn)).toContain(`BinaryName = "${paths[0]}"`);
    return node;
  }

  test("is kept where it was while it is there, whatever else is there by now", async () => {
    using node = await crunAt("/usr/local/bin/crun");
    node.place("/usr/bin/crun", "", 0o755);
    expect((await node.run(["install", "crun", "--json"])).json()["result"]).toBe("unchanged");
    await node.run(["install", "crun", "--update-presets"]);
    expect(node.text(dropIn)).toContain('BinaryName = "/usr/bin/crun"');
  });

  test("is found again when it is not there any more", async () => {
    using node = await crunAt("/usr/local/bin/crun");
    rmSync(`${node.root}/usr/local/bin/crun`);
    node.place("/usr/bin/crun", "", 0o755);
    const ran = (await node.run(["install", "crun", "--json"])).json();
    expect([ran["result"], ran["notes"]]).toEqual([
      "changed",
      ["handler 'crun' is resolved anew, as its files are not where they were"],
    ]);
    expect(node.text(dropIn)).toContain('BinaryName = "/usr/bin/crun"');
  });

  test("is missing where it was when it is nowhere", async () => {
    using node = await crunAt("/usr/local/bin/crun");
    rmSync(`${node.root}/usr/local/bin/crun`);
    mkdirSync(`${node.root}/usr/bin/crun`);
    const ran = await node.run(["install", "crun"]);
    expect([ran.code, ran.err.includes("not on the host: /usr/local/bin/crun")]).toEqual([3, true]);
  });
});
