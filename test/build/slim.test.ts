import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { compile, compileOnly } from "../../build/compile.ts";
import { segmentsOf } from "../../build/elf.ts";
import { slim } from "../../build/slim.ts";
import { nativeTarget } from "../../build/target.ts";

const folder = mkdtempSync(join(tmpdir(), "shimctl-slim-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Answers {
  readonly everywhere: readonly unknown[];
  readonly byLanguage: Readonly<Record<string, readonly unknown[]>>;
  readonly whole: boolean;
}

function answers(executable: string, locale: string): Answers {
  const { status, stdout, stderr } = spawnSync(executable, {
    encoding: "utf8",
    env: { LC_ALL: locale, LANG: locale },
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return JSON.parse(stdout) as Answers;
}

describe("an executable without the data of other languages", () => {
  const probe = join(import.meta.dirname, "..", "support", "unicode.ts");
  const [whole, slimmed] = [join(folder, "whole"), join(folder, "slimmed")];
  compileOnly(nativeTarget(), whole, probe);
  compile(nativeTarget(), slimmed, probe);

  for (const locale of ["C", "ja_JP.UTF-8", "th_TH.UTF-8", "tr_TR.UTF-8", "nonsense"])
    test(`answers as before but in those languages, under ${locale}`, () => {
      const [before, after] = [answers(whole, locale), answers(slimmed, locale)];
      expect(after.everywhere).toEqual(before.everywhere);
      for (const language of ["en", "en-GB", "xx"])
        expect(after.byLanguage[language]).toEqual(before.byLanguage[language] ?? []);
      // Every other language has an answer, its own or English.
      expect(after.byLanguage["de"]).not.toEqual(before.byLanguage["de"] ?? []);
      expect(after.whole).toBe(true);
    });

  test("is more than 8 MB smaller, and no page of it is mapped twice", () => {
    expect(statSync(whole).size - statSync(slimmed).size).toBeGreaterThan(8e6);
    const loads = segmentsOf(readFileSync(slimmed)).filter((each) => each.type === 1);
    const page = (at: number) => Math.floor(at / 0x1000);
    for (const [index, each] of loads.entries()) {
      const next = loads[index + 1];
      if (next !== undefined)
        expect(page(each.address + each.memorySize - 1)).toBeLessThan(page(next.address));
    }
  });

  test("is not cut a second time", () => {
    expect(() => slim(readFileSync(slimmed))).toThrow("cannot take data out of this file");
  });

  test("is not cut where there is no such data, or it is there twice", () => {
    const file = readFileSync(process.execPath);
    const at = file.indexOf("CmnD") - 12;
    expect(() => slim(Buffer.concat([file, file.subarray(at, at + 160)]))).toThrow("2 places instead of one");
    file.fill(0, at, at + 16);
    expect(() => slim(file)).toThrow("0 places instead of one");
  });
});
