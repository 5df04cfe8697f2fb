import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile } from "../../build/compile.ts";
import { entryOf, machineOf, segmentsOf } from "../../build/elf.ts";
import { fixLoader } from "../../build/fixed-loader.ts";
import { scrubEnvironment } from "../../build/scrub.ts";
import { sha256 } from "../../build/sums.ts";
import { nativeTarget } from "../../build/target.ts";
import { compiled } from "../support/binary.ts";

describe("compiling", () => {
  test("twice, into different folders and names, gives the same bytes", () => {
    const other = join(tmpdir(), `shimctl-again-${process.pid}`, "another-name");
    try {
      compile(nativeTarget(), other);
      expect(sha256(readFileSync(other))).toBe(sha256(readFileSync(compiled())));
    } finally {
      rmSync(join(other, ".."), { recursive: true, force: true });
    }
  });

  test("gives an executable for the machine that was asked for, which says so when it runs", () => {
    expect(machineOf(readFileSync(compiled()))).toBe(nativeTarget().machine);
    const { stdout } = spawnSync(compiled(), ["version", "--json"], { encoding: "utf8" });
    expect(JSON.parse(stdout).platform).toBe(`linux-${nativeTarget().arch}`);
  });

  test("leaves nothing in the executable that a test could switch it by", () => {
    const text = readFileSync(compiled()).toString("latin1");
    expect(new Set(text.match(/SHIMCTL_[A-Z_]*TEST[A-Z_]*|SHIMCTL_[A-Z_]*FAIL[A-Z_]*/g))).toEqual(new Set());
  });
});

describe("a patch", () => {
  /** The executable as it is before a release is hardened: without the code, and with the room for it. */
  const plain = (): Buffer => readFileSync(process.execPath);

  test("puts the entry point and nothing else outside what was code", () => {
    const before = plain();
    const after = plain();
    scrubEnvironment(after);
    const changed = [...segmentsOf(before).keys()].filter((index) => {
      const [one, other] = [segmentsOf(before)[index], segmentsOf(after)[index]];
      return JSON.stringify(one) !== JSON.stringify(other);
    });
    expect(changed).toHaveLength(1);
    expect(entryOf(after)).toBeLessThan(entryOf(before));
  });

  test("is refused a second time", () => {
    const file = plain();
    scrubEnvironment(file);
    expect(() => scrubEnvironment(file)).toThrow("it may be patched already");
  });

  test("is refused where something stands in the room that it needs", () => {
    const file = plain();
    const text = segmentsOf(file).find((each) => each.type === 1 && each.flags === 5);
    file.writeUInt8(1, (text?.offset ?? 0) - 5);
    expect(() => scrubEnvironment(file)).toThrow("no room for the code that scrubs the environment");
  });

  test("of the loader is refused where there is a search path already", () => {
    const file = plain();
    fixLoader(file, "/opt/shimctl/ld.so", "/opt/shimctl");
    expect(() => fixLoader(file, "/opt/shimctl/ld.so", "/opt/shimctl")).toThrow("cannot patch this file");
  });

  test("is refused on what is not such a file", () => {
    expect(() => scrubEnvironment(Buffer.alloc(100))).toThrow("no 64-bit little-endian ELF");
    const twoCodeSegments = plain();
    const [first] = segmentsOf(twoCodeSegments).filter((each) => each.type === 1);
    twoCodeSegments.writeUInt32LE(5, (first?.header ?? 0) + 4);
    expect(() => scrubEnvironment(twoCodeSegments)).toThrow("2 places instead of one: executable segment");
  });
});
