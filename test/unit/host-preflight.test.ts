import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { ShimctlError } from "../../src/error.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import { parseMounts } from "../../src/host/mounts.ts";
import { preflight } from "../../src/host/preflight.ts";
import { openHost } from "../../src/host/root.ts";

let root = "";
beforeAll(async () => {
  root = mkdtempSync(`${tmpdir()}/shimctl-preflight-`);
  await loadLibc();
});
afterAll(() => rmSync(root, { recursive: true }));

function refusal(path: string, tempDir?: string): string {
  try {
    preflight(openHost(root), path, tempDir);
    return "";
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    expect([error.code, error.facts.path]).toEqual(["unsupported-node", path]);
    return `${error.message}; ${error.facts.hint}`;
  }
}

const file = (name: string) => {
  mkdirSync(`${root}/${name}`);
  writeFileSync(`${root}/${name}/config.toml`, "");
  return `/${name}/config.toml`;
};

/** Runs a line of shell in a mount namespace of its own; the reason when that is not possible here. */
const cannotMount = spawnSync("unshare", ["-m", "true"]).status === 0 ? undefined : "mounting needs root";
const cannotFlag = (() => {
  const probe = mkdtempSync(`${tmpdir()}/shimctl-flags-`);
  const works = spawnSync("chattr", ["+i", probe]).status === 0;
  if (works) execFileSync("chattr", ["-i", probe]);
  rmSync(probe, { recursive: true });
  return works ? undefined : "file flags need root and a file system that has them";
})();
const cannotBeRefused = process.geteuid?.() === 0 ? "root may write into every folder" : undefined;

function testUnless(reason: string | undefined, name: string, run: () => void): void {
  if (reason !== undefined) console.log(`skipped: ${name}: ${reason}`);
  test.skipIf(reason !== undefined)(name, run);
}

/** The preflight of a child process, in whatever the shell has prepared around it. */
function inMountNamespace(prepare: string, path: string, tempDir?: string): string {
  const script = `
    const { loadLibc } = await import(${JSON.stringify(`${import.meta.dirname}/../../src/host/libc/libc.ts`)});
    const { preflight } = await import(${JSON.stringify(`${import.meta.dirname}/../../src/host/preflight.ts`)});
    const { openHost } = await import(${JSON.stringify(`${import.meta.dirname}/../../src/host/root.ts`)});
    await loadLibc();
    try { preflight(openHost(${JSON.stringify(root)}), ${JSON.stringify(path)}, ${JSON.stringify(tempDir)}); } catch (e) { console.log(e.message + "; " + e.facts.hint); }`;
  return execFileSync("unshare", ["-m", "sh", "-c", `${prepare} && exec "$BUN" -e "$SCRIPT"`], {
    env: { ...process.env, BUN: process.execPath, SCRIPT: script },
    encoding: "utf8",
  }).trim();
}

describe("before anything is written", () => {
  test("an ordinary file is accepted", () => expect(refusal(file("plain"))).toBe(""));

  test("a new file in a folder that can be made is accepted", () =>
    expect(refusal("/plain/more/conf.d/new.toml")).toBe(""));

  test("a file with two names is refused", () => {
    const path = file("twice");
    linkSync(`${root}${path}`, `${root}/twice/other`);
    expect(refusal(path)).toContain("2 names (hard links)");
  });

  test("a folder in place of the file is refused", () => {
    mkdirSync(`${root}/folder/config.toml`, { recursive: true });
    expect(refusal("/folder/config.toml")).toContain("not a regular file");
  });

  testUnless(cannotFlag, "an immutable file is refused with the way out", () => {
    const path = file("immutable");
    execFileSync("chattr", ["+i", `${root}${path}`]);
    try {
      expect(refusal(path)).toContain("marked immutable; run chattr -i /immutable/config.toml");
    } finally {
      execFileSync("chattr", ["-i", `${root}${path}`]);
    }
  });

  testUnless(cannotFlag, "an append-only file is refused", () => {
    const path = file("append");
    execFileSync("chattr", ["+a", `${root}${path}`]);
    try {
      expect(refusal(path)).toContain("marked append-only; run chattr -a");
    } finally {
      execFileSync("chattr", ["-a", `${root}${path}`]);
    }
  });

  testUnless(cannotFlag, "an immutable folder is refused", () => {
    const path = file("frozen");
    execFileSync("chattr", ["+i", `${root}/frozen`]);
    try {
      expect(refusal(path)).toContain("its folder is marked immutable; run chattr -i /frozen");
    } finally {
      execFileSync("chattr", ["-i", `${root}/frozen`]);
    }
  });

  testUnless(cannotMount, "a file that is a mount point is refused", () => {
    const path = file("a mount");
    const target = `'${root}${path}'`;
    expect(inMountNamespace(`mount --bind ${target} ${target}`, path)).toContain(
      "the file itself is a mount point; mount the folder, not the file",
    );
  });

  testUnless(cannotMount, "a read-only file system is refused", () => {
    const path = file("readonly");
    const folder = `'${root}/readonly'`;
    expect(
      inMountNamespace(`mount --bind ${folder} ${folder} && mount -o remount,ro,bind ${folder}`, path),
    ).toContain("read-only file system");
  });

  testUnless(cannotBeRefused, "a folder that this user may not write into is refused", () => {
    const path = file("foreign");
    execFileSync("chmod", ["0555", `${root}/foreign`]);
    try {
      expect(refusal(path)).toContain("not writable for this user");
    } finally {
      execFileSync("chmod", ["0755", `${root}/foreign`]);
    }
  });

  testUnless(cannotMount, "a folder for temporary files on another file system is refused", () => {
    const path = file("near");
    mkdirSync(`${root}/far`);
    expect(inMountNamespace(`mount -t tmpfs none '${root}/far'`, path, "/far")).toContain(
      "its temporary file would be on another file system: /far",
    );
  });

  test("spaces in mount points are written in octal", () => {
    const line = "36 35 98:0 / /mnt/a\\040b\\134c rw,noatime - ext3 /dev/root rw";
    expect(parseMounts(`${line}\n`)).toEqual([{ shows: "/", point: "/mnt/a b\\c", type: "ext3" }]);
  });
});
