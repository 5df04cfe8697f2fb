import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import process from "node:process";
import { crioCase, type EngineCase, engineCases, importedCase, markedCase } from "../support/engine_case.ts";
import { Node, type Ran } from "../support/node.ts";

const nodes: Node[] = [];
afterEach(() => {
  for (const node of nodes.splice(0)) node[Symbol.dispose]();
});

/** A node on which kata-qemu is installed. */
async function installed(engineCase: EngineCase): Promise<Node> {
  const node = Node.of(engineCase);
  nodes.push(node);
  const ran = await node.run(["install", "kata-qemu", "--no-restart"]);
  expect(ran.code).toBe(0);
  return node;
}

const mending = ["repair", "--yes", "--no-restart"];

/** Everything but shimctl's own files. */
function configuration(node: Node): Record<string, string> {
  return Object.fromEntries(Object.entries(node.tree()).filter(([path]) => !path.startsWith("/var/lib")));
}

function keptIn(ran: Ran): string {
  return /is kept as (\S+)/.exec(ran.out)?.[1] ?? "";
}

test("a block that cannot be written anew yet stays as it is, and comes back once it can", async () => {
  const node = await installed(crioCase);
  const ours = crioCase.block("default");
  const whole = node.text(ours);
  const theirs = ours.replace("50-shimctl-default", "60-theirs");
  node.place(theirs, "[crio.metrics\n  enable_metrics = true\n");
  node.place(ours, whole.replace("runtime_path", '3s"\nruntime_path'));
  expect((await node.run(mending)).code).toBe(11);
  expect(node.text(ours)).toContain("runtime_path");
  node.place(theirs, "[crio.metrics]\n  enable_metrics = true\n");
  expect((await node.run(mending)).code).toBe(0);
  expect(node.text(ours)).toBe(whole);
});

test("a drop-in of ours that was cut short behind a table of a handler comes back", async () => {
  const node = Node.of(importedCase);
  nodes.push(node);
  const ours = importedCase.block("default");
  expect((await node.run(["install", "kata-fc", "kata-qemu", "--no-restart"])).code).toBe(0);
  const whole = node.text(ours);
  node.place(ours, whole.slice(0, whole.indexOf("kata-qemu.v2")));
  await node.run(mending);
  expect((await node.run(["install", "kata-fc", "kata-qemu", "--no-restart"])).code).toBe(0);
  expect((await node.run(["check"])).code).toBe(0);
  expect((await node.run(["uninstall", "--all", "--no-restart"])).code).toBe(0);
  expect(configuration(node)).toEqual({ ...configuration(Node.of(importedCase)) });
});

test("--from bak takes no file that others than root may write", async () => {
  if (process.geteuid?.() !== 0) return;
  const node = await installed(markedCase);
  const good = node.text();
  node.place(markedCase.main, `${good}"""x\n`);
  node.place(`${markedCase.main}.bak`, good, 0o666);
  const tree = node.tree();
  expect((await node.run([...mending, "--from", "bak"])).code).toBe(6);
  expect(node.tree()).toEqual(tree);
  chmodSync(`${node.root}${markedCase.main}.bak`, 0o644);
  expect((await node.run([...mending, "--from", "bak"])).code).toBe(0);
});

for (const engineCase of engineCases) {
  describe(engineCase.name, () => {
    test("an automatic repair only reports while the node is on hold, and a person's goes through", async () => {
      const node = await installed(engineCase);
      const good = node.text(engineCase.main);
      node.place(engineCase.main, `${good}3s"\n`);
      expect((await node.run(["hold", "--all"])).code).toBe(0);
      const before = node.tree();
      expect((await node.run([...mending, "--automatic"])).code).toBe(12);
      expect(node.tree()).toEqual(before);
      expect((await node.run(mending)).code).toBe(0);
      expect(node.text(engineCase.main)).toBe(good);
    });

    test('a stray `3s"` is shown with its place, and nothing is written without --yes', async () => {
      const node = await installed(engineCase);
      const good = node.text(engineCase.main);
      const line = good.split("\n").length;
      node.place(engineCase.main, `${good}3s"\n`);
      const before = node.tree();
      const ran = await node.run(["repair"]);
      expect(ran.code).toBe(11);
      expect(ran.out).toContain(
        `at: ${engineCase.main}:${line}:3\n    3s"\n      ^\n  repair: cut line ${line}`,
      );
      expect(ran.out).toContain('\n-3s"\n');
      expect(ran.out).toContain("--yes writes this");
      expect(node.tree()).toEqual(before);
    });

    test("with --yes it is cut, the damaged file is kept, and every other byte stays", async () => {
      const node = await installed(engineCase);
      const good = configuration(node);
      const damaged = `${node.text(engineCase.main)}3s"\n`;
      node.place(engineCase.main, damaged);
      const ran = await node.run(mending);
      expect([ran.code, ran.err]).toEqual([0, ""]);
      expect(configuration(node)).toEqual(good);
      expect(node.text(keptIn(ran))).toBe(damaged);
      expect((await node.run(["check"])).out).not.toContain("Cannot");
      const again = await node.run(["repair"]);
      expect([again.code, again.out]).toEqual([0, "nothing to repair\n"]);
    });

    test("log tells who has made a repair", async () => {
      const node = await installed(engineCase);
      node.place(engineCase.main, `${node.text(engineCase.main)}3s"\n`);
      expect((await node.run(mending)).code).toBe(0);
      const { operations } = (await node.run(["log", "--json"])).json() as {
        operations: { command: string; caller: unknown }[];
      };
      const [install, repair] = operations;
      expect(repair).toMatchObject({ command: "repair", caller: install?.caller });
      expect(repair?.caller).toMatchObject({ automatic: false });
    });

    test("a block of ours that was cut short comes back from the record", async () => {
      const node = await installed(engineCase);
      const good = configuration(node);
      const path = engineCase.block("default");
      const text = node.text(path);
      node.place(path, text.slice(0, text.indexOf("runtime_path") + 9));
      const ran = await node.run(mending);
      expect(ran.out).toContain("write the block of owner 'default' anew, from the record");
      expect(configuration(node)).toEqual(good);
    });

    test("check, status, diff and install name repair as the next step", async () => {
      const node = await installed(engineCase);
      node.place(engineCase.main, `${node.text(engineCase.main)}3s"\n`);
      const install = ["install", "kata-clh", "--no-restart"];
      for (const command of [["check"], ["status"], ["diff"], ["diff", ...install], install]) {
        const { err } = await node.run(command);
        expect(err).toContain("let `shimctl repair` show what it can mend");
      }
    });

    test("a file in which nothing is left is said, not guessed", async () => {
      const node = await installed(engineCase);
      node.place(engineCase.rootFile, "");
      node.place(`${engineCase.rootFile}.bak`, engineCase.files[engineCase.rootFile] ?? "");
      const before = node.tree();
      const ran = await node.run(["repair", "--no-restart"]);
      expect(ran.code).toBe(11);
      expect(ran.out).toContain("the file is empty, and was not before");
      expect(ran.out).toContain(`shimctl repair --from bak ${engineCase.rootFile}`);
      expect(node.tree()).toEqual(before);
      const mended = await node.run([...mending, "--from", "bak"]);
      expect([mended.code, node.text(engineCase.rootFile)]).toEqual([
        0,
        engineCase.files[engineCase.rootFile] ?? "",
      ]);
    });

    test("a node on which nothing is broken is left alone", async () => {
      const node = await installed(engineCase);
      const before = node.tree();
      const ran = await node.run([...mending, "--json"]);
      expect([ran.code, ran.json()["result"], ran.json()["changes"]]).toEqual([0, "ok", []]);
      expect(node.tree()).toEqual(before);
    });
  });
}

describe("what is wrong though it is TOML", () => {
  const gone = "/etc/containerd/gone.toml";

  test("a literal import whose file is missing is taken out of the list", async () => {
    const node = await installed(importedCase);
    const good = node.text();
    node.place(importedCase.main, good.replace('imports = ["', `imports = ["${gone}", "`));
    const ran = await node.run(mending);
    expect([ran.code, node.text()]).toEqual([0, good]);
    expect(ran.out).toContain("take it out of imports");
  });

  test("a lost version line comes back where the engine would pass over all that is there", async () => {
    const [path = "", text = ""] = Object.entries(markedCase.files)[0] ?? [];
    for (const version of ["1.7.24", "2.1.9"]) {
      const node = Node.of({ ...markedCase, version });
      nodes.push(node);
      node.place(path, text.replace(/^version = .*\n/m, ""));
      const ran = await node.run(mending);
      expect([ran.code, node.text()]).toEqual([0, `version = 2\n${text.replace(/^version = .*\n/m, "")}`]);
    }
  });

  test("a version line that is damaged comes back whole", async () => {
    for (const half of ["version", "versi", "version = "]) {
      const node = await installed(importedCase);
      const good = node.text();
      node.place(importedCase.main, good.replace("version = 3", half));
      expect((await node.run(mending)).code).toBe(0);
      expect(node.text()).toBe(`version = 3\n${good.replace("version = 3\n", "")}`);
      expect((await node.run(["status"])).code).toBe(0);
    }
  });

  test("a version line that the engine can do without is not missed", async () => {
    const node = await installed(importedCase);
    const text = `${node.text().replace(/^version = .*\n/m, "")}`;
    node.place(importedCase.main, text);
    expect((await node.run(mending)).code).toBe(3);
    node.place(importedCase.main, `${text}3s"\n`);
    expect((await node.run(mending)).code).toBe(0);
    expect(node.text()).toBe(text);
  });

  test("a file of version 1 is left as it is", async () => {
    const node = new Node("1.7.24", '[plugins.cri]\n  sandbox_image = "x"\n');
    nodes.push(node);
    const before = node.tree();
    expect((await node.run(mending)).code).toBe(3);
    expect(node.tree()).toEqual(before);
  });

  test("what a rule of the engine refuses and no cut mends is said", async () => {
    const node = await installed(markedCase);
    const { text } = markedCase.makeDefault("absent");
    node.place(markedCase.main, node.text() + text);
    const ran = await node.run(mending);
    expect([ran.code, ran.out]).toEqual([
      11,
      expect.stringContaining("default handler 'absent' is not defined"),
    ]);
  });
});

describe("a handler that the administrator defines beside ours", () => {
  test("stays theirs: ours gives way, and nothing is missed", async () => {
    const node = await installed(markedCase);
    const theirs = `${markedCase.files[markedCase.main]}\n${markedCase.define("kata-qemu")}`;
    node.place(markedCase.main, `${node.text()}\n${markedCase.define("kata-qemu")}`);
    const ran = await node.run(mending);
    expect([ran.code, node.text()]).toEqual([0, theirs]);
    expect(ran.out).toContain("owner 'default' gives way to what others define");
    expect([(await node.run(["status"])).code, node.text()]).toEqual([0, theirs]);
  });
});

test("a file that an uninstall has left empty is not missed", async () => {
  const node = Node.of(markedCase, {});
  nodes.push(node);
  node.place("/etc/elsewhere/config.toml", "");
  mkdirSync(`${node.root}/etc/containerd`);
  symlinkSync("/etc/elsewhere/config.toml", node.root + markedCase.main);
  const engine = ["--engine", "containerd", "--no-restart"];
  expect((await node.run(["install", "kata-qemu", ...engine])).code).toBe(0);
  expect((await node.run(["install", "runsc", "--owner", "b", ...engine])).code).toBe(0);
  for (const owner of ["b", "default"])
    expect((await node.run(["uninstall", "--all", "--owner", owner, ...engine])).code).toBe(0);
  const ran = await node.run(["repair", ...engine]);
  expect([node.text("/etc/elsewhere/config.toml"), ran.code, ran.out]).toEqual([
    "",
    0,
    "nothing to repair\n",
  ]);
});

describe("several damages at once", () => {
  test("are all mended, each file by itself", async () => {
    const node = await installed(crioCase);
    for (const path of Object.keys(crioCase.files)) node.place(path, `${node.text(path)}\n3s"`);
    const block = crioCase.block("default");
    node.place(block, "");
    const ran = await node.run([...mending, "--json"]);
    expect([ran.code, (ran.json()["changes"] as unknown[]).length]).toEqual([0, 3]);
    const good = await installed(crioCase);
    for (const path of Object.keys(crioCase.files)) good.place(path, `${good.text(path)}\n`);
    expect(configuration(node)).toEqual(configuration(good));
  });

  test("of which one cannot be told are mended as far as can be", async () => {
    const node = await installed(crioCase);
    const [, main] = Object.keys(crioCase.files);
    node.place(crioCase.rootFile, `${crioCase.files[crioCase.rootFile]}3s"\n`);
    const ambiguous = `${crioCase.files[main ?? ""]}monitor_path = "/other"\n`;
    node.place(main ?? "", ambiguous);
    const ran = await node.run([...mending, "--json"]);
    expect([ran.code, ran.json()["result"]]).toEqual([11, "in part"]);
    expect(node.text(crioCase.rootFile)).toBe(crioCase.files[crioCase.rootFile] ?? "");
    expect(node.text(main)).toBe(ambiguous);
  });

  test("only the named file is mended", async () => {
    const node = await installed(crioCase);
    for (const path of Object.keys(crioCase.files)) node.place(path, `${node.text(path)}3s"\n`);
    const ran = await node.run([...mending, crioCase.rootFile]);
    expect(ran.code).toBe(11);
    expect(node.text(crioCase.rootFile)).toBe(crioCase.files[crioCase.rootFile] ?? "");
    expect(node.text(crioCase.main)).toEndWith('3s"\n');
  });
});

describe("--from", () => {
  test("store gives back the bytes from before our last change, and says what is lost", async () => {
    const node = await installed(markedCase);
    const damaged = `${node.text().replace("[timeouts]", "[timeou")}`;
    node.place(markedCase.main, damaged);
    const shown = await node.run(["repair", "--from", "store"]);
    expect(shown.code).toBe(11);
    expect(shown.out).toMatch(/would restore the stored version as it was until \S+, 0 min old/);
    expect(shown.out).toContain("\n-# BEGIN shimctl default");
    expect(node.text()).toBe(damaged);
    const ran = await node.run([...mending, "--from", "store"]);
    expect([ran.code, node.text()]).toEqual([0, markedCase.files[markedCase.main] ?? ""]);
    expect(node.text(keptIn(ran))).toBe(damaged);
  });

  test("bak takes the newest copy that can be used, and says how old it is", async () => {
    const node = await installed(markedCase);
    const original = markedCase.files[markedCase.main] ?? "";
    node.place(`${markedCase.main}.bak`, original);
    node.place(`${markedCase.main}.orig`, "");
    const threeDays = Date.now() / 1000 - 3 * 24 * 3600;
    utimesSync(`${node.root}${markedCase.main}.bak`, threeDays, threeDays);
    node.place(markedCase.main, `${original}x = `);
    const ran = await node.run([...mending, "--from", "bak"]);
    expect(ran.out).toContain(`restored ${markedCase.main}.bak, 3 days old`);
    expect(node.text()).toBe(original);
  });

  for (const [name, copy, why] of [
    ["empty", "", "it is empty"],
    ["torn", 'version = 2\n[plugins."io', "Cannot read the file as TOML 1.0"],
  ] as const) {
    test(`an ${name} backup is refused (kata-deploy.md 2.4, weakness 3)`, async () => {
      const node = await installed(markedCase);
      node.place(`${markedCase.main}.bak`, copy);
      node.place(markedCase.main, `${node.text()}x = `);
      const before = node.tree();
      const ran = await node.run([...mending, "--from", "bak"]);
      expect([ran.code, ran.err]).toEqual([3, expect.stringContaining(why)]);
      expect(node.tree()).toEqual(before);
    });
  }

  test("takes store and bak only", async () => {
    const node = await installed(markedCase);
    expect((await node.run(["repair", "--from", "elsewhere"])).code).toBe(2);
  });
});

describe("shimctl's own files", () => {
  test("a lost record comes back from what is whole, as with every other command", async () => {
    const node = await installed(markedCase);
    const good = node.text();
    rmSync(`${node.root}/var/lib/shimctl/record.json`);
    node.place(markedCase.main, `${good}3s"\n`);
    expect((await node.run(mending)).code).toBe(0);
    expect(JSON.parse(node.text("/var/lib/shimctl/record.json"))).toMatchObject({
      roots: { [markedCase.rootFile]: { owners: { default: { handlers: { "kata-qemu": {} } } } } },
    });
  });

  test("of a newer release keep a repair from writing", async () => {
    const node = await installed(markedCase);
    const record = JSON.parse(node.text("/var/lib/shimctl/record.json")) as object;
    node.place("/var/lib/shimctl/record.json", JSON.stringify({ ...record, format: 99 }));
    node.place(markedCase.main, `${node.text()}3s"\n`);
    const before = node.tree();
    expect((await node.run(mending)).code).toBe(6);
    expect(node.tree()).toEqual(before);
  });
});

describe("bounds", () => {
  test("a file that is named as it is seen from here is told by the name that it has on the node", async () => {
    const node = await installed(markedCase);
    const seen = node.root + markedCase.main;
    for (const command of [
      ["check", seen],
      ["repair", seen],
      ["status", "--config", seen],
    ]) {
      const { code, err } = await node.run(command);
      expect([code, err]).toEqual([
        2,
        expect.stringContaining(
          `next: write it as the node names it, without its root: ${markedCase.main}\n`,
        ),
      ]);
    }
  });

  test("no secret of a damaged file is shown, whatever is asked", async () => {
    for (const engineCase of engineCases) {
      const node = await installed(engineCase);
      const main = Object.keys(engineCase.files)[0] ?? "";
      node.place(
        main,
        node
          .text(main)
          .replace(/(hunter2-canary)"/, '$1" "')
          .replace("\n", '\n3s"\n'),
      );
      for (const args of [["repair"], ["repair", "--json"], ["repair", "--from", "store"], mending]) {
        const { out, err } = await node.run(args);
        expect(out + err).not.toContain("hunter2");
      }
    }
  });

  test("paths outside the engine's folder, and relative ones, are refused", async () => {
    const node = await installed(markedCase);
    for (const path of ["/etc/passwd", "etc/containerd/config.toml", "/etc/containerd/../passwd"])
      expect((await node.run(["repair", path])).code).toBe(2);
  });

  test("mode and owner of the file stay, and a link to it stays a link", async () => {
    const node = await installed(markedCase);
    const good = node.text();
    node.place("/etc/elsewhere/config.toml", `${good}3s"\n`, 0o640);
    unlinkSync(node.root + markedCase.main);
    symlinkSync("/etc/elsewhere/config.toml", node.root + markedCase.main);
    chmodSync(`${node.root}/etc/elsewhere/config.toml`, 0o640);
    expect((await node.run(mending)).code).toBe(0);
    expect(lstatSync(node.root + markedCase.main).isSymbolicLink()).toBe(true);
    expect(readFileSync(`${node.root}/etc/elsewhere/config.toml`, "utf8")).toBe(good);
    expect(statSync(`${node.root}/etc/elsewhere/config.toml`).mode & 0o777).toBe(0o640);
  });
});
