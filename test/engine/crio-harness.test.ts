import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { bringCrio } from "../../build/crio.ts";
import { type CrioDaemon, crioConfig, handlersOf, normalise, startCrio } from "./crio-harness.ts";
import { corpus, daemonProblem, jailProblem } from "./harness.ts";

const canJail = skipWith(jailProblem());
const canRunDaemons = skipWith(daemonProblem());
const files = existsSync(join(corpus, "crio")) ? readdirSync(join(corpus, "crio")).sort() : [];
if (files.length === 0)
  console.warn("skipped: CRI-O's corpus, as the shared corpus is not beside this repository");
const all = canJail ? (await bringCrio()).engines : [];

/** As CRI-O's own package has it, with programs that are in the jail. */
const packaged = `
[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
monitor_path = "/usr/libexec/crio/conmon"

[crio.runtime.runtimes.runc]
runtime_path = "/usr/libexec/crio/runc"
monitor_path = "/usr/libexec/crio/conmon"
`;
const kata = '[crio.runtime.runtimes.kata]\nruntime_path = "/opt/absent/kata"\nruntime_root = "/run/vc"\n';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

describe.each(all)("CRI-O $version ($name)", (engine) => {
  test.if(files.length > 0).each(files)("accepts %s of the corpus with every handler in it", (file) => {
    const text = readFileSync(join(corpus, "crio", file), "utf8");
    const { rc, stdout, stderr } = crioConfig(engine, node({ [file]: text }));
    expect({ rc, stderr }).toMatchObject({ rc: 0 });
    const names = [...text.matchAll(/^\[crio\.runtime\.runtimes\.([^\]]+)\]/gm)].map(
      (match) => match[1] ?? "",
    );
    expect(Object.keys(handlersOf(stdout))).toEqual(expect.arrayContaining(names));
  });

  test("finds the built-in handler where nothing is configured, though that is printed as a comment", () => {
    const { rc, stdout } = crioConfig(engine, newFolder());
    expect(rc).toBe(0);
    expect(Object.keys(handlersOf(stdout))).toEqual(["crun"]);
  });

  test("keeps the built-in handler beside one of a drop-in", () => {
    const { stdout } = crioConfig(engine, node({ "99-kata.conf": kata }));
    expect(handlersOf(stdout)).toMatchObject({ crun: {}, kata: { runtime_path: "/opt/absent/kata" } });
  });

  test("refuses a drop-in that is broken TOML", () => {
    const { rc, stdout, stderr } = crioConfig(engine, node({ "99-broken.conf": "[crio.runtime\n" }));
    expect(rc).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain("99-broken.conf");
  });

  test("refuses a default runtime that is in no file", () => {
    const { rc } = crioConfig(engine, node({ "99-x.conf": '[crio.runtime]\ndefault_runtime = "absent"\n' }));
    expect(rc).toBe(1);
  });

  test.each(["99-kata.conf.tmp", ".99-kata.conf", "99-kata.conf.bak", "deeper/99-kata"])(
    "reads %s in the drop-in folder: this judge bites",
    (name) => {
      const { rc, stdout } = crioConfig(engine, node({ [name]: kata }));
      expect(rc).toBe(0);
      expect(Object.keys(handlersOf(stdout))).toContain("kata");
      expect(crioConfig(engine, node({ [name]: "[crio.runtime\n" })).rc).toBe(1);
    },
  );

  test("replaces the whole table of a handler that a later file repeats", () => {
    const again = '[crio.runtime.runtimes.kata]\nruntime_type = "oci"\n';
    const { stdout } = crioConfig(engine, node({ "10-kata.conf": kata, "99-kata.conf": again }));
    expect(handlersOf(stdout)["kata"]).toMatchObject({ runtime_path: "", runtime_root: "" });
  });

  test("gives equal meanings whatever the order of tables, and others where a value differs", () => {
    const level = '[crio.runtime]\nlog_level = "debug"\n';
    const meaning = (text: string) => normalise(crioConfig(engine, node({ "50-x.conf": text })).stdout);
    expect(meaning(`${level}${kata}`)).toEqual(meaning(`${kata}${level}`));
    expect(meaning(`${level}${kata}`)).not.toEqual(meaning(kata));
    expect(meaning(`${level}${kata}`)).not.toEqual(meaning(level));
  });

  test("leaves the sandbox as it was", () => {
    const root = node({ "10-crio.conf": packaged });
    const before = listing(root);
    expect(crioConfig(engine, root).rc).toBe(0);
    expect(listing(root)).toEqual(before);
  });

  describe.if(canRunDaemons)("as a daemon", () => {
    let daemon: CrioDaemon;
    let root: string;
    let before: string[];
    beforeAll(async () => {
      root = node({ "10-crio.conf": packaged, "99-kata.conf": kata });
      before = listing(root);
      daemon = await startCrio(engine, root);
    }, 30_000);
    afterAll(async () => {
      await daemon?.stop();
    });

    test("serves the handlers whose programs are there", async () => {
      expect(await daemon.handlers()).toEqual(["crun", "runc"]);
    });

    test("ignores a handler whose program is absent, with the documented warning", () => {
      expect(daemon.ignored()).toEqual(["kata"]);
      expect(daemon.log()).toContain(
        'Runtime handler \\"kata\\" is being ignored due to: invalid runtime_path',
      );
    });

    test("is reached at its socket from outside the jail", () => {
      expect(statSync(daemon.socket).isSocket()).toBe(true);
    });

    test("keeps its images in memory, by copying", () => {
      expect(daemon.config()["crio"]).toMatchObject({ storage_driver: "vfs" });
    });

    test("does not look at the node's files again for what it says of itself", async () => {
      const changing = node({ "10-crio.conf": packaged });
      const running = await startCrio(engine, changing);
      try {
        writeFileSync(join(changing, dropIns, "99-broken.conf"), "[crio.runtime\n");
        expect(await running.handlers()).toEqual(["crun", "runc"]);
      } finally {
        await running.stop();
      }
    }, 30_000);

    test("serves its built-in handler on a node without any configuration", async () => {
      const bare = await startCrio(engine, newFolder());
      try {
        expect(await bare.handlers()).toEqual(["crun"]);
        expect(bare.ignored()).toEqual([]);
      } finally {
        await bare.stop();
      }
    }, 30_000);

    test("answers where its configuration puts the socket", async () => {
      const moved = '[crio.api]\nlisten = "/run/elsewhere/crio.sock"\n';
      const elsewhere = await startCrio(engine, node({ "10-crio.conf": packaged, "20-api.conf": moved }));
      try {
        expect(elsewhere.socket).toEndWith("/run/elsewhere/crio.sock");
        expect(await elsewhere.handlers()).toEqual(["crun", "runc"]);
      } finally {
        await elsewhere.stop();
      }
    }, 30_000);

    test("is refused when the program of the default runtime is absent", async () => {
      const text = `${kata}[crio.runtime]\ndefault_runtime = "kata"\n`;
      const start = startCrio(engine, node({ "99-kata.conf": text }));
      await expect(start).rejects.toThrow(/gave up with exit code 1[\s\S]*invalid runtime_path/);
    }, 30_000);

    test("is refused with the engine's own words when a drop-in is cut off", async () => {
      const start = startCrio(engine, node({ "99-broken.conf": "[crio.runtime\n" }));
      await expect(start).rejects.toThrow(/gave up with exit code 1[\s\S]*99-broken\.conf/);
    }, 30_000);

    test("ends with everything it started, and leaves the sandbox and this machine's mounts as they were", async () => {
      await daemon.stop();
      expect(existsSync(`/proc/${daemon.pid}`)).toBe(false);
      expect(listing(root)).toEqual(before);
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain("shimctl-");
      expect(daemon.ignored()).toEqual(["kata"]);
      await expect(daemon.handlers()).rejects.toThrow("crio ended with");
    }, 30_000);
  });
});

const dropIns = "etc/crio/crio.conf.d";

function skipWith(problem: string | undefined): boolean {
  if (problem !== undefined) console.warn(`skipped: ${problem}`);
  return problem === undefined;
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-node-"));
  folders.push(folder);
  return folder;
}

/** A sandbox root with these files in its drop-in folder. */
function node(files: Record<string, string>): string {
  const root = newFolder();
  for (const [name, content] of Object.entries(files)) {
    const path = join(root, dropIns, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
  return root;
}

function listing(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
}
