import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { dropLease, leaseHolds, settle, takeLease } from "../../src/host/lease.ts";
import { type Libc, loadLibc } from "../../src/host/libc/libc.ts";

let folder = "";
let path = "";
let libc: Libc;
beforeAll(async () => {
  folder = mkdtempSync(`${tmpdir()}/shimctl-lease-`);
  libc = await loadLibc();
});
afterAll(() => rmSync(folder, { recursive: true }));
let runs = 0;
beforeEach(() => {
  path = `${folder}/${++runs}`;
  writeFileSync(path, "old\n");
});

describe("a lease", () => {
  test("is refused while somebody has the file open for writing", () => {
    const writer = openSync(path, "a");
    const fd = openSync(path, "r");
    expect(takeLease(libc, fd)).toBe("busy");
    closeSync(writer);
    expect(takeLease(libc, fd)).toBe("leased");
    closeSync(fd);
  });

  test("holds a writer back until it is dropped, and does not kill us", async () => {
    const fd = openSync(path, "r");
    expect(takeLease(libc, fd)).toBe("leased");
    expect(leaseHolds(libc, fd)).toBe(true);
    const child = spawn("sh", ["-c", `echo new >> '${path}'`]);
    const ended = once(child, "exit");
    while (leaseHolds(libc, fd)) await sleep(5);
    await sleep(50);
    expect(readFileSync(path, "utf8")).toBe("old\n");
    dropLease(libc, fd);
    await ended;
    expect(readFileSync(path, "utf8")).toBe("old\nnew\n");
    closeSync(fd);
  });
});

describe("settling", () => {
  test("waits for a writer and returns what it wrote", async () => {
    const child = spawn("sh", ["-c", `exec 3>>'${path}'; echo open; sleep 0.3; echo new >&3`], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    const fd = openSync(path, "r");
    const settled = await settle(libc, fd, performance.now() + 60_000);
    expect(settled?.leased).toBe(true);
    expect(new TextDecoder().decode(settled?.bytes)).toBe("old\nnew\n");
    closeSync(fd);
  });

  test("ends at its deadline while a writer stays", async () => {
    const writer = openSync(path, "a");
    const fd = openSync(path, "r");
    expect(await settle(libc, fd, performance.now() + 100)).toBeUndefined();
    closeSync(writer);
    closeSync(fd);
  });

  test("waits for content that stays the same where there are no leases", async () => {
    const without: Libc = { ...libc, fcntl: () => -22 };
    const fd = openSync(path, "r");
    // The kernel's clock for files has moved since the first content was written.
    await sleep(20);
    const settling = settle(without, fd, performance.now() + 60_000);
    // It has read the file, and nothing lets it go on before this is written.
    const written = performance.now();
    writeFileSync(path, "new\n");
    const settled = await settling;
    expect(settled?.leased).toBe(false);
    expect(new TextDecoder().decode(settled?.bytes)).toBe("new\n");
    expect(performance.now() - written).toBeGreaterThanOrEqual(100);
    closeSync(fd);
  });
});

describe("the C library", () => {
  test("is refused with a way out where executable memory is forbidden", () => {
    const script = `const { loadLibc } = await import(${JSON.stringify(`${import.meta.dirname}/../../src/host/libc/libc.ts`)});
      try { await loadLibc(); } catch (error) { console.log(error.code, error.message, error.facts.hint); }`;
    const { stdout } = spawnSync(process.execPath, ["-e", script], {
      env: { ...process.env, BUN_JSC_useJIT: "0" },
      encoding: "utf8",
    });
    expect(stdout).toStartWith(
      "unsupported-node Cannot lock the node or replace files safely, as this process may not map executable memory",
    );
    expect(stdout).toContain("MemoryDenyWriteExecute");
  });

  test("answers a failure with the error number, negated", () => {
    expect(libc.flock(-1, 6)).toBe(-9);
  });
});
