import { describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { parse } from "smol-toml";
import { ShimctlError } from "../../src/error.ts";
import { sha256 } from "../../src/sha256.ts";
import { recover } from "../../src/transaction/recover.ts";
import { run } from "../../src/transaction/run.ts";
import { crioCase } from "../support/engine_case.ts";
import { handler } from "../support/memory.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const config =
  'version = 2\n\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n';
const rootFile = "/etc/containerd/config.toml";
const temp = "/etc/containerd/.config.toml.shimctl-0123456789ab.tmp";
const conflicts = "/var/lib/shimctl/conflict";

interface Left {
  readonly temp?: string;
  readonly path?: string;
  readonly target?: string;
  readonly engine?: string;
  readonly rootFile?: string;
  readonly complete?: boolean;
  /** The hash of what it wrote. */
  readonly after?: string;
}

/** A run that was cut short after it had exchanged `config` for what the file holds. */
function cutShort(node: Node, left: Left = {}): void {
  const state = stateOf(node);
  const before = state.store(new TextEncoder().encode(config));
  state.append("1", {
    step: "begin",
    command: "install",
    owner: "default",
    engine: left.engine ?? "containerd",
    rootFile: left.rootFile ?? rootFile,
    previous: [],
    desired: [handler("crun")],
    folders: [],
  });
  state.append("1", {
    step: "intent",
    path: left.path ?? rootFile,
    target: left.target ?? rootFile,
    temp: left.temp ?? temp,
    before,
    after: left.after ?? "0".repeat(64),
  });
  if (left.complete === true) state.append("1", { step: "complete" });
}

function keptAside(node: Node): string[] {
  const folder = node.root + conflicts;
  return existsSync(folder) ? readdirSync(folder).map((name) => node.text(`${conflicts}/${name}`)) : [];
}

function journalOf(node: Node): string {
  return readFileSync(`${node.root}/var/lib/shimctl/journal`, "utf8");
}

async function failed(work: Promise<unknown>): Promise<ShimctlError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw new Error("no ShimctlError", { cause: error });
  }
  throw new Error("it did not fail");
}

describe("another program's version that was displaced", () => {
  test("is merged into the file, and nothing is left", async () => {
    using node = new Node("1.7.24", `${config}# current\n`);
    cutShort(node);
    node.place(temp, `# theirs\n${config}`);
    const recovery = await recover(environmentOf(node), stateOf(node));
    expect(recovery.outcome).toBe("undone");
    expect(node.text()).toBe(`# theirs\n${config}# current\n`);
    expect([existsSync(node.root + temp), keptAside(node)]).toEqual([false, []]);
    // A run that is cut short here as well finds the intents of the merge.
    expect(journalOf(node).match(/"step":"intent"/g)).toHaveLength(2);
    expect((await recover(environmentOf(node), stateOf(node))).outcome).toBe("none");
  });

  test("stays in the file when what it was merged into is undone", async () => {
    using node = new Node("1.7.24", config);
    await run(environmentOf(node), installing("crun"));
    const ours = node.text();
    rmSync(`${node.root}/var/lib/shimctl`, { recursive: true });
    cutShort(node, { after: sha256(ours) });
    const state = stateOf(node);
    const before = state.store(new TextEncoder().encode(ours));
    // An earlier run that was cut short as well has merged it.
    node.place(rootFile, `# theirs\n${ours}`);
    const after = state.store(new TextEncoder().encode(node.text()));
    state.append("1", { step: "intent", path: rootFile, target: rootFile, temp, before, after });
    expect((await recover(environmentOf(node), state)).outcome).toBe("undone");
    expect(node.text()).toBe(`# theirs\n${config}`);
  });

  test("is merged where CRI-O's drop-in is a link to another folder", async () => {
    using node = Node.of(crioCase);
    const path = crioCase.block("default");
    const target = "/srv/deep/x.conf";
    const aside = "/etc/crio/.x.conf.shimctl-0123456789ab.tmp";
    node.place(target, `${config}# current\n`);
    symlinkSync(target, node.root + path);
    cutShort(node, { engine: "crio", rootFile: crioCase.rootFile, path, target, temp: aside });
    node.place(aside, `# theirs\n${config}`);
    expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
    expect(node.text(target).startsWith(`# theirs\n${config}# current\n`)).toBe(true);
    expect([existsSync(node.root + aside), keptAside(node)]).toEqual([false, []]);
  });

  const kept: Readonly<Record<string, readonly [current: string, theirs: string]>> = {
    "does not parse": [`${config}# current\n`, `${config}[plugins."half`],
    "parses, and not together with the file": [
      `${config}[debug]\n  level = "info"\n`,
      `${config}[debug]\n  level = "warn"\n`,
    ],
    "changed the same lines": [
      config.replace("runc.v2", "runc.current"),
      config.replace("runc.v2", "runc.theirs"),
    ],
  };
  for (const [what, [current, theirs]] of Object.entries(kept)) {
    test(`is kept aside, and the file stays, when it ${what}`, async () => {
      using node = new Node("1.7.24", current);
      cutShort(node);
      node.place(temp, theirs);
      const { details } = await recover(environmentOf(node), stateOf(node));
      expect(details).toEqual([expect.stringContaining(`kept another program's version of ${rootFile} as`)]);
      expect([node.text(), keptAside(node)]).toEqual([current, [theirs]]);
      expect(existsSync(node.root + temp)).toBe(false);
    });
  }

  test("is kept aside when the version that both were made of is damaged", async () => {
    using node = new Node("1.7.24", `${config}# current\n`);
    cutShort(node);
    const [name] = readdirSync(`${node.root}/var/lib/shimctl/store`);
    node.place(`/var/lib/shimctl/store/${name}`, "version = 2\n");
    node.place(temp, `# theirs\n${config}`);
    await recover(environmentOf(node), stateOf(node));
    expect([node.text(), keptAside(node)]).toEqual([`${config}# current\n`, [`# theirs\n${config}`]]);
  });

  test("stays where it is, as does the journal, while its writer has it open", async () => {
    using node = new Node("1.7.24", config);
    cutShort(node);
    node.place(temp, config);
    const journal = journalOf(node);
    const fd = openSync(node.root + temp, "a");
    const ran = await node.run(["install", "crun", "--json"]);
    closeSync(fd);
    expect([ran.code, ran.json()["error"]]).toMatchObject([5, { code: "conflict", retryable: true }]);
    expect(ran.out).toContain(temp);
    expect(ran.out).not.toContain("nothing was written");
    expect([node.text(), journalOf(node), node.text(temp)]).toEqual([config, journal, config]);
    expect((await node.run(["install", "crun"])).code).toBe(0);
    expect(existsSync(node.root + temp)).toBe(false);
  }, 40_000);
});

describe("what the journal names is left alone when it cannot be ours", () => {
  const places: Readonly<Record<string, readonly [left: Left, make: (real: string) => unknown]>> = {
    "a folder": [{}, (real) => mkdirSync(real)],
    "a symbolic link": [{}, (real) => symlinkSync("config.toml", real)],
    "a file by another name": [{ temp: "/etc/containerd/notes.txt" }, touch],
    "a file named after another one": [{ temp: "/etc/containerd/.x.toml.shimctl-0123456789ab.tmp" }, touch],
    "a file in another folder": [{ temp: "/opt/.config.toml.shimctl-0123456789ab.tmp" }, touch],
    "a file of one that the engine does not read": [
      {
        path: "/opt/config.toml",
        target: "/opt/config.toml",
        temp: "/opt/.config.toml.shimctl-0123456789ab.tmp",
      },
      touch,
    ],
  };
  for (const [what, [left, make]] of Object.entries(places)) {
    test(what, async () => {
      using node = new Node("1.7.24", config);
      cutShort(node, left);
      const real = node.root + (left.temp ?? temp);
      make(real);
      const before = lstatSync(real, { bigint: true });
      const { code, err } = await node.run(["install", "crun"]);
      expect([code, err]).toEqual([0, expect.stringContaining(`left ${left.temp ?? temp} alone, as`)]);
      expect(lstatSync(real, { bigint: true }).ctimeNs).toBe(before.ctimeNs);
    });
  }
});

function touch(real: string): void {
  closeSync(openSync(real, "w"));
}

describe("an error says what really happened", () => {
  test("a foreign error after a commit: the change was undone", async () => {
    using node = new Node("1.7.24", config);
    const env = environmentOf(node, (name) => {
      if (name === "record") throw Object.assign(new Error("EROFS: read-only"), { code: "EROFS" });
    });
    const error = await failed(run(env, installing("crun")));
    expect([error.code, error.facts.state]).toEqual(["unsupported-node", "the change was undone"]);
    expect(node.text()).toBe(config);
  });

  test("a record that cannot be written: every file is in place, and the next run records it", async () => {
    using node = new Node("1.7.24", config);
    const record = `${node.root}/var/lib/shimctl/record.json`;
    const env = environmentOf(node, (name) => name === "record" && mkdirSync(record));
    const { message, facts } = await failed(run(env, installing("crun")));
    expect(message).toBe("Cannot read shimctl's record, as it is a folder");
    expect(facts.state).toContain("the install of owner 'default' is in place; the next run records it");
    expect(node.text()).toContain("crun");
    rmdirSync(record);
    expect((await node.run(["install", "crun"])).err).toContain("finished an install");
    expect((await node.run(["status"])).code).toBe(0);
  });

  test("a recovery that cannot go on tells what it has done already", async () => {
    using node = new Node("1.7.24", "version = [\n");
    cutShort(node);
    node.place(temp, `# theirs\n${config}`);
    const { err, code } = await node.run(["install", "crun"]);
    expect(code).toBe(3);
    expect(err).toContain(`kept another program's version of ${rootFile} as ${conflicts}/`);
    expect(err).toContain("is not complete, though every file is");
    expect(err).not.toContain("nothing was written");
  });

  test("a run that is refused after it has recovered tells both", async () => {
    using node = new Node("1.7.24", config);
    cutShort(node);
    const { err, code } = await node.run(["uninstall", "runc"]);
    expect(code).toBe(5);
    expect(err).toContain("undid an install of owner 'default' that was cut short; nothing else was written");
  });
});

describe("what is unfinished belongs to one configuration", () => {
  test("another engine's is refused with the option that names it", async () => {
    using node = new Node("1.7.24", config);
    cutShort(node, { engine: "crio" });
    for (const args of [
      ["install", "crun"],
      ["install", "crun", "--dry-run"],
    ]) {
      const { code, err } = await node.run(args);
      expect([code, err]).toEqual([5, expect.stringContaining("--engine crio")]);
    }
    expect(node.text()).toBe(config);
  });

  test("another root file's is undone there", async () => {
    using node = new Node("1.7.24", config);
    const other = "/etc/other/config.toml";
    node.place(other, config);
    expect((await node.run(["install", "crun", "--config", other])).code).toBe(0);
    const lines = journalOf(node)
      .split("\n")
      .filter((line) => !/"step":"(complete|end)"/.test(line));
    node.place("/var/lib/shimctl/journal", lines.join("\n"));
    expect((await node.run(["install", "runsc"])).code).toBe(0);
    expect(node.text(other)).toBe(config);
    expect(node.text()).not.toContain("crun");
  });
});

test("undoing leaves what the record says that the owner has", async () => {
  using node = new Node("1.7.24", config);
  expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
  node.place(rootFile, config);
  const record: object = JSON.parse(node.text("/var/lib/shimctl/record.json"));
  const stop = new AbortController();
  const env = environmentOf(node, (name) => name === "commit" && stop.abort(), stop.signal);
  expect((await failed(run(env, installing("runsc")))).code).toBe("interrupted");
  expect(node.text()).toBe(config);
  expect(JSON.parse(node.text("/var/lib/shimctl/record.json"))).toEqual({
    ...record,
    counts: { undone: 1 },
  });
  expect((await node.run(["status"])).code).toBe(10);
  expect((await node.run(["install", "runsc"])).code).toBe(0);
  expect(Object.keys(parse(node.text()))).toContain("plugins");
  expect(node.text()).toContain("kata-qemu");
});
