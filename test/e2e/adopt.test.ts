import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { sha256 } from "../../src/sha256.ts";
import { type EngineCase, engineCases, markedCase } from "../support/engine_case.ts";
import { kataHandler, kataHandlerCrio } from "../support/leftovers.ts";
import { Node } from "../support/node.ts";

/** Where kata-deploy's handler stands, and what stands around it. */
function leftByKata(engineCase: EngineCase): { path: string; before: string; theirs: string; after: string } {
  const { main, files } = engineCase;
  if (engineCase.engine === "crio") {
    const [before = "", theirs = ""] = kataHandlerCrio("qemu").split(/\n(?=\[crio\.runtime)/);
    return { path: "/etc/crio/crio.conf.d/99-kata-deploy", before: `${before}\n`, theirs, after: "" };
  }
  const schema = engineCase.version.startsWith("1.") ? 2 : 3;
  return {
    path: main,
    before: `${files[main]}\n`,
    theirs: kataHandler(schema, "qemu"),
    after: "\n[grpc]\nuid = 0\n",
  };
}

/** What the engine's configuration holds, ours left out: bytes of others. */
function configuration(node: Node, engineCase: EngineCase): Record<string, string> {
  return Object.fromEntries(node.loaded(engineCase).map((path) => [path, node.text(path)]));
}

describe.each([...engineCases])("$name", (engineCase) => {
  const { path, before, theirs, after } = leftByKata(engineCase);
  const nodeWith = (definition = theirs) => {
    const node = Node.of(engineCase);
    node.place(path, before + definition + after);
    return node;
  };
  const different = theirs.replace("/configuration-qemu.toml", "/configuration-other.toml");

  test("a handler that others define is a conflict that names file, line and --adopt", async () => {
    using node = nodeWith();
    const tree = node.tree();
    const ran = await node.run(["install", "kata-qemu", "--json"]);
    const line = before.split("\n").length;
    expect([ran.code, ran.json()["error"]]).toMatchObject([
      5,
      { code: "conflict", path, line, hint: expect.stringContaining("--adopt") },
    ]);
    expect(node.tree()).toEqual(tree);
  });

  test("--adopt puts ours in the place of one that means the same, and nothing else changes", async () => {
    using node = nodeWith();
    const others = configuration(node, engineCase);
    const ran = await node.run(["install", "kata-qemu", "--adopt", "--json"]);
    expect([ran.code, ran.err]).toEqual([0, ""]);
    const store = sha256(new TextEncoder().encode(before + theirs + after));
    expect(ran.json()["adopted"]).toMatchObject([
      { handler: "kata-qemu", path, owner: null, store, diff: null },
    ]);
    expect(readFileSync(`${node.root}/var/lib/shimctl/store/${store}`, "utf8")).toBe(before + theirs + after);
    const status = (await node.run(["status", "--json"])).json();
    expect([status["result"], status["owners"]]).toMatchObject([
      "in sync",
      [{ handlers: ["kata-qemu"], adopted: { "kata-qemu": [{ path, store }] } }],
    ]);

    expect((await node.run(["install", "kata-qemu", "--adopt"])).out).toStartWith("unchanged");
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    const rest = configuration(node, engineCase);
    const expected =
      engineCase.engine === "crio" ? before.trimEnd() : before.trimEnd() + after.replace(/^\n/, "\n\n");
    expect(rest[path]?.trimEnd()).toBe(expected.trimEnd());
    expect({ ...rest, [path]: "" }).toEqual({ ...others, [path]: "" });
  });

  test("--adopt refuses one that means something else, and shows what differs", async () => {
    using node = nodeWith(different);
    const tree = node.tree();
    const ran = await node.run(["install", "kata-qemu", "--adopt", "--json"]);
    expect([ran.code, ran.json()["error"]]).toMatchObject([
      5,
      { path, hint: expect.stringContaining("--adopt=replace") },
    ]);
    const { diff } = ran.json()["error"] as { diff: string };
    expect(diff).toMatch(/^-.*configuration-other\.toml/m);
    expect(diff).toMatch(/^\+.*configuration-qemu\.toml/m);
    for (const command of [["install"], ["diff", "install"]]) {
      const said = await node.run([...command, "kata-qemu", "--adopt"]);
      expect([said.code, said.err]).toEqual([5, expect.stringContaining("configuration-other.toml")]);
    }
    expect(node.tree()).toEqual(tree);
  });

  test("--adopt=replace takes that too, in one transaction", async () => {
    using node = nodeWith(different);
    const dry = await node.run(["install", "kata-qemu", "--adopt=replace", "--dry-run", "--json"]);
    const ran = await node.run(["install", "kata-qemu", "--adopt=replace", "--json"]);
    expect([ran.code, ran.json()["changes"]]).toEqual([0, dry.json()["changes"]]);
    expect(ran.json()["adopted"]).toMatchObject([
      { path, diff: expect.stringContaining("configuration-other.toml") },
    ]);
    const text = Object.values(configuration(node, engineCase)).join("\n");
    expect([text.includes("configuration-other"), text.split("configuration-qemu.toml").length]).toEqual([
      false,
      2,
    ]);
    const journal = node
      .text("/var/lib/shimctl/journal")
      .split("\n")
      .filter((line) => line.includes('"begin"'));
    expect(journal).toHaveLength(1);
  });

  test("apply adopts as install does", async () => {
    using node = nodeWith();
    node.place("/handlers.toml", 'format = 1\n[handlers.kata-qemu]\npreset = "kata-qemu"\n');
    const file = `${node.root}/handlers.toml`;
    expect((await node.run(["apply", "-f", file])).code).toBe(5);
    expect((await node.run(["apply", "-f", file, "--adopt"])).code).toBe(0);
  });

  test("the bytes of a file from which something was taken stay when the last handler goes", async () => {
    using node = nodeWith(different);
    await node.run(["install", "kata-qemu", "--adopt=replace"]);
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    const theirs = sha256(new TextEncoder().encode(before + different + after));
    expect(existsSync(`${node.root}/var/lib/shimctl/store/${theirs}`)).toBe(true);
  });

  test("an adoption that is over takes nothing out of a later definition of others, the record lost or not", async () => {
    for (const isLost of [false, true]) {
      using node = nodeWith();
      const run = async (...args: string[]) => expect([args, (await node.run(args)).code]).toEqual([args, 0]);
      await run("install", "kata-qemu", "kata-clh", "--adopt", "--owner", "one");
      await run("install", "kata-qemu", "--adopt", "--owner", "two");
      await run("uninstall", "kata-qemu", "--owner", "two");
      node.place(path, `${node.text(path)}\n${different}`);
      if (isLost) rmSync(`${node.root}/var/lib/shimctl/record.json`);
      const tree = node.tree();
      expect((await node.run(["install", "kata-qemu", "--owner", "one"])).code).toBe(5);
      expect(node.tree()).toEqual(tree);
    }
  });

  test("a handler may have any name that Kubernetes takes", async () => {
    using node = Node.of(engineCase);
    node.place(
      path,
      `${engineCase.files[path] ?? ""}\n${theirs.replaceAll("kata-qemu", "constructor")}${after}`,
    );
    node.place("/handlers.toml", 'format = 1\n[handlers.constructor]\npreset = "kata-qemu"\n');
    const file = `${node.root}/handlers.toml`;
    expect((await node.run(["install", "-f", file, "--adopt=replace"])).code).toBe(0);
    expect((await node.run(["status", "--json"])).json()["owners"]).toMatchObject([
      { handlers: ["constructor"] },
    ]);
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
  });

  test("another owner's handler can be adopted, and is that owner's no more", async () => {
    using node = Node.of(engineCase);
    await node.run(["install", "kata-qemu", "kata-clh", "--owner", "one"]);
    expect((await node.run(["install", "kata-qemu", "--owner", "two"])).code).toBe(5);
    expect((await node.run(["install", "kata-qemu", "--owner", "two", "--adopt"])).code).toBe(0);
    const status = (await node.run(["status", "--json"])).json();
    expect([status["result"], status["owners"]]).toMatchObject([
      "in sync",
      expect.arrayContaining([
        expect.objectContaining({ owner: "one", handlers: ["kata-clh"], intact: true }),
        expect.objectContaining({ owner: "two", handlers: ["kata-qemu"], intact: true }),
      ]),
    ]);
    // Their last one goes with their block.
    expect((await node.run(["install", "kata-clh", "--owner", "two", "--adopt"])).code).toBe(0);
    expect((await node.run(["uninstall", "--all", "--owner", "one", "--json"])).json()["result"]).toBe(
      "unchanged",
    );
    expect((await node.run(["uninstall", "--all", "--owner", "two"])).code).toBe(0);
    expect(configuration(node, engineCase)).toEqual({ ...engineCase.files });
  });

  describe("a run that adopted and was cut short before its end", () => {
    /** The journal as it was when every file was in place and nothing else. */
    const cutShort = (node: Node) => {
      const journal = `${node.root}/var/lib/shimctl/journal`;
      const lines = readFileSync(journal, "utf8").split("\n");
      writeFileSync(
        journal,
        lines
          .filter((line) => line !== "" && !/"step":"(complete|end)"/.test(line))
          .join("\n")
          .concat("\n"),
      );
      rmSync(`${node.root}/var/lib/shimctl/record.json`);
    };

    test("is undone to the byte", async () => {
      using node = nodeWith(different);
      const others = configuration(node, engineCase);
      await node.run(["install", "kata-qemu", "--adopt=replace"]);
      cutShort(node);
      const ran = await node.run(["uninstall", "no-such-handler"]);
      expect([ran.code, ran.err]).toEqual([0, expect.stringContaining("undid an install")]);
      expect(configuration(node, engineCase)).toEqual(others);
    });

    test("is undone beside what somebody added to the file since", async () => {
      using node = nodeWith(different);
      const others = configuration(node, engineCase);
      await node.run(["install", "kata-qemu", "--adopt=replace"]);
      cutShort(node);
      node.place(path, `# added since\n${node.text(path)}`);
      expect((await node.run(["uninstall", "no-such-handler"])).code).toBe(0);
      expect(configuration(node, engineCase)).toEqual({
        ...others,
        [path]: `# added since\n${others[path]}`,
      });
    });

    test("is undone in another owner's block too", async () => {
      using node = Node.of(engineCase);
      await node.run(["install", "kata-qemu", "kata-clh", "--owner", "one"]);
      const others = configuration(node, engineCase);
      const record = readFileSync(`${node.root}/var/lib/shimctl/record.json`);
      await node.run(["install", "kata-qemu", "--owner", "two", "--adopt"]);
      cutShort(node);
      node.place("/var/lib/shimctl/record.json", record);
      expect((await node.run(["uninstall", "no-such-handler", "--owner", "two"])).code).toBe(0);
      expect(configuration(node, engineCase)).toEqual(others);
      expect((await node.run(["status"])).code).toBe(0);
    });
  });

  test("the tool's later rewrite is drift, and the next install mends it", async () => {
    using node = nodeWith();
    await node.run(["install", "kata-qemu", "--adopt"]);
    // kata-deploy writes its file anew at every start of its pod: from what it knows, or from its backup.
    if (engineCase.block("default") === path) node.place(path, before + theirs + after);
    else if (engineCase.engine === "crio") node.place(path, before + theirs);
    else node.place(path, `${node.text(path)}\n${theirs}`);
    const status = (await node.run(["status", "--json"])).json();
    expect([status["result"], JSON.stringify(status["drift"])]).toEqual([
      "drifted",
      expect.stringContaining(path),
    ]);
    const ran = await node.run(["install", "kata-qemu", "--json"]);
    expect([ran.code, ran.json()["adopted"]]).toMatchObject([0, [{ path }]]);
    expect((await node.run(["status"])).code).toBe(0);
  });

  test("is known as adopted after the record was lost", async () => {
    using node = nodeWith();
    await node.run(["install", "kata-qemu", "--adopt"]);
    const record = `${node.root}/var/lib/shimctl/record.json`;
    const adopted = () =>
      JSON.parse(readFileSync(record, "utf8")).roots[engineCase.rootFile].owners.default.adopted;
    const before = adopted();
    rmSync(record);
    await node.run(["install", "kata-clh"]);
    expect(adopted()).toEqual(before);
  });

  test("the tool's later removal of its own file takes nothing of ours", async () => {
    if (engineCase.engine !== "crio") return;
    using node = nodeWith();
    await node.run(["install", "kata-qemu", "--adopt"]);
    rmSync(node.root + path);
    expect((await node.run(["status", "--json"])).json()).toMatchObject({ result: "in sync", leftBy: [] });
  });

  test("status names what the tool left, before and after", async () => {
    using node = nodeWith();
    expect((await node.run(["status"])).out).toMatch(
      new RegExp(`^left by kata-deploy: .*${path} \\(kata-qemu\\)`, "m"),
    );
    const { leftBy } = (await node.run(["status", "--json"])).json();
    expect(leftBy).toMatchObject([{ tool: "kata-deploy", path, handlers: ["kata-qemu"] }]);
  });

  test("no secret is shown in a difference", async () => {
    using node = nodeWith(
      different.replace(/^(\s*)(runtime_path.*)$/m, `$1$2\n$1api_token = "hunter2-canary"`),
    );
    const ran = await node.run(["install", "kata-qemu", "--adopt"]);
    expect([ran.code, ran.err]).toEqual([5, expect.not.stringContaining("hunter2-canary")]);
    expect(ran.err).toContain("api_token");
  });
});

test("a value that --adopt does not know is refused", async () => {
  using node = new Node("2.1.9", "version = 3\n");
  const ran = await node.run(["install", "kata-qemu", "--adopt=all"]);
  expect([ran.code, ran.err]).toEqual([2, expect.stringContaining("identical or replace")]);
});

test("on 1.x a file that would stop masking others is not adopted from", async () => {
  using node = new Node(
    "1.7.24",
    'version = 2\nimports = ["/etc/containerd/extra.toml"]\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "x"\n',
  );
  node.place("/etc/containerd/extra.toml", kataHandler(2, "qemu"));
  const tree = node.tree();
  const ran = await node.run(["install", "kata-qemu", "--adopt=replace"]);
  expect([ran.code, ran.err]).toEqual([3, expect.stringContaining("would come into effect")]);
  expect(node.tree()).toEqual(tree);
});

test("an adopted default handler is never missing between two writes", async () => {
  using node = new Node(
    "2.1.9",
    `version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd]\ndefault_runtime_name = "kata-qemu"\n\n${kataHandler(3, "qemu")}`,
  );
  const ran = await node.run(["install", "kata-qemu", "--adopt", "--json"]);
  const paths = (ran.json()["changes"] as { path: string }[]).map((change) => change.path);
  expect(paths).toEqual(["/etc/containerd/conf.d/50-shimctl-default.toml", "/etc/containerd/config.toml"]);
  expect((await node.run(["uninstall", "--all"])).code).toBe(5);
});

describe("on 1.x, where another program has written the file anew without comments", () => {
  const nodeWith = async (change: (text: string) => string = (text) => text) => {
    const node = Node.of(markedCase);
    expect((await node.run(["install", "kata-qemu", "--restart", "none"])).code).toBe(0);
    node.place(markedCase.main, change(node.text().replace(/^ *#.*\n/gm, "")));
    return node;
  };
  const commands = (node: Node, ...args: string[]) => node.run([...args, "--restart", "none", "--json"]);

  test("status says so, and blames no other tool", async () => {
    using node = await nodeWith();
    const status = (await node.run(["status", "--json"])).json();
    expect([status["result"], status["leftBy"], status["drift"]]).toMatchObject([
      "drifted",
      [],
      [{ owner: "default", path: markedCase.main, message: expect.stringContaining("without its markers") }],
    ]);
  });

  test("status tells whose it is, as uninstall will take it away", async () => {
    using node = await nodeWith();
    const { handlers, owners } = (await node.run(["status", "--json"])).json();
    expect(handlers).toContainEqual(expect.objectContaining({ name: "kata-qemu", owner: "default" }));
    expect(owners).toMatchObject([
      { owner: "default", path: markedCase.main, handlers: ["kata-qemu"], marked: false },
    ]);
    expect((await node.run(["status"])).out).toMatch(/kata-qemu .* default +- +- /);
  });

  test("the next install puts the markers back, and nothing is adopted", async () => {
    using node = await nodeWith();
    const ran = await commands(node, "install", "kata-qemu");
    expect([ran.code, ran.json()["adopted"], ran.json()["result"]]).toEqual([0, [], "changed"]);
    expect(node.text().match(/^# (BEGIN|END) shimctl default/gm)?.length).toBe(2);
    expect((await node.run(["status", "--json"])).json()["result"]).toBe("in sync");
  });

  test.each([["kata-qemu"], ["--all"]])("uninstall %s removes what was ours", async (what) => {
    using node = await nodeWith();
    expect((await commands(node, "uninstall", what)).code).toBe(0);
    expect(node.text()).not.toContain("kata");
  });

  test("a definition that was changed as well is theirs", async () => {
    using node = await nodeWith((text) => text.replace("configuration-qemu", "configuration-other"));
    const before = node.text();
    expect((await commands(node, "install", "kata-qemu")).code).toBe(5);
    expect((await commands(node, "uninstall", "--all")).code).toBe(0);
    expect(node.text()).toBe(before);
  });

  test("one that the default handler's key names by then is not taken away", async () => {
    using node = await nodeWith(
      (text) =>
        `${text}\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "kata-qemu"\n`,
    );
    const before = node.text();
    expect((await commands(node, "uninstall", "kata-qemu")).code).toBe(5);
    expect(node.text()).toBe(before);
  });

  test("status names what uninstall removes, also where another owner has taken some of it over", async () => {
    using node = Node.of(markedCase);
    expect((await commands(node, "install", "kata-qemu", "runsc")).code).toBe(0);
    node.place(markedCase.main, node.text().replace(/^ *#.*\n/gm, ""));
    expect((await commands(node, "install", "kata-qemu", "--owner", "other", "--adopt")).code).toBe(0);
    const { drift } = (await node.run(["status", "--json"])).json();
    expect(drift).toMatchObject([
      { owner: "default", message: expect.stringContaining("'runsc' stands here without its markers") },
      { owner: "default", message: "installed before and gone since: kata-qemu" },
    ]);
    expect((await commands(node, "uninstall", "--all")).code).toBe(0);
    expect([node.text().includes("runsc"), node.text().includes("kata-qemu")]).toEqual([false, true]);
  });

  test("a rollback to that leaves them the owner's, and uninstall takes them", async () => {
    using node = await nodeWith();
    const before = node.text();
    expect((await commands(node, "install", "runsc")).code).toBe(0);
    const back = (await commands(node, "rollback")).json();
    expect([back["error"], (back["handlers"] as { name: string }[]).map(({ name }) => name)]).toEqual([
      null,
      ["kata-qemu"],
    ]);
    expect(node.text()).toBe(before);
    const { result, leftBy } = (await node.run(["status", "--json"])).json();
    expect([result, leftBy]).toEqual(["drifted", []]);
    expect((await commands(node, "uninstall", "--all")).code).toBe(0);
    expect(node.text()).not.toContain("kata");
  });

  test("what was adopted there and stands there again is theirs: install takes it over, uninstall leaves it", async () => {
    for (const command of ["install", "uninstall"]) {
      using node = Node.of(markedCase);
      const begun = `${node.text()}\n${kataHandler(2, "qemu")}`;
      node.place(markedCase.main, begun);
      expect((await commands(node, "install", "kata-qemu", "--adopt")).code).toBe(0);
      node.place(markedCase.main, begun);
      const { drift } = (await node.run(["status", "--json"])).json();
      expect(JSON.stringify(drift)).toContain("was adopted from this file and is defined there again");
      expect(JSON.stringify(drift)).not.toContain("without its markers");
      expect((await commands(node, command, "kata-qemu")).code).toBe(0);
      if (command === "install") expect(node.text().split("runtimes.kata-qemu]").length).toBe(2);
      else expect(node.text()).toBe(begun);
      const { result } = (await node.run(["status", "--json"])).json();
      expect(result).toBe("in sync");
    }
  });

  test("another owner is told whose it is, and a rollback that somebody changed it", async () => {
    using node = await nodeWith();
    const other = await commands(node, "uninstall", "kata-qemu", "--owner", "other");
    expect([other.code, other.out]).toEqual([5, expect.stringContaining("belongs to owner 'default'")]);
    const back = await commands(node, "rollback");
    expect([back.code, back.out]).toEqual([5, expect.stringContaining("Cannot roll back, as somebody")]);
  });
});

describe("on 2.x, where others define a handler as ours does, which stands in its drop-in with markers", () => {
  const own = kataHandler(3, "qemu");
  const root = "/etc/containerd/config.toml";
  const nodeWith = async (text: string, ...how: string[]) => {
    const node = new Node("2.1.9", text);
    expect((await node.run(["install", "kata-qemu", ...how])).code).toBe(0);
    node.place(root, `${node.text()}# the administrator's own\n${own}`);
    return node;
  };

  test.each([
    ["since", "version = 3\n", []],
    ["again, after it was adopted,", `version = 3\n${own}`, ["--adopt"]],
  ] as const)("%s, uninstall leaves theirs", async (_, text, how) => {
    using node = await nodeWith(text, ...how);
    const { drift } = (await node.run(["status", "--json"])).json();
    expect(JSON.stringify(drift)).not.toContain("without its markers");
    expect((await node.run(["uninstall", "kata-qemu"])).code).toBe(0);
    expect(node.text()).toContain(`# the administrator's own\n${own}`);
  });

  test("an install of another handler takes nothing out of it", async () => {
    using node = await nodeWith("version = 3\n");
    const before = node.text();
    await node.run(["install", "runsc"]);
    expect(node.text()).toBe(before);
  });
});

test.each([["kata-qemu"], ["runsc"]])(
  "a drop-in of ours without comments gets its markers back from install %s",
  async (what) => {
    using node = new Node("2.1.9", "version = 3\n");
    const dropIn = "/etc/containerd/conf.d/50-shimctl-default.toml";
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    node.place(dropIn, node.text(dropIn).replace(/ *#.*/g, ""));
    const ran = await node.run(["install", what, "--json"]);
    expect([ran.json()["error"], ran.json()["adopted"]]).toEqual([null, []]);
    expect(node.text(dropIn).match(/^# (BEGIN|END) shimctl default/gm)?.length).toBe(2);
    expect(node.text(dropIn).match(/runtimes.kata-qemu\]/g)?.length).toBe(1);
    expect((await node.run(["status", "--json"])).json()["result"]).toBe("in sync");
  },
);
