import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { cString, Errno, type Libc, loadLibc } from "../../src/host/libc/libc.ts";
import { locate, nameTemp } from "../../src/host/pending.ts";
import { openHost } from "../../src/host/root.ts";
import type { CommitIntent } from "../../src/transaction/commit.ts";
import { commitFile } from "../../src/transaction/commit.ts";

let folder = "";
let libc: Libc;
beforeAll(async () => {
  folder = mkdtempSync(`${tmpdir()}/shimctl-pending-`);
  libc = await loadLibc();
});
afterAll(() => rmSync(folder, { recursive: true }));

const bytes = (text: string) => new TextEncoder().encode(text);
const isRoot = process.geteuid?.() === 0;
let runs = 0;
const sandbox = () => {
  const root = `${folder}/${++runs}`;
  mkdirSync(root);
  writeFileSync(`${root}/config.toml`, "old\n");
  return root;
};

async function replace(root: string, before: string | null, after: string | null, more = {}) {
  const intents: CommitIntent[] = [];
  const result = await commitFile(
    openHost(root),
    {
      path: "/config.toml",
      before: before === null ? null : bytes(before),
      after: after === null ? null : bytes(after),
      edit: (content) => content,
      bare: (content) => content,
      ...more,
    },
    { retries: 0, journal: (intent) => intents.push(intent), onKept: () => "" },
  );
  return { result, intents };
}

function onFile<T>(path: string, work: (fd: number) => T): T {
  const fd = openSync(path, "r");
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}

const setAttribute = (path: string, name: string, value: Uint8Array) =>
  onFile(path, (fd) => libc.fsetxattr(fd, cString(name), value));

function attribute(path: string, name: string): Uint8Array | number {
  const value = new Uint8Array(256);
  const result = onFile(path, (fd) => libc.fgetxattr(fd, cString(name), value));
  return result < 0 ? result : value.slice(0, result);
}

/** Access list in the kernel's own form: version 2, then tag, permissions and id of each entry (acl(5)). */
function accessList(...entries: readonly (readonly [number, number, number])[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + entries.length * 8));
  view.setUint32(0, 2, true);
  for (const [index, [tag, permissions, id]] of entries.entries()) {
    view.setUint16(4 + index * 8, tag, true);
    view.setUint16(6 + index * 8, permissions, true);
    view.setUint32(8 + index * 8, id, true);
  }
  return new Uint8Array(view.buffer);
}
const nobody = 0xffffffff;
const list = accessList([1, 6, nobody], [2, 4, 4711], [4, 4, nobody], [16, 4, nobody], [32, 0, nobody]);

describe("a file that is replaced", () => {
  test("keeps its permission bits", async () => {
    const root = sandbox();
    chmodSync(`${root}/config.toml`, 0o604);
    await replace(root, "old\n", "new\n");
    expect(readFileSync(`${root}/config.toml`, "utf8")).toBe("new\n");
    expect(statSync(`${root}/config.toml`).mode & 0o7777).toBe(0o604);
  });

  test.skipIf(!isRoot)("keeps its owner and group", async () => {
    const root = sandbox();
    chownSync(`${root}/config.toml`, 4711, 4712);
    await replace(root, "old\n", "new\n");
    const { uid, gid } = statSync(`${root}/config.toml`);
    expect([uid, gid]).toEqual([4711, 4712]);
  });

  test("keeps its user attributes", async () => {
    const root = sandbox();
    const supported = setAttribute(`${root}/config.toml`, "user.note", bytes("kept")) === 0;
    if (!supported) return console.log("skipped: this file system has no user attributes");
    await replace(root, "old\n", "new\n");
    expect(attribute(`${root}/config.toml`, "user.note")).toEqual(bytes("kept"));
  });

  test("keeps its access list", async () => {
    const root = sandbox();
    chmodSync(`${root}/config.toml`, 0o640);
    const supported = setAttribute(`${root}/config.toml`, "system.posix_acl_access", list) === 0;
    if (!supported) return console.log("skipped: this file system has no access lists");
    await replace(root, "old\n", "new\n");
    expect(attribute(`${root}/config.toml`, "system.posix_acl_access")).toEqual(list);
  });

  test("does not get its folder's default access list", async () => {
    const root = sandbox();
    const supported = setAttribute(root, "system.posix_acl_default", list) === 0;
    if (!supported) return console.log("skipped: this file system has no access lists");
    await replace(root, "old\n", "new\n");
    expect(attribute(`${root}/config.toml`, "system.posix_acl_access")).toBe(-Errno.ENODATA);
    expect(statSync(`${root}/config.toml`).mode & 0o7777).toBe(0o644);
  });

  test.skipIf(!isRoot)("keeps its security label", async () => {
    const root = sandbox();
    const label = bytes("system_u:object_r:container_config_t:s0\0");
    if (setAttribute(`${root}/config.toml`, "security.selinux", label) < 0) {
      return console.log("skipped: labels cannot be set here");
    }
    await replace(root, "old\n", "new\n");
    expect(attribute(`${root}/config.toml`, "security.selinux")).toEqual(label);
  });

  test("is replaced where its link leads, and the link stays", async () => {
    const root = sandbox();
    mkdirSync(`${root}/real`);
    writeFileSync(`${root}/real/conf.toml`, "old\n");
    rmSync(`${root}/config.toml`);
    symlinkSync("/real/conf.toml", `${root}/config.toml`);
    const { intents } = await replace(root, "old\n", "new\n");
    expect(lstatSync(`${root}/config.toml`).isSymbolicLink()).toBe(true);
    expect(readFileSync(`${root}/real/conf.toml`, "utf8")).toBe("new\n");
    expect(readdirSync(`${root}/real`)).toEqual(["conf.toml"]);
    expect(intents).toMatchObject([{ path: "/config.toml", target: "/real/conf.toml" }]);
  });

  test("leaves a descriptor that was opened before with the old bytes", async () => {
    const root = sandbox();
    const fd = openSync(`${root}/config.toml`, "r");
    await replace(root, "old\n", "new\n");
    expect(readFileSync(fd, "utf8")).toBe("old\n");
    closeSync(fd);
  });
});

describe("a file that is created or removed", () => {
  test("is created with the mode that is asked for", async () => {
    const root = sandbox();
    rmSync(`${root}/config.toml`);
    await replace(root, null, "new\n", { mode: 0o640 });
    expect(statSync(`${root}/config.toml`).mode & 0o7777).toBe(0o640);
    expect(readdirSync(root)).toEqual(["config.toml"]);
  });

  test("is created with 0644 by default", async () => {
    const root = sandbox();
    rmSync(`${root}/config.toml`);
    await replace(root, null, "new\n");
    expect(statSync(`${root}/config.toml`).mode & 0o7777).toBe(0o644);
  });

  test("is removed without a trace", async () => {
    const root = sandbox();
    await replace(root, "old\n", null);
    expect(readdirSync(root)).toEqual([]);
  });
});

describe("a temporary file", () => {
  test("has no name before it is journalled, so that a crash leaves nothing unexplained", async () => {
    const root = sandbox();
    const seen: string[] = [];
    await commitFile(
      openHost(root),
      {
        path: "/config.toml",
        before: bytes("old\n"),
        after: bytes("new\n"),
        edit: (content) => content,
        bare: (content) => content,
      },
      {
        retries: 0,
        onKept: () => "",
        journal: async (intent) => {
          await Promise.resolve();
          seen.push(readdirSync(root).join(), readFileSync(`${root}/config.toml`, "utf8"), intent.temp);
        },
      },
    );
    expect(seen).toEqual(["config.toml", "old\n", expect.stringContaining(".tmp")]);
  });

  test("has a name that containerd's globs do not match", () => {
    const root = sandbox();
    const temp = nameTemp(locate(openHost(root), "/config.toml"));
    expect(temp.path).toMatch(/^\/\.config\.toml\.shimctl-[0-9a-f]{12}\.tmp$/);
  });

  test("stands in the folder that the caller names", async () => {
    const root = sandbox();
    mkdirSync(`${root}/temps`);
    const { intents } = await replace(root, "old\n", "new\n", { tempDir: "/temps" });
    expect(intents[0]?.temp).toMatch(/^\/temps\/\./);
    expect([readFileSync(`${root}/config.toml`, "utf8"), readdirSync(`${root}/temps`)]).toEqual([
      "new\n",
      [],
    ]);
  });

  test("goes when the journal cannot be written", async () => {
    const root = sandbox();
    const options = {
      retries: 0,
      onKept: () => "",
      journal: () => Promise.reject(new Error("disk full")),
    };
    const edit = { path: "/config.toml", before: bytes("old\n"), after: bytes("new\n") };
    await expect(
      commitFile(
        openHost(root),
        { ...edit, edit: (content) => content, bare: (content) => content },
        options,
      ),
    ).rejects.toThrow("disk full");
    expect(readdirSync(root)).toEqual(["config.toml"]);
    expect(readFileSync(`${root}/config.toml`, "utf8")).toBe("old\n");
  });

  test("is not discarded once it holds a displaced file", () => {
    const root = sandbox();
    const temp = nameTemp(locate(openHost(root), "/config.toml"));
    writeFileSync(temp.real, "theirs\n");
    temp.displaced();
    temp.discard();
    expect(existsSync(temp.real)).toBe(true);
  });

  const canMount = spawnSync("unshare", ["-m", "true"]).status === 0;
  if (!canMount) console.log("skipped: a full disk: mounting needs root");
  test.skipIf(!canMount)("leaves the file as it was when the disk is full", () => {
    const root = sandbox();
    const script = `
      const { commitFile } = await import(${JSON.stringify(`${import.meta.dirname}/../../src/transaction/commit.ts`)});
      const { openHost } = await import(${JSON.stringify(`${import.meta.dirname}/../../src/host/root.ts`)});
      const fs = require("fs");
      const before = fs.readFileSync(process.env.ROOT + "/config.toml");
      const same = (content) => content;
      try {
        await commitFile(openHost(process.env.ROOT), { path: "/config.toml", before, after: new Uint8Array(1 << 20), edit: same, bare: same },
          { retries: 0, journal: () => {}, onKept: () => "" });
      } catch (error) { console.log(error.code + ": " + error.message); }
      console.log(fs.readdirSync(process.env.ROOT).join(), fs.readFileSync(process.env.ROOT + "/config.toml", "utf8"));`;
    const prepare = `mount -t tmpfs -o size=64k none '${root}' && echo old > '${root}/config.toml'`;
    const out = execFileSync("unshare", ["-m", "sh", "-c", `${prepare} && exec "$BUN" -e "$SCRIPT"`], {
      env: { ...process.env, BUN: process.execPath, SCRIPT: script, ROOT: root },
      encoding: "utf8",
    });
    expect(out).toBe(
      "unsupported-node: Cannot replace this file, as the file system is full\nconfig.toml old\n\n",
    );
  });
});
