import { describe, expect, test } from "bun:test";
import { existsSync, lstatSync, readFileSync } from "node:fs";
import { recover } from "../../src/transaction/recover.ts";
import { engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";
import { environmentOf, stateOf } from "../support/transaction.ts";

const folder = "/var/lib/shimctl";
const rootFile = "/etc/containerd/config.toml";
const released = (name: string) =>
  readFileSync(`${import.meta.dirname}/../fixtures/format-1/${name}`, "utf8");
const lines = released("journal").trimEnd().split("\n");
const stepOf = (line: string) => String((JSON.parse(line) as { step: unknown }).step);
const start = lines.findLastIndex((line) => stepOf(line) === "begin");
const temp = (JSON.parse(lines[start + 1] ?? "") as { temp: string }).temp;

/** A node as release 0.1 left it, with this much of its last operation in the journal. */
function left(config: string, journal: readonly string[] = lines): Node {
  const node = new Node("1.7.24", released(config));
  node.place(`${folder}/record.json`, released("record.json"), 0o600);
  node.place(`${folder}/journal`, journal.map((line) => `${line}\n`).join(""), 0o600);
  return node;
}

const recordOf = (node: Node) =>
  JSON.parse(node.text(`${folder}/record.json`)) as { format: number; roots: Record<string, never> };

describe("a node of format 1", () => {
  test("is read by status, dry runs and runs that have nothing to do, and stays as it is", async () => {
    using node = left("before.toml", lines.slice(0, start));
    for (const args of [
      ["status"],
      ["install", "kata-qemu"],
      ["install", "kata-clh", "--dry-run"],
      ["diff"],
    ]) {
      const { code, err } = await node.run(args);
      expect([code, err]).toEqual([0, ""]);
    }
    expect(node.text(`${folder}/record.json`)).toBe(released("record.json"));
    expect(existsSync(`${node.root}${folder}/record.1.json`)).toBe(false);
  });

  test("is migrated by the first change, and the old record is kept", async () => {
    using node = left("before.toml", lines.slice(0, start));
    expect((await node.run(["install", "kata-clh"])).code).toBe(0);
    expect(node.text()).toBe(released("after.toml"));
    expect(node.text(`${folder}/record.1.json`)).toBe(released("record.json"));
    expect(lstatSync(`${node.root}${folder}/record.1.json`).mode & 0o777).toBe(0o600);
    const record = recordOf(node);
    expect([
      record.format,
      Object.keys(record.roots[rootFile]?.["owners"]?.["default"]?.["handlers"] ?? {}),
    ]).toEqual([2, ["kata-clh", "kata-qemu"]]);
  });

  for (let cut = start + 1; cut < lines.length; cut++) {
    const step = stepOf(lines[cut - 1] ?? "");
    test(`whose last operation ended behind '${step}' is recovered`, async () => {
      using node = left(step === "begin" ? "before.toml" : "after.toml", lines.slice(0, cut));
      // The exchange may be over with the old file still under its temporary name.
      if (step === "intent") node.place(temp, released("before.toml"));
      const isDone = ["restart", "restarted", "complete"].includes(step);
      const { outcome } = await recover(environmentOf(node), stateOf(node));
      expect(outcome).toBe(isDone ? "finished" : "undone");
      expect(node.text()).toBe(released(isDone ? "after.toml" : "before.toml"));
      expect(existsSync(node.root + temp)).toBe(false);
      expect((await node.run(["install", "kata-clh"])).code).toBe(0);
      expect(node.text()).toBe(released("after.toml"));
      expect((await node.run(["status"])).code).toBe(0);
    });
  }

  test("whose journal was cut in the middle of each of its last lines is recovered", async () => {
    for (let cut = start + 2; cut < lines.length; cut++) {
      const whole = lines.slice(0, cut);
      for (const torn of [
        "",
        "\0".repeat(4096),
        `${lines[cut]?.slice(0, 90)}`,
        `${lines[cut]?.slice(0, 40)}\0\0\0`,
      ]) {
        using node = left("after.toml", whole);
        node.place(`${folder}/journal`, `${whole.join("\n")}\n${torn}`, 0o600);
        await recover(environmentOf(node), stateOf(node));
        expect((await recover(environmentOf(node), stateOf(node))).outcome).toBe("none");
        expect([released("before.toml"), released("after.toml")]).toContain(node.text());
      }
    }
  });
});

describe("a node of a newer release", () => {
  const newer: Readonly<Record<string, (node: Node) => void>> = {
    record: (node) => {
      const record = { ...JSON.parse(released("record.json")), format: 3, more: { a: 1 } } as {
        roots: Record<string, Record<string, unknown>>;
      };
      for (const root of Object.values(record.roots)) root["new"] = [];
      node.place(`${folder}/record.json`, JSON.stringify(record), 0o600);
    },
    journal: (node) =>
      node.place(`${folder}/journal`, '{"format":99,"time":"","operation":"x","step":"started"}\n', 0o600),
  };
  for (const [what, make] of Object.entries(newer)) {
    const format = what === "record" ? 3 : 99;
    test(`is read, and the format of its ${what} is told`, async () => {
      using node = left("before.toml", []);
      make(node);
      const { code, out } = await node.run(["status"]);
      expect([code, out]).toEqual([
        0,
        expect.stringContaining(`the ${what} of a newer shimctl: format ${format}`),
      ]);
      const status = (await node.run(["status", "--json"])).json();
      expect([status["result"], status["problems"]]).toEqual([
        "in sync",
        [expect.objectContaining({ rule: "newer-format", path: expect.stringContaining(folder) })],
      ]);
      expect((await node.run(["check"])).code).toBe(0);
      for (const args of [["diff"], ["diff", "install", "kata-clh"]]) {
        const { code: read, err } = await node.run(args);
        expect([read, err]).toEqual([0, expect.stringContaining(`format ${format}`)]);
      }
    });

    for (const args of [
      ["install", "kata-clh"],
      ["install", "kata-clh", "--dry-run"],
      ["uninstall", "--all"],
      ["install", "kata-qemu"],
    ]) {
      test(`${args.join(" ")} refuses its ${what}, and writes nothing`, async () => {
        using node = left("before.toml", []);
        make(node);
        const files = ["record.json", "journal"].map((name) => node.text(`${folder}/${name}`));
        const { code, err } = await node.run(args);
        expect([code, err]).toEqual([6, expect.stringContaining(`newer shimctl: format ${format}`)]);
        expect(err).toContain(`release that writes format ${format}`);
        expect(err).toContain("nothing was written");
        expect(node.text()).toBe(released("before.toml"));
        expect(["record.json", "journal"].map((name) => node.text(`${folder}/${name}`))).toEqual(files);
      });
    }
  }

  test("whoever writes the state without asking first is refused as well", () => {
    using node = left("before.toml", []);
    newer["record"]?.(node);
    const state = stateOf(node);
    expect(() => state.append("x", { step: "complete" })).toThrow("format 3");
    expect(() => state.writeRecord(state.readRecord().record)).toThrow("format 3");
    expect(() => state.store(new Uint8Array())).toThrow("format 3");
  });
});

for (const engineCase of engineCases) {
  const [first, second, third] = engineCase.handlers;
  const path = engineCase.block("default");

  describe(`${engineCase.name}: a block that a newer release has written`, () => {
    async function newerBlock(): Promise<Node> {
      const node = Node.of(engineCase);
      expect((await node.run(["install", first])).code).toBe(0);
      expect((await node.run(["install", second, "--owner", "other"])).code).toBe(0);
      const text = node.text(path).replace(/(BEGIN shimctl default format=)1 sha256=\w+/, "$12 blake3=zz");
      node.place(path, text);
      return node;
    }

    test("is read: status names its owner and its handlers, and its format", async () => {
      using node = await newerBlock();
      const { code, out } = await node.run(["status"]);
      expect([code, out]).toEqual([0, expect.stringContaining("a block of a newer format, 2: default")]);
      const { owners, problems } = (await node.run(["status", "--json"])).json();
      expect(owners).toContainEqual(
        expect.objectContaining({ owner: "default", handlers: [first], intact: true, loaded: true }),
      );
      expect(problems).toContainEqual(expect.objectContaining({ rule: "newer-format", path }));
      expect((await node.run(["check"])).code).toBe(0);
    });

    for (const args of [
      ["install", third],
      ["install", first],
      ["uninstall", "--all"],
      ["install", third, "--owner", "other"],
      ["uninstall", "--all", "--owner", "other"],
      ["install", third, "--owner", "third", "--dry-run"],
    ]) {
      test(`${args.join(" ")} is refused, and nothing is written`, async () => {
        using node = await newerBlock();
        const before = node.tree();
        const { code, err } = await node.run(args);
        expect([code, err]).toEqual([3, expect.stringContaining("a block of a newer format, 2: default")]);
        expect(err).toContain("next: use the newer shimctl that wrote this block");
        expect(node.tree()).toEqual(before);
      });
    }
  });
}

describe("a record of this format", () => {
  test("with keys that this release does not know is no lost one, and keeps them", async () => {
    using node = left("before.toml", []);
    const record = { ...recordOf(node), format: 2, later: 1 } as ReturnType<typeof recordOf>;
    const root = record.roots[rootFile] as unknown as Record<string, Record<string, Record<string, unknown>>>;
    Object.assign(root, { rootKey: "kept" });
    Object.assign(root["owners"]?.["default"] ?? {}, { ownerKey: "kept" });
    node.place(`${folder}/record.json`, JSON.stringify(record), 0o600);
    expect((await node.run(["status"])).out).not.toContain("record");
    expect((await node.run(["install", "kata-clh"])).code).toBe(0);
    expect(recordOf(node)).toMatchObject({
      later: 1,
      roots: { [rootFile]: { rootKey: "kept", owners: { default: { ownerKey: "kept" } } } },
    });
  });

  test("loses only the part that cannot be read, and status says so", async () => {
    using node = left("before.toml", []);
    const text = released("record.json");
    node.place(`${folder}/record.json`, text.replace('"folders": []', '"folders": ["/etc/x", 7]'), 0o600);
    expect(stateOf(node).readRecord()).toMatchObject({ lost: false, damaged: ["folders.1"] });
    expect(stateOf(node).readRecord().record.folders).toEqual(["/etc/x"]);
    expect((await node.run(["status"])).out).toContain("counts as not there: folders.1");
    node.place(`${folder}/record.json`, text.replace('"like_runc"', '"unlike_runc"'), 0o600);
    const { record } = stateOf(node).readRecord();
    expect(Object.keys(record.roots[rootFile]?.owners ?? {})).toEqual(["default"]);
    node.place(`${folder}/record.json`, text.replaceAll('"updated"', '"outdated"'), 0o600);
    expect(stateOf(node).readRecord()).toMatchObject({
      lost: false,
      record: { roots: { [rootFile]: { owners: {} } } },
    });
  });
});
