import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { countLines } from "../../bench/counts.ts";
import { sleep } from "../../src/host/sleep.ts";
import { isSame } from "../../src/same.ts";
import { sha256 } from "../../src/sha256.ts";
import { hasEnded } from "../../src/transaction/journal.ts";

describe("what stands in for modules that take long to load", () => {
  test("sha256 is SHA-256", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.string(), (bytes, text) => {
        for (const each of [bytes, text])
          expect(sha256(each)).toBe(createHash("sha256").update(each).digest("hex"));
      }),
    );
  });

  test("isSame says of data what isDeepStrictEqual says", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(isSame(a, b)).toBe(isDeepStrictEqual(a, b));
        expect(isSame(a, structuredClone(a))).toBe(true);
      }),
    );
  });

  test("isSame tells an absent key from an undefined one, and an array from a table", () => {
    expect([isSame({}, { a: undefined }), isSame([], {}), isSame([1], { 0: 1 })]).toEqual([
      false,
      false,
      false,
    ]);
  });

  test("a sleep ends with its signal", async () => {
    const stop = new AbortController();
    const begin = performance.now();
    setTimeout(() => stop.abort(), 10);
    await sleep(60_000, stop.signal);
    await sleep(60_000, stop.signal);
    expect(performance.now() - begin).toBeLessThan(30_000);
  });
});

describe("an operation in the journal", () => {
  const line = (step: string, operation = "a") => JSON.stringify({ format: 1, step, operation });

  test("has ended where its own last line says so", () => {
    expect(hasEnded(`${line("begin")}\n${line("complete")}\n${line("end")}\n`)).toBe(true);
  });

  test("has ended where nothing but holds came after it", () => {
    const whole = `${line("begin")}\n${line("end")}\n`;
    expect(hasEnded(`${whole}${line("hold", "b")}\n${line("release", "c")}\n`)).toBe(true);
    expect(hasEnded(`${line("begin")}\n${line("hold", "b")}\n`)).toBe(false);
  });

  test("has not ended where the last line is another one, another's, or cut short", () => {
    const begin = line("begin");
    expect(
      [
        `${begin}\n`,
        `${begin}\n${line("complete")}\n`,
        `${begin}\n${line("end", "b")}\n`,
        `${begin}\n{"st`,
        "",
      ].map(hasEnded),
    ).toEqual([false, false, false, false, false]);
  });
});

describe("counting system calls", () => {
  test("takes a call that another thread interrupts for one, with the bytes that it wrote", () => {
    const text = [
      '11 openat(AT_FDCWD, "/node/a"..., O_RDWR) = 5</node/a>',
      '11 write(5</node/a>, ""..., 10 <unfinished ...>',
      "12 futex(0x1, FUTEX_WAKE) = 1",
      "11 <... write resumed>) = 10",
      '11 pwrite64(5</node/a>, ""..., 512, 0) = 512',
      '11 write(1</output>, ""..., 7) = 7',
      "11 fsync(5</node/a>) = 0",
      "11 +++ exited with 0 +++",
    ].join("\n");
    expect(countLines(text, "/node")).toEqual({ syscalls: 6, fsyncs: 1, bytesWritten: 522 });
  });
});
