import { afterAll, beforeAll, expect, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { dropLease, leaseHolds, takeLease } from "../../src/host/lease.ts";
import { cString, loadLibc } from "../../src/host/libc/libc.ts";
import { runsAlone } from "../../src/host/runnable.ts";

const seconds = Number(process.env["SHIMCTL_TEST_RACE_SECONDS"] ?? 5);
const exchange = 2;
let folder = "";
const writers: ChildProcess[] = [];

beforeAll(() => {
  folder = mkdtempSync(`${existsSync("/dev/shm") ? "/dev/shm" : tmpdir()}/shimctl-alone-`);
});
afterAll(() => {
  for (const writer of writers) writer.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

/** Opens a path to append in bursts, and rests so shortly that it is in open(2) again and again. */
const opener = `import { closeSync, openSync } from "node:fs";
const nap = new Int32Array(new SharedArrayBuffer(4));
for (;;) {
  for (let turn = 0; turn < Math.random() * 30; turn++) try { closeSync(openSync(process.argv[1], "a")); } catch {}
  Atomics.wait(nap, 0, 0, Math.random() * 0.6);
}`;

test("no program opens the displaced file after a moment at which no thread but ours could run", async () => {
  const libc = await loadLibc();
  const [path, temp] = [`${folder}/file`, `${folder}/temp`];
  writeFileSync(path, "a\n");
  writeFileSync(temp, "b\n");
  for (let count = 0; count < 2; count++)
    writers.push(spawn(process.execPath, ["-e", opener, path], { stdio: "ignore" }));
  let late = 0;
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const fd = openSync(path, "r");
    if (takeLease(libc, fd) === "leased") {
      libc.renameat2(cString(temp), cString(path), exchange);
      const begin = performance.now();
      let alone = false;
      while (!alone && performance.now() - begin < 5) alone = runsAlone();
      if (alone && leaseHolds(libc, fd)) {
        await sleep(15);
        if (!leaseHolds(libc, fd)) late += 1;
      }
      dropLease(libc, fd);
    }
    closeSync(fd);
    await sleep(0);
  }
  expect(late).toBe(0);
});
