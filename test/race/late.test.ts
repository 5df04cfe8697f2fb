import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import type { FileEdit } from "../../src/engine/backend.ts";
import { ShimctlError } from "../../src/error.ts";
import type { CommitPoint } from "../../src/host/exchange.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { openHost } from "../../src/host/root.ts";
import type { Activation } from "../../src/transaction/activation.ts";
import { type CommitIntent, commitFile, type Late } from "../../src/transaction/commit.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import { parseJournal } from "../../src/transaction/journal.ts";
import type { Request } from "../../src/transaction/request.ts";
import { run } from "../../src/transaction/run.ts";
import { compiled } from "../support/binary.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { LiveEngine } from "../support/live_engine.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing } from "../support/transaction.ts";

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

  /** Returns when a line is about to be appended, and waits until the file may be written. */
  append(line: string): void {
    spawn("sh", ["-c", `printf '%s\\n' '${line}' >>${this.path}`], { stdio: "ignore" });
    const waits = new RegExp(`LEASE +BREAKING .*:${fstatSync(this.#fd).ino} `);
    const deadline = Date.now() + 10_000;
    while (!waits.test(readFileSync("/proc/locks", "utf8"))) {
      if (Date.now() > deadline) throw new Error("nobody watches it");
      Bun.sleepSync(1);
    }
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

interface Disturbed {
  readonly contended?: boolean;
  readonly failpoint?: (point: CommitPoint, straggler: Straggler) => void;
  readonly prove?: (merged: string) => void;
}

/** A commit that nobody disturbed, unless that is said, and what watches over it. */
async function committed({ contended = false, failpoint, prove }: Disturbed = {}) {
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
    prove: (_, merged) => prove?.(text(merged)),
    failpoint: (point) => failpoint?.(point, straggler),
  });
  expect([result.contended, result.stale]).toEqual([contended, false]);
  const [first] = late;
  if (first === undefined) throw new Error("nothing watches over it");
  return {
    straggler,
    late: first,
    kept,
    intents,
    now: () => readFileSync(target, "utf8"),
    put: (content: string) => writeFileSync(target, content),
    names: () => readdirSync(root),
    [Symbol.dispose]() {
      for (const each of late) each.close();
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

test("a program that comes after it was asked whether one has does not wait, and is found the next time", async () => {
  using it = await committed();
  expect(await it.late.merge()).toBe(false);
  const started = performance.now();
  await append(it.straggler.path, "late = 1");
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(await it.late.merge()).toBe(true);
  await append(it.straggler.path, "later = 2");
  expect(await it.late.merge()).toBe(true);
  expect(it.now()).toBe(`${base}late = 1\nlater = 2\n${ours}`);
  expect(await it.late.merge()).toBe(false);
});

test("a program that comes after one that was met while the file was written finds its line beside that one's", async () => {
  let isMet = false;
  using it = await committed({
    contended: true,
    failpoint(point, straggler) {
      if (point !== "compared" || isMet) return;
      isMet = true;
      straggler.append("between = 1");
    },
  });
  await append(it.straggler.path, "late = 1");
  expect(await it.late.merge()).toBe(true);
  expect(it.now()).toBe(`${base}between = 1\nlate = 1\n${ours}`);
});

test("what the engine could not work with is kept aside, and said", async () => {
  using it = await committed({
    prove(merged) {
      if (merged.includes("late")) throw new ShimctlError("conflict", "Made up");
    },
  });
  await append(it.straggler.path, "late = 1");
  await expect(it.late.merge()).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringContaining("the engine could not work with both"),
  });
  expect([it.now(), it.kept]).toEqual([base + ours, [`${base}late = 1\n`]]);
});

test("a line that comes when the edit was taken back does not bring it back", async () => {
  using it = await committed();
  it.put(base);
  await append(it.straggler.path, "late = 1");
  expect(await it.late.merge(true)).toBe(true);
  expect(it.now()).toBe(`${base}late = 1\n`);
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

describe("a line that comes late in a run", () => {
  const rootFile = "/etc/containerd/config.toml";
  const config = "# theirs\nversion = 3\n";
  const runc = `version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n`;
  const uninstalling = (names: "all" | string[]): Request => ({
    ...installing(),
    intent: { command: "uninstall", names },
  });

  class Setup {
    readonly node: Node;
    readonly engine: FakeEngine;
    readonly #open: Straggler[] = [];

    constructor(version = "2.1.9", content = config) {
      this.node = new Node(version, content);
      this.engine = new FakeEngine(() => environmentOf(this.node));
    }

    straggler(path = rootFile): Straggler {
      const straggler = new Straggler(this.node.root + path);
      this.#open.push(straggler);
      return straggler;
    }

    async run(request: Request, more: Partial<Activation> = {}, onStep?: (step: string) => void) {
      const env: Environment = {
        ...environmentOf(this.node, onStep),
        activation: this.engine.activation(more),
      };
      return run(env, request);
    }

    async fails(request: Request, more: Partial<Activation> = {}, onStep?: (step: string) => void) {
      const error = await this.run(request, more, onStep).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (error instanceof ShimctlError) return error;
      throw new Error("it did not fail", { cause: error });
    }

    get kept(): string[] {
      const kept = `${this.node.root}/var/lib/shimctl/conflict`;
      return existsSync(kept) ? readdirSync(kept).map((name) => readFileSync(`${kept}/${name}`, "utf8")) : [];
    }

    get ended(): unknown {
      const last = parseJournal(this.node.text("/var/lib/shimctl/journal")).at(-1);
      return last?.step === "end" ? last.result : last?.step;
    }

    [Symbol.dispose](): void {
      for (const each of this.#open) each[Symbol.dispose]();
      this.node[Symbol.dispose]();
    }
  }

  beforeAll(async () => {
    await loadLibc();
  });

  test("is said, and that the engine does not run with it yet", async () => {
    using it = new Setup();
    const straggler = it.straggler();
    it.engine.onRestart = () => straggler.append("# late");
    const { notes, pendingForeign } = await it.run(installing("kata-qemu"));
    expect([notes, pendingForeign]).toEqual([
      [`merged an edit of another program back into ${rootFile}`],
      [rootFile],
    ]);
    expect(it.node.text().split("\n")).toContain("# late");
  });

  test("is in the file that is left when the change is undone", async () => {
    using it = new Setup();
    const straggler = it.straggler();
    it.engine.fault = (handlers) => (handlers.includes("kata-qemu") ? "unit fails" : "none");
    it.engine.onRestart = () => {
      it.engine.onRestart = () => undefined;
      straggler.append("# late");
    };
    const { code, facts } = await it.fails(installing("kata-qemu"));
    expect([code, facts.state]).toEqual([
      "engine-failed",
      `merged an edit of another program back into ${rootFile}; the change was undone`,
    ]);
    expect([it.node.text(), it.ended]).toEqual([`${config}# late\n`, "undone"]);
  });

  test("is in the file when it comes to what undoing has displaced", async () => {
    using it = new Setup();
    it.engine.fault = (handlers) => (handlers.includes("kata-qemu") ? "unit fails" : "none");
    it.engine.onRestart = () => {
      const straggler = it.straggler();
      it.engine.onRestart = () => straggler.append("# late");
    };
    expect((await it.fails(installing("kata-qemu"))).code).toBe("engine-failed");
    expect([it.node.text(), it.ended]).toEqual([`${config}# late\n`, "undone"]);
  });

  test("is in the file when the engine does not answer after the change", async () => {
    using it = new Setup();
    const straggler = it.straggler();
    it.engine.fault = () => "silent";
    it.engine.onRestart = () => straggler.append("# late");
    expect((await it.fails(installing("kata-qemu"), { verifyTimeoutMs: 200 })).code).toBe("cannot-verify");
    expect(it.node.text().split("\n")).toContain("# late");
    expect(it.node.text()).toContain("shimctl shared");
  });

  test("is in the file when the engine does not answer after the change was undone either", async () => {
    using it = new Setup();
    const straggler = it.straggler();
    it.engine.fault = () => "silent";
    it.engine.onRestart = () => {
      it.engine.onRestart = () => straggler.append("# late");
    };
    const options = { verifyTimeoutMs: 200, undoOnTimeout: true };
    expect((await it.fails(installing("kata-qemu"), options)).code).toBe("undo-failed");
    expect([it.node.text(), it.ended]).toEqual([`${config}# late\n`, "undo failed"]);
  });

  test("is kept aside where the engine would not start with it any more", async () => {
    using it = new Setup("1.7.24", runc);
    await it.run(installing("kata-qemu", "crun"));
    const straggler = it.straggler();
    const line = '[plugins."io.containerd.grpc.v1.cri".containerd]\n  default_runtime_name = "kata-qemu"';
    const error = await it.fails(uninstalling(["kata-qemu"]), {}, (step) => {
      if (step === "record") straggler.append(line);
    });
    expect([error.code, error.facts.state]).toEqual([
      "conflict",
      expect.stringContaining("the change was made and recorded all the same"),
    ]);
    expect(it.node.text()).not.toContain("default_runtime_name");
    expect([it.kept.some((kept) => kept.endsWith(`${line}\n`)), it.ended]).toEqual([true, "changed"]);
  });

  test("is not lost with one in another file that cannot be merged", async () => {
    using it = new Setup();
    await it.run(installing("kata-qemu"));
    const one = it.straggler();
    const other = it.straggler("/etc/containerd/conf.d/50-shimctl-default.toml");
    await it.fails(uninstalling("all"), {}, (step) => {
      if (step !== "record") return;
      one.append('[plugins."half');
      other.append("# late");
    });
    expect(it.node.text()).toBe(config);
    expect(it.kept.map((kept) => kept.split("\n").at(-2))).toEqual(
      expect.arrayContaining(["# late", '[plugins."half']),
    );
  });
});
