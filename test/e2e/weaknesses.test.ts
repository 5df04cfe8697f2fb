import { describe, expect, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { crioCase, type EngineCase, engineCases, importedCase, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

/** What the tools before us do to a node, and we must not: docs/weaknesses.md says where each is tested. */

const repo = join(import.meta.dir, "..", "..");
const v2 = 'plugins."io.containerd.grpc.v1.cri".containerd';
const v3 = 'plugins."io.containerd.cri.v1.runtime".containerd';
const rootFile = "/etc/containerd/config.toml";
const dropIn = "/etc/containerd/conf.d/50-shimctl-default.toml";
const configuration = (node: Node) =>
  Object.fromEntries(Object.entries(node.tree()).filter(([path]) => path.startsWith("/etc/")));

describe("docs/weaknesses.md", () => {
  const rows = readFileSync(`${repo}/docs/weaknesses.md`, "utf8")
    .split("\n")
    .flatMap((line) => {
      const id = /^\| ([KNR]\d+) \|/.exec(line)?.[1];
      return id === undefined ? [] : [[id, line] as const];
    });

  test("has one row for each weakness", () => {
    const numbered = (letter: string, count: number) =>
      Array.from({ length: count }, (_, at) => `${letter}${at + 1}`);
    const wanted = [...numbered("K", 23), ...numbered("N", 18), ...numbered("R", 13)];
    expect(rows.map(([id]) => id)).toEqual(wanted);
  });

  test("names in each row a test that exists, or says why there is none", () => {
    for (const [id, row] of rows) {
      const named = [...row.matchAll(/`(test\/[\w./-]+\.test\.ts)`: `([^`]+)`/g)];
      if (named.length === 0) expect([id, row]).toEqual([id, expect.stringContaining("Out of scope:")]);
      for (const [, file = "", name = ""] of named) {
        const source = readFileSync(`${repo}/${file}`, "utf8");
        const found = [`"${name}"`, `\`${name}\``].some((literal) => source.includes(literal));
        expect([id, file, name, found]).toEqual([id, file, name, true]);
      }
    }
  });
});

describe.each([...engineCases])("on $name", (engineCase) => {
  const [kata, second] = engineCase.handlers;

  test("one handler more keeps the first, whichever owner has it", async () => {
    using node = Node.of(engineCase);
    await node.run(["install", kata]);
    await node.run(["install", second, "--owner", "two"]);
    await node.run(["install", "kata-fc"]);
    const names = handlersIn(await node.run(["status", "--json"]));
    expect(names).toEqual(expect.arrayContaining([kata, second, "kata-fc"]));
  });

  test("what one owner uninstalls is not taken from another, who has a file or block of their own", async () => {
    using node = Node.of(engineCase);
    await node.run(["install", kata, "--owner", "one"]);
    const alone = configuration(node);
    await node.run(["install", second, "--owner", "two"]);
    await node.run(["uninstall", "--all", "--owner", "two"]);
    expect(configuration(node)).toEqual(alone);
  });

  test("nothing named is nothing installed", async () => {
    using node = Node.of(engineCase);
    const before = node.tree();
    expect((await node.run(["install"])).code).toBe(2);
    node.place("/handlers.toml", "format = 1\n[handlers]\n");
    const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`, "--json"]);
    expect([ran.code, ran.json()["changes"]]).toEqual([0, []]);
    rmSync(`${node.root}/handlers.toml`);
    expect(node.tree()).toEqual(before);
  });

  test("a comment that holds the handler's name is no handler", async () => {
    using node = Node.of(engineCase, commented(engineCase, kata));
    const ran = await node.run(["install", kata, "--json"]);
    expect([ran.code, ran.json()["result"], handlersIn(await node.run(["status", "--json"]))]).toEqual([
      0,
      "changed",
      expect.arrayContaining([kata]),
    ]);
  });
});

function commented({ files, main }: EngineCase, name: string): Record<string, string> {
  return { ...files, [main]: `# ${name} and [runtimes.${name}-v2] are planned\n${files[main]}` };
}

function handlersIn(ran: { json(): Record<string, unknown> }): string[] {
  return (ran.json()["handlers"] as { name: string }[]).map(({ name }) => name);
}

describe("an engine that was replaced by another release since", () => {
  const moves: readonly (readonly [from: string, to: string])[] = [
    ["1.7.24", "2.1.9"],
    ["2.1.9", "1.7.24"],
    ["2.1.9", "2.3.4"],
    ["1.6.20", "2.2.7"],
  ];
  for (const [from, to] of moves) {
    test(`what was installed on ${from} is removed on ${to}`, async () => {
      using node = new Node(
        from,
        `# theirs\nversion = 2\n\n[${v2}.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n`,
      );
      const before = configuration(node);
      await node.run(["install", "kata-qemu", "crun"]);
      const ran = await node.run(["uninstall", "--all", "--engine-version", to]);
      expect([ran.code, configuration(node)]).toEqual([0, before]);
    });
  }
});

describe("a root file that somebody has changed since", () => {
  test("and that has no imports any more is no reason to fail, and the drop-in goes", async () => {
    using node = Node.of(importedCase);
    await node.run(["install", "kata-qemu"]);
    node.place(rootFile, "version = 3\n");
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    expect(Object.keys(configuration(node))).toEqual(["/etc/containerd", rootFile]);
    expect(node.text()).toBe("version = 3\n");
  });

  test("and that is gone is no reason to fail either", async () => {
    using node = Node.of(importedCase);
    await node.run(["install", "kata-qemu"]);
    rmSync(node.root + rootFile);
    expect((await node.run(["uninstall", "--all"], { SHIMCTL_ENGINE: "containerd" })).code).toBe(0);
    expect(Object.keys(configuration(node)).filter((path) => path.endsWith(".toml"))).toEqual([]);
  });

  test("and that held nothing but its version stays", async () => {
    using node = new Node("1.7.24", "version = 2\n");
    await node.run(["install", "kata-qemu"]);
    await node.run(["uninstall", "--all"]);
    expect(node.text()).toBe("version = 2\n");
  });
});

describe("the schema of a drop-in", () => {
  const spellings = { "version=3": v3, "version =  4 # newest": v3, "version = 0x3": v3, "version = 2": v2 };
  for (const [line, table] of Object.entries(spellings)) {
    test(`is read from '${line}', not searched as text`, async () => {
      using node = new Node("2.3.4", `# version = 2 was here\n${line}\n`);
      expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
      expect(node.text(dropIn)).toContain(`[${table}.runtimes.kata-qemu]`);
    });
  }
});

describe("a handler behind runc's shim", () => {
  test("takes nothing over from a default handler of another kind", async () => {
    using node = new Node(
      "2.1.9",
      `version = 3\n[${v3}]\ndefault_runtime_name = "kata"\n[${v3}.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n[${v3}.runtimes.kata.options]\nConfigPath = "/opt/kata/c.toml"\n`,
    );
    expect((await node.run(["install", "nvidia"])).code).toBe(0);
    expect(node.text(dropIn)).toContain('runtime_type = "io.containerd.runc.v2"');
    expect(node.text(dropIn)).not.toContain("ConfigPath");
  });

  test("freezes nothing of the administrator's: our file holds our handlers alone", async () => {
    using node = Node.of(importedCase);
    await node.run(["install", "nvidia", "kata-qemu"]);
    const headers = node.text(dropIn).match(/^\[.*\]$/gm) ?? [];
    expect(headers.length).toBeGreaterThan(2);
    expect(headers.filter((header) => !/\.runtimes\.(nvidia|kata-qemu)(\.options)?\]$/.test(header))).toEqual(
      [],
    );
  });
});

test("no copy of the whole configuration is ever brought back", async () => {
  for (const engineCase of [markedCase, importedCase, crioCase]) {
    using node = Node.of(engineCase);
    await node.run(["install", engineCase.handlers[0]]);
    node.place(engineCase.main, `${node.text(engineCase.main)}\n${engineCase.define("added-since")}`);
    await node.run(["uninstall", "--all"]);
    expect(node.text(engineCase.main)).toBe(
      `${engineCase.files[engineCase.main]}\n${engineCase.define("added-since")}`,
    );
  }
});
