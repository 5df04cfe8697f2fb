import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  compareEpochs,
  isInstance,
  type Known,
  living,
  parseEpoch,
  refuseAhead,
  type Tombstone,
  takeTurn,
  tombstonesAfter,
} from "../../src/transaction/epoch.ts";

const now = new Date("2026-09-01T12:00:00Z");
const unknown: Known = { entry: undefined, tombstones: [] };
const at = (epoch: string, instance = ""): Known => ({
  entry: { epoch, instance, instances: {} },
  tombstones: [],
});
const buried = (epoch: string, instance: string | null = ""): Known => ({
  entry: undefined,
  tombstones: [{ owner: "me", epoch, instance, time: now.toISOString() }],
});

function turn(known: Known, epoch: string, instance = "", command = "install"): string {
  const taken = takeTurn(known, "me", command, { epoch, instance }, now);
  return taken.kind === "go on" ? (taken.incarnation?.epoch ?? "") : taken.words;
}

describe("an epoch", () => {
  test.each([
    ["0", "0"],
    ["007", "7"],
    ["999999999999999999", "999999999999999999"],
    ["2026-09-01T12:00:00Z", "2026-09-01T12:00:00Z"],
    ["2026-09-01t12:00:00.120z", "2026-09-01T12:00:00.12Z"],
    ["2026-09-01T14:30:00.000000001+02:30", "2026-09-01T12:00:00.000000001Z"],
    ["2026-08-31T23:59:60Z", "2026-09-01T00:00:00Z"],
    ["2024-02-29T00:00:00-23:59", "2024-02-29T23:59:00Z"],
    ["1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"],
    ["0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"],
  ])("may be written %s, and is %s", (text, epoch) => {
    expect(parseEpoch(text)).toBe(epoch);
    expect(parseEpoch(epoch)).toBe(epoch);
  });

  test.each([
    "",
    "-1",
    "+1",
    "1.5",
    "1e3",
    "0x1",
    " 1",
    "1000000000000000000",
    "2026-09-01",
    "2026-09-01T12:00:00",
    "2026-09-01 12:00:00Z",
    "2026-09-01T12:00Z",
    "2026-02-29T12:00:00Z",
    "2026-13-01T12:00:00Z",
    "2026-09-01T24:00:00Z",
    "2026-09-01T12:60:00Z",
    "2026-09-01T12:00:61Z",
    "2026-09-01T12:00:00.Z",
    "2026-09-01T12:00:00.0000000001Z",
    "2026-09-01T12:00:00+24:00",
    "2026-09-01T12:00:00+0200",
    "9999-12-31T23:59:59-23:00",
    "2026-09-01T12:00:00Z\n",
    "Now",
  ])("is not written %j", (text) => {
    expect(parseEpoch(text)).toBeUndefined();
  });

  test("is ordered as its number, however many digits it has", () => {
    const any = fc.bigInt({ min: 0n, max: 999_999_999_999_999_999n });
    fc.assert(
      fc.property(any, any, (a, b) => {
        expect(Math.sign(compareEpochs(`${a}`, `${b}`) ?? Number.NaN)).toBe(a < b ? -1 : a > b ? 1 : 0);
      }),
    );
  });

  test("is ordered as its time, to the nanosecond and whatever its offset", () => {
    const time = fc.record({
      ms: fc.integer({ min: 0, max: 4_000_000_000_000 }),
      nanos: fc.integer({ min: 0, max: 999_999 }),
      offset: fc.integer({ min: -1_439, max: 1_439 }),
    });
    const written = ({ ms, nanos, offset }: { ms: number; nanos: number; offset: number }) => {
      const local = new Date(ms + offset * 60_000).toISOString().slice(0, -1);
      const size = Math.abs(offset);
      const two = (value: number) => String(value).padStart(2, "0");
      return `${local}${String(nanos).padStart(6, "0")}${offset < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
    };
    fc.assert(
      fc.property(time, time, fc.boolean(), (a, other, isNear) => {
        const b = isNear ? { ...other, ms: a.ms } : other;
        const order = compareEpochs(parseEpoch(written(a)) ?? "", parseEpoch(written(b)) ?? "");
        expect(order).toBe(Math.sign(a.ms - b.ms || a.nanos - b.nanos));
      }),
    );
  });

  test("that is a number has no order beside a time", () => {
    expect(compareEpochs("5", "2026-09-01T12:00:00Z")).toBeUndefined();
  });

  test("may be an hour ahead of the node's clock, and no more", () => {
    const ahead = (epoch: string) => refuseAhead(epoch, now, "--epoch");
    expect(() => ahead("2026-09-01T13:00:00Z")).not.toThrow();
    expect(() => ahead("999999999999999999")).not.toThrow();
    expect(() => ahead("now")).not.toThrow();
    expect(() => ahead("2026-09-01T13:00:00.000000001Z")).toThrow("more than an hour ahead");
  });
});

describe("now", () => {
  test("is the node's time where nothing is recorded", () => {
    expect(turn(unknown, "now")).toBe("2026-09-01T12:00:00Z");
  });

  test("is greater than a recorded time, even one that the clock has not reached", () => {
    expect(turn(at("2026-08-01T12:00:00Z"), "now")).toBe("2026-09-01T12:00:00Z");
    expect(turn(at("2026-09-01T12:00:00Z"), "now")).toBe("2026-09-01T12:00:00.000000001Z");
    expect(turn(buried("2026-09-01T12:30:00.999999999Z"), "now")).toBe("2026-09-01T12:30:01Z");
  });

  test("is one more than a recorded number", () => {
    expect(turn(at("41"), "now")).toBe("42");
    expect(turn(buried("999999999999999999"), "now")).toBe("1000000000000000000");
  });
});

describe("whose turn it is", () => {
  test("a newer epoch's, after an install and after an uninstall", () => {
    for (const known of [unknown, at("9", "a"), buried("9", "a"), buried("9", null)])
      for (const command of ["install", "apply", "uninstall"])
        expect(turn(known, "10", "a", command)).toBe("10");
  });

  test("never an older epoch's", () => {
    for (const known of [at("10", "b"), buried("10", "b")])
      for (const command of ["install", "apply", "uninstall"])
        expect(turn(known, "9", "b", command)).toContain("epoch 10, instance b, which is newer than epoch 9");
  });

  test("an equal epoch's: not of an instance that was uninstalled, unless it uninstalls again", () => {
    expect(turn(at("9", "a"), "9", "a")).toBe("9");
    expect(turn(at("9", "a"), "9", "b")).toBe("9");
    expect(turn(buried("9", "a"), "9", "a")).toContain("was uninstalled");
    expect(turn(buried("9", "a"), "9", "a", "apply")).toContain("was uninstalled");
    expect(turn(buried("9", "a"), "9", "a", "uninstall")).toBe("9");
    expect(turn(buried("9", "a"), "9", "b")).toBe("9");
  });

  test("no instance's of an epoch that a person ended", () => {
    expect(turn(buried("9", null), "9", "b")).toContain("was uninstalled");
  });

  test("not of an install without an epoch where one is recorded, but of a person's uninstall", () => {
    for (const known of [at("9"), buried("9")]) {
      for (const command of ["install", "apply"])
        expect(() => takeTurn(known, "me", command, undefined, now)).toThrow("without --epoch");
      expect(takeTurn(known, "me", "uninstall", undefined, now).kind).toBe("go on");
    }
    expect(takeTurn(unknown, "me", "install", undefined, now).kind).toBe("go on");
  });

  test("nobody's who mixes numbers and times", () => {
    expect(() => turn(at("9"), "2026-09-01T12:00:00Z")).toThrow("what owner 'me' has recorded, a number");
    expect(() => turn(buried("2026-09-01T12:00:00Z"), "9")).toThrow("what owner 'me' has recorded, a time");
  });
});

describe("tombstones", () => {
  const day = 86_400_000;
  const stone = (owner: string, epoch: string, daysAgo: number): Tombstone => ({
    owner,
    epoch,
    instance: "",
    time: new Date(now.getTime() - daysAgo * day).toISOString(),
  });

  test("count for 30 days", () => {
    const stones = [stone("a", "1", 31), stone("b", "1", 29)];
    expect(living(stones, now.getTime()).map(({ owner }) => owner)).toEqual(["b"]);
  });

  test("are at most 1,000: the oldest go", () => {
    const tombstones = Array.from({ length: 1_000 }, (_, index) => stone(`owner-${index}`, "1", 1));
    const order = { epoch: "1", instance: "", instances: {}, ends: true };
    const after = tombstonesAfter(tombstones, "new", order, now.toISOString());
    expect([after.length, after[0]?.owner, after.at(-1)?.owner]).toEqual([1_000, "owner-1", "new"]);
  });

  test("of an older epoch go with a newer one, and other owners' stay", () => {
    const tombstones = [stone("a", "1", 1), stone("b", "1", 1)];
    const order = { epoch: "2", instance: "", instances: {}, ends: false };
    const after = tombstonesAfter(tombstones, "a", order, now.toISOString());
    expect(after.map(({ owner }) => owner)).toEqual(["b"]);
  });
});

test("an instance's name is short and has no control characters", () => {
  expect(["pod-7f.b:2_x", "A".repeat(128)].every(isInstance)).toBe(true);
  expect(["", "a b", "a\n", "\u0000", "é", "a/b", "A".repeat(129)].some(isInstance)).toBe(false);
});
