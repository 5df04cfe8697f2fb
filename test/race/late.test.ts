import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import type { FileEdit } from "../../src/engine/backend.ts";
import { openHost } from "../../src/host/root.ts";
import { type CommitIntent, commitFile, type Late } from "../../src/transaction/commit.ts";
import { parseJournal } from "../../src/transaction/journal.ts";
import { compiled } from "../support/binary.ts";
import { LiveEngine } from "../support/live_engine.ts";
import { Node } from "../support/node.ts";

/**
 * A program that has looked a path up, and opens what stood there only after another file has taken its place: the
 * kernel does both in one call, between which a test cannot step. A descriptor of the old file is opened anew instead.
 */
class Straggler {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

const base = "version = 2\n[debug]\n  level = 'info'\n";
const ours = "# ours\n";
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (content: Uint8Array | null) => new TextDecoder().decode(content ?? new Uint8Array());

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(`${tmpdir()}/shimctl-late-`);
});
afterAll(() => rmSync(folder, { recursive: true }));
let runs = 0;

/** A commit that nobody disturbed, and what watches over it. */
async function committed() {
  const root = mkdtempSync(`${folder}/${++runs}-`);
  const target = `${root}/config.toml`;
  writeFileSync(target, base);
  const straggler = new Straggler(target);
  const strip = (content: Uint8Array | null) => text(content).replace(ours, "");
  const edit = (content: Uint8Array | null) => bytes(strip(content) + ours);
  const late: Late[] = [];
  const kept: string[] = [];
  const intents: CommitIntent[] = [];
  const planned: FileEdit = {
    path: "/config.toml",
    before: bytes(base),
    after: edit(bytes(base)),
    edit,
    bare: (content) => bytes(strip(content)),
  };
  const result = await commitFile(openHost(root), planned, {
    journal: (intent) => intents.push(intent),
    retries: 5,
    onKept: (content) => `store/${kept.push(text(content))}`,
    onHeld: (each) => late.push(each),
  });
  expect([result.contended, result.stale]).toEqual([false, false]);
  const [only] = late;
  if (only === undefined) throw new Error("nothing watches over it");
  return {
    straggler,
    late: only,
    kept,
    intents,
    now: () => readFileSync(target, "utf8"),
    put: (content: string) => writeFileSync(target, content),
    names: () => readdirSync(root),
    [Symbol.dispose]() {
      only.close();
      straggler[Symbol.dispose]();
    },
  };
}

/** Never from this process, nor while it stands still: it is who lets the other one go on. */
function shell(script: string): Promise<unknown> {
  return once(spawn("sh", ["-c", script], { stdio: "ignore" }), "exit");
}

function append(path: string, line: string): Promise<unknown> {
  return shell(`echo '${line}' >> '${path}'`);
}

describe("a program that opens the displaced file after the commit", () => {
  test("finds its line in the new one", async () => {
    using it = await committed();
    await append(it.straggler.path, "late = 1");
    expect(it.now()).toBe(base + ours);
    expect(await it.late.merge()).toBe(true);
    expect(it.now()).toBe(`${base}late = 1\n${ours}`);
    expect([it.names(), it.kept, it.intents.length]).toEqual([["config.toml"], [], 2]);
  });

  test("does not wait until it is asked about", async () => {
    using it = await committed();
    const started = performance.now();
    await append(it.straggler.path, "late = 1");
    // Without that, the kernel lets it go after lease-break-time, 45 s.
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(await it.late.merge()).toBe(true);
  });

  test("is waited for while it writes", async () => {
    using it = await committed();
    const slow = `exec 3>>'${it.straggler.path}'; echo open; sleep 0.5; echo 'late = 1' >&3`;
    const child = spawn("sh", ["-c", slow], { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    expect(await it.late.merge()).toBe(true);
    expect(it.now()).toBe(`${base}late = 1\n${ours}`);
  });

  test("and writes nothing changes nothing", async () => {
    using it = await committed();
    await shell(`: >> '${it.straggler.path}'`);
    expect(await it.late.merge()).toBe(false);
    expect([it.now(), it.intents.length]).toEqual([base + ours, 1]);
  });

  test("keeps its line beside what others have written since", async () => {
    using it = await committed();
    await append(it.straggler.path, "late = 1");
    it.put(`# another\n${base}${ours}`);
    expect(await it.late.merge()).toBe(true);
    expect(it.now()).toBe(`# another\n${base}late = 1\n${ours}`);
  });

  test("and changes what others have changed since has its version kept aside, and said", async () => {
    using it = await committed();
    const theirs = base.replace("info", "warn");
    await shell(`printf %s "${theirs}" > '${it.straggler.path}'`);
    it.put(base.replace("info", "debug") + ours);
    await expect(it.late.merge()).rejects.toMatchObject({
      code: "conflict",
      facts: { state: "the file holds what was written last; kept aside: store/1" },
    });
    expect([it.now(), it.kept]).toEqual([base.replace("info", "debug") + ours, [theirs]]);
  });
});

test("nobody came: nothing is done", async () => {
  using it = await committed();
  expect(await it.late.merge()).toBe(false);
  it.late.close();
  it.late.close();
  expect([it.now(), it.intents.length]).toEqual([base + ours, 1]);
});

describe("a line that comes while the engine is restarted", () => {
  const engine = new LiveEngine();
  afterAll(() => engine.stop());

  for (const [version, schema, plugin] of [
    ["1.7.24", 2, "io.containerd.grpc.v1.cri"],
    ["2.1.9", 3, "io.containerd.cri.v1.runtime"],
  ] as const) {
    const runc = `[plugins.'${plugin}'.containerd.runtimes.runc]\n  runtime_type = 'io.containerd.runc.v2'\n`;
    const config = `version = ${schema}\n${runc}`;
    test(`is in the file at the end, on containerd ${version}`, async () => {
      using node = new Node(version, config);
      engine.start(node.root, "containerd");
      using straggler = new Straggler(`${node.root}/etc/containerd/config.toml`);
      const [option = "", restart = ""] = engine.options(node.root);
      node.place("/late.sh", `echo '# late' >>${straggler.path} && exec ${restart}\n`);
      const run = (...args: string[]) =>
        spawnSync(compiled(), [...args, ...node.options], { encoding: "utf8" });
      const ran = run("install", "kata-qemu", option, `/bin/sh ${node.root}/late.sh`);
      expect([ran.status, ran.stderr]).toEqual([0, expect.not.stringContaining("shimctl:")]);
      expect(node.text().split("\n")).toContain("# late");
      expect(run("status").status).toBe(0);
      expect(parseJournal(node.text("/var/lib/shimctl/journal")).at(-1)).toMatchObject({ result: "changed" });

      expect(run("uninstall", "--all", ...engine.options(node.root)).status).toBe(0);
      expect(node.text()).toBe(`${config}# late\n`);
    });
  }
});
