import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Engine, engines } from "../../build/engines.ts";
import {
  corpus,
  corpusFile,
  type Daemon,
  daemonProblem,
  dump,
  handlersOf,
  jailProblem,
  normalise,
  placeMissingImports,
  startDaemon,
} from "./harness.ts";

/**
 * Where the matrix is not about what we place: its copy of this file kept an import that leads nowhere, which
 * 1.x refuses; with the import in place 1.6.20 takes it, as it takes every version 3.
 */
const corrections: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "26-talos-cri-containerd-v3.toml": { "1.6.20": "ok:1" },
};

/** The corpus matrix: file -> column (an engine version) -> "ok:N" or "rcN". */
type Matrix = ReadonlyMap<string, ReadonlyMap<string, string>>;

const canJail = skipWith(jailProblem());
const canRunDaemons = skipWith(daemonProblem());
const hasCorpus = existsSync(join(corpus, "README.md"));
if (!hasCorpus)
  console.warn("skipped: the corpus matrix, as the shared corpus is not beside this repository");
const matrix = hasCorpus
  ? readMatrix(readFileSync(join(corpus, "README.md"), "utf8"))
  : new Map<string, never>();
const all = canJail ? await engines() : [];

const kataOnly = `
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
  runtime_type = "io.containerd.kata.v2"
`;

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

describe.each(all)("containerd $version ($name)", (engine) => {
  test.if(hasCorpus)(
    "dumps every corpus file with the exit code and the number of handlers in the matrix",
    () => {
      const column = columnFor(engine);
      if (column === undefined)
        return console.warn(`skipped: the matrix has no column for ${engine.version}`);
      const differences: string[] = [];
      for (const [file, verdicts] of matrix) {
        const said = judge(engine, corpusFile(file));
        const expected = corrections[file]?.[column] ?? verdicts.get(column);
        if (said !== expected) differences.push(`${file}: ${said}, not ${expected}`);
      }
      expect(differences).toEqual([]);
    },
    60_000,
  );

  test("resolves an absolute import inside the sandbox and leaves the sandbox as it was", () => {
    const root = node('version = 2\nimports = ["/run/own/*.toml"]\n', {
      "run/own/kata.toml": `version = 2\n${kataOnly}`,
    });
    const before = listing(root);
    const { rc, stdout } = dump(engine, root);
    expect(rc).toBe(0);
    expect(Object.keys(handlersOf(stdout, engine.version))).toContain("kata");
    expect(listing(root)).toEqual(before);
  });

  test("sees the sandbox's files under /usr beside this machine's", () => {
    const root = node("", { "usr/share/shimctl-test/config.toml": `version = 2\n${kataOnly}` });
    const { rc, stdout } = dump(engine, root, "/usr/share/shimctl-test/config.toml");
    expect(rc).toBe(0);
    expect(Object.keys(handlersOf(stdout, engine.version))).toContain("kata");
  });

  test("dumps in well under the time that hundreds of dumps may take", () => {
    const root = node("version = 2\n");
    dump(engine, root);
    const start = performance.now();
    for (let i = 0; i < 5; i++) dump(engine, root);
    // Some 60 ms where nothing else runs; the bound only catches a jail that has become slow.
    expect((performance.now() - start) / 5).toBeLessThan(5_000);
  });

  test("gives equal meanings whatever the order of tables and of disabled plugins", () => {
    const one = "io.containerd.snapshotter.v1.zfs";
    const two = "io.containerd.snapshotter.v1.btrfs";
    const cri = '[plugins."io.containerd.grpc.v1.cri"]\nmax_concurrent_downloads = 5\n';
    const grpc = "[grpc]\nuid = 3\n";
    const first = dump(engine, node(`version = 2\ndisabled_plugins = ["${one}", "${two}"]\n${cri}${grpc}`));
    const second = dump(engine, node(`version = 2\ndisabled_plugins = ["${two}", "${one}"]\n${grpc}${cri}`));
    const third = dump(engine, node(`version = 2\ndisabled_plugins = ["${two}", "${one}"]\n${cri}`));
    expect(normalise(first.stdout)).toEqual(normalise(second.stdout));
    expect(normalise(first.stdout)).not.toEqual(normalise(third.stdout));
  });

  describe.if(canRunDaemons)("as a daemon", () => {
    let debian: Daemon;
    beforeAll(async () => {
      debian = await startDaemon(engine, node(packaged()));
    }, 30_000);
    afterAll(async () => {
      await debian?.stop();
    });

    test("serves CRI on Debian's packaged configuration", () => {
      expect(debian.criLoaded()).toBe(true);
      expect(debian.log()).toContain("containerd successfully booted");
    });

    test("reports plugins that others would look for", () => {
      expect(debian.plugins()).toContainEqual({
        type: "io.containerd.snapshotter.v1",
        id: "overlayfs",
        status: "ok",
      });
    });

    test("is reached at its socket from outside the jail", () => {
      expect(statSync(debian.socket).isSocket()).toBe(true);
    });

    test("ends with everything it started, and leaves the sandbox and this machine's mounts as they were", async () => {
      const root = node(packaged());
      const before = listing(root);
      const daemon = await startDaemon(engine, root);
      await daemon.stop();
      expect(existsSync(`/proc/${daemon.pid}`)).toBe(false);
      expect(listing(root)).toEqual(before);
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain("shimctl-");
      expect(daemon.log()).toContain("containerd successfully booted");
      expect(() => daemon.plugins()).toThrow("containerd ended with");
    }, 30_000);

    test.if(engine.version.startsWith("1."))(
      "boots without CRI when the only handler is not the default one (trap 1): this judge bites",
      async () => {
        const daemon = await startDaemon(engine, node(`${packaged()}\n${kataOnly}`));
        try {
          expect(daemon.criLoaded()).toBe(false);
          expect(daemon.log()).toContain("no corresponding runtime configured");
        } finally {
          await daemon.stop();
        }
      },
      30_000,
    );

    test.if(!engine.version.startsWith("1."))(
      "serves CRI when the only handler is not the default one, as the built-in runc stays",
      async () => {
        const daemon = await startDaemon(engine, node(`${packaged()}\n${kataOnly}`));
        try {
          expect(daemon.criLoaded()).toBe(true);
        } finally {
          await daemon.stop();
        }
      },
      30_000,
    );

    test("answers where its configuration puts root, state and socket, also behind an absolute link", async () => {
      const text =
        'version = 2\nroot = "/data/link/containerd"\nstate = "/run/elsewhere"\n[grpc]\naddress = "/run/foo/foo.sock"\n';
      const moved = node(text, { "data/real/.keep": "" });
      symlinkSync("/data/real", join(moved, "data", "link"));
      const daemon = await startDaemon(engine, moved);
      try {
        expect(daemon.socket).toEndWith("/run/foo/foo.sock");
        expect(daemon.criLoaded()).toBe(true);
      } finally {
        await daemon.stop();
      }
      expect(readdirSync(join(moved, "data", "real"))).toEqual([".keep"]);
    }, 30_000);

    test("serves CRI where the configuration leaves its stream server to the node's default route", async () => {
      const text = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nstream_server_address = ""\n';
      const daemon = await startDaemon(engine, node(text));
      try {
        expect(daemon.criLoaded()).toBe(true);
      } finally {
        await daemon.stop();
      }
    }, 30_000);

    test("boots without any configuration, though its dump may refuse that", async () => {
      const bare = newFolder();
      const daemon = await startDaemon(engine, bare);
      try {
        expect(daemon.criLoaded()).toBe(true);
      } finally {
        await daemon.stop();
      }
      if (engine.version.startsWith("1.")) expect(dump(engine, bare).rc).toBe(1);
    }, 30_000);

    test("is refused with the engine's own words when the configuration is cut off", async () => {
      const start = startDaemon(engine, node("version = 2\n[plug"));
      await expect(start).rejects.toThrow(/gave up with exit code 1[\s\S]*toml/);
    }, 30_000);
  });
});

test.if(canRunDaemons && all.length > 0)(
  "a daemon dies with the test process that started it, however that ends",
  async () => {
    const script = `
    const { startDaemon } = await import(${JSON.stringify(join(import.meta.dirname, "harness.ts"))});
    const daemon = await startDaemon(${JSON.stringify(all[0])}, ${JSON.stringify(newFolder())});
    console.log(daemon.pid);
    process.kill(process.pid, "SIGKILL");`;
    // Its own TMPDIR, as a killed process leaves its folders behind.
    const { stdout } = spawnSync(process.execPath, ["-e", script], {
      encoding: "utf8",
      env: { ...process.env, TMPDIR: newFolder() },
    });
    const pid = Number(stdout);
    expect(pid).toBeGreaterThan(1);
    const deadline = Date.now() + 20_000;
    while (existsSync(`/proc/${pid}`) && Date.now() < deadline) await sleep(20);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  },
  30_000,
);

test("an empty file is placed for every literal import that is absent, and for no other", () => {
  const root = newFolder();
  mkdirSync(join(root, "etc", "containerd"), { recursive: true });
  writeFileSync(join(root, "etc", "containerd", "there.toml"), "version = 2\n");
  const toml = 'imports = ["/run/k0s/cri.toml", "there.toml", "../near.toml", "/etc/containerd/*.toml"]\n';
  expect(placeMissingImports(root, toml)).toEqual(["/run/k0s/cri.toml", "/etc/near.toml"]);
  expect(readFileSync(join(root, "run", "k0s", "cri.toml"), "utf8")).toBe("");
  expect(readFileSync(join(root, "etc", "containerd", "there.toml"), "utf8")).toBe("version = 2\n");
  expect(placeMissingImports(root, "imports = [")).toEqual([]);
});

function skipWith(problem: string | undefined): boolean {
  if (problem !== undefined) console.warn(`skipped: ${problem}`);
  return problem === undefined;
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-node-"));
  folders.push(folder);
  return folder;
}

/** A sandbox root with this configuration and these files. */
function node(config: string | Uint8Array, files: Record<string, string> = {}): string {
  const root = newFolder();
  for (const [path, content] of Object.entries({ "etc/containerd/config.toml": config, ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

function listing(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
}

/** Debian's packaged configuration, without any handler; its text here is for where the corpus is absent. */
function packaged(): string {
  const name = "08-debian-packaged-v2.toml";
  if (hasCorpus) return new TextDecoder().decode(corpusFile(name));
  return `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
`;
}

function judge(engine: Engine, config: Uint8Array): string {
  const root = node(config);
  placeMissingImports(root, config);
  const { rc, stdout } = dump(engine, root);
  return rc === 0 ? `ok:${Object.keys(handlersOf(stdout, engine.version)).length}` : `rc${rc}`;
}

/** The matrix has one engine per minor release; sid may have moved on within it. */
function columnFor(engine: Engine): string | undefined {
  const first: ReadonlyMap<string, string> | undefined = matrix.values().next().value;
  const minor = engine.version.split(".").slice(0, 2).join(".");
  return [...(first?.keys() ?? [])].find((version) => version.startsWith(`${minor}.`));
}

function readMatrix(readme: string): Matrix {
  const table = readme.split("```")[1] ?? "";
  const [header = "", ...rows] = table.trim().split("\n");
  // The first two headings touch: "pytoml1.6.20".
  const versions = header
    .replace(/^file\s+pytoml/, "")
    .trim()
    .split(/\s+/);
  return new Map(
    rows.map((row) => {
      const [file = "", , ...verdicts] = row.trim().split(/\s+/);
      return [file, new Map(versions.map((version, index) => [version, verdicts[index] ?? ""]))];
    }),
  );
}
