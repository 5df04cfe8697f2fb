import { expect, test } from "bun:test";
import fc from "fast-check";
import { setBlock } from "../../src/toml/edit.ts";
import { mend } from "../../src/toml/mend/mend.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { generate } from "../fixtures/toml/documents.ts";

const path = "/etc/containerd/config.toml";
const body = `[shimctl.runtimes.kata-qemu]\nruntime_type = "io.containerd.kata-qemu.v2"\n`;
const owners = new Map([["default", ["kata-qemu"]]]);

function run(bytes: Uint8Array) {
  return mend(bytes, { path, owners, acceptsMark: false });
}

/** A valid document with a block of ours at its end. */
const document = fc.nat(0x7fffffff).map((seed) => {
  const text = generate(seed, "realistic");
  const whole = text.endsWith("\n") ? text : `${text}\n`;
  return setBlock(whole, { owner: "default", body });
});

const stray = fc.constantFrom('3s"', 'io.containerd.x"', "x y", '= "2s"', '", "b"', "}", "half a li");

function lines(text: string): string[] {
  return text.split("\n");
}

/** Lines between which one more is a line of its own: not in a value, not in our block. */
function gaps(text: string): number[] {
  const all = lines(text);
  return all.flatMap((_, at) => {
    try {
      parseToml(all.slice(0, at).join("\n"), path);
      return all.slice(0, at).some((line) => line.startsWith("# BEGIN")) ? [] : [at];
    } catch {
      return [];
    }
  });
}

const runs = { numRuns: 400 };

test("a stray line anywhere is cut, and the undamaged bytes come back", () => {
  fc.assert(
    fc.property(document, stray, fc.nat(), (text, line, place) => {
      const places = gaps(text);
      const at = places[place % places.length] ?? 0;
      const all = lines(text);
      const damaged = [...all.slice(0, at), line, ...all.slice(at)].join("\n");
      const { bytes, damages } = run(Buffer.from(damaged));
      expect(damages.map((damage) => damage.line)).toEqual([at + 1]);
      expect(Buffer.from(bytes ?? []).toString()).toBe(text);
    }),
    runs,
  );
});

test("NUL bytes at the end, the whole file once more, and a byte order mark are cut", () => {
  const damage = fc.constantFrom(
    (text: string) => Buffer.concat([Buffer.from(text), Buffer.alloc(777)]),
    (text: string) => Buffer.from(text + text),
    (text: string) => Buffer.from(`\ufeff${text}`),
  );
  fc.assert(
    fc.property(document, damage, (text, harm) => {
      // Without anything that can be doubled the document may stand twice.
      fc.pre(run(harm(text)).damages.length > 0);
      expect(Buffer.from(run(harm(text)).bytes ?? []).toString()).toBe(text);
    }),
    runs,
  );
});

test("a file that was cut short keeps every line but the last, or is said to be beyond telling", () => {
  let mended = 0;
  fc.assert(
    fc.property(document, fc.nat(), (text, cut) => {
      const short = text.slice(0, cut % text.length);
      const { bytes } = run(Buffer.from(short));
      if (bytes === undefined) return;
      mended += 1;
      const after = Buffer.from(bytes).toString();
      expect(() => parseToml(after, path)).not.toThrow();
      const block = short.indexOf("# BEGIN shimctl");
      const theirs = block < 0 ? short : short.slice(0, block);
      // What is whole stays; of what is cut off, at most the value that it is in the middle of goes.
      const kept = lines(theirs).slice(0, -1);
      while (kept.length > 0 && !isWhole(kept)) kept.pop();
      expect(after.startsWith(kept.join("\n"))).toBe(true);
    }),
    runs,
  );
  expect(mended).toBeGreaterThan(runs.numRuns / 2);
});

function isWhole(kept: readonly string[]): boolean {
  try {
    parseToml(kept.join("\n"), path);
    return true;
  } catch {
    return false;
  }
}

test("where a line is cut off, alone or with its end, no key moves into another table", () => {
  let mended = 0;
  fc.assert(
    fc.property(document, fc.nat(), fc.nat(), fc.boolean(), (text, line, column, joined) => {
      const all = lines(text);
      const at = line % all.length;
      const whole = all[at] ?? "";
      const half = whole.slice(0, column % (whole.length + 1));
      const damaged = joined
        ? [...all.slice(0, at), half + (all[at + 1] ?? ""), ...all.slice(at + 2)]
        : [...all.slice(0, at), half, ...all.slice(at + 1)];
      const { bytes, damages } = run(Buffer.from(damaged.join("\n")));
      // Half a header can be a header, and half a number is one: of that nobody can know.
      if (bytes === undefined || damages.length === 0) return;
      mended += 1;
      const had = new Set(leaves(parseToml(text, path)));
      const has = leaves(parseToml(Buffer.from(bytes).toString(), path));
      expect(has.filter((leaf) => !had.has(leaf))).toEqual([]);
    }),
    { numRuns: 2000 },
  );
  expect(mended).toBeGreaterThan(200);
});

/** Every value with its path; of an array, which may have lost an element, the path alone. */
function leaves(value: unknown, at = ""): string[] {
  if (Array.isArray(value)) return [at];
  if (typeof value !== "object" || value === null || value instanceof Date)
    return [`${at} = ${JSON.stringify(value, (_, each) => (typeof each === "bigint" ? `${each}n` : each))}`];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, `${at}.${JSON.stringify(key)}`));
}

test("no bytes whatever make it throw; what it gives back parses, and only lines of the file are in it", () => {
  const harm = fc.record({ at: fc.nat(), length: fc.nat(40), put: fc.uint8Array({ maxLength: 12 }) });
  fc.assert(
    fc.property(document, fc.array(harm, { minLength: 1, maxLength: 3 }), (text, harms) => {
      let bytes: Uint8Array = Buffer.from(text);
      for (const { at, length, put } of harms) {
        const from = at % bytes.length;
        bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + length)]);
      }
      const { bytes: after, damages } = run(bytes);
      if (after === undefined) {
        expect(damages.some(({ remedy }) => remedy === undefined)).toBe(true);
        return;
      }
      const mended = Buffer.from(after).toString();
      expect(() => parseToml(mended, path)).not.toThrow();
      const had = new Set(lines(Buffer.from(bytes).toString().replace(/\0+$/, "")));
      const isOurs = (line: string) => /^# (BEGIN|END) shimctl /.test(line) || line === "";
      expect(lines(mended).filter((line) => !had.has(line) && !isOurs(line))).toEqual([]);
    }),
    { numRuns: 1500 },
  );
});
