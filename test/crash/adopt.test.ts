import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { parse } from "smol-toml";
import { compiled } from "../support/binary.ts";
import { crioCase, type EngineCase, importedCase, markedCase } from "../support/engine_case.ts";
import { kataHandler, kataHandlerCrio } from "../support/leftovers.ts";
import { Node } from "../support/node.ts";

const strace = existsSync("/usr/bin/strace");
if (!strace) console.log("(skip) kills while a handler is adopted: strace is not installed");

/** Calls that change the tree or make it durable. */
const calls = ["renameat2", "rename", "fsync", "unlink", "link"] as const;

/** What stands in the file that is adopted from. */
const leftIn = (engineCase: EngineCase): readonly [path: string, text: string] => {
  const other = (text: string) => text.replace("configuration-qemu", "configuration-other");
  if (engineCase.engine === "crio")
    return ["/etc/crio/crio.conf.d/99-kata-deploy", other(kataHandlerCrio("qemu"))];
  const schema = engineCase === markedCase ? 2 : 3;
  return [engineCase.main, `${engineCase.files[engineCase.main]}\n${other(kataHandler(schema, "qemu"))}`];
};

function configuration(node: Node): Record<string, string> {
  return Object.fromEntries(
    Object.entries(node.tree()).filter(([path]) => path.startsWith("/etc/") && !path.endsWith(".tmp")),
  );
}

function run(node: Node, args: readonly string[], inject: readonly string[] = []): number | null {
  const argv = [...inject, compiled(), ...args, ...node.options];
  return spawnSync(argv[0] ?? "", argv.slice(1), { stdio: "ignore", timeout: 60_000 }).status;
}

/** As a program leaves it that parses the file and writes it anew: nothing in it has a `#` in a string. */
function withoutComments(text: string): string {
  return text.replace(/^ *#.*\n/gm, "").replace(/ *#.*/g, "");
}

describe.skipIf(!strace).each([
  ["puts its markers back", ["install", "kata-qemu"]],
  ["takes it away", ["uninstall", "kata-qemu"]],
] as const)("a run that finds its handler without markers and %s", (_, command) => {
  test("is undone to the byte or done where it is killed at any change", () => {
    const masked = "/etc/containerd/conf.d/99-copy.toml";
    const nodeWith = () => {
      const node = Node.of(markedCase);
      expect(run(node, ["install", "kata-qemu"])).toBe(0);
      const text = withoutComments(node.text());
      // On 1.x the last file with a CRI table masks the others: what nvidia-ctk makes is a copy of all handlers.
      const copy = `version = 2\n\n[plugins${text.split("[plugins").slice(1).join("[plugins").split("[timeouts]")[0]}`;
      node.place(masked, copy);
      node.place(markedCase.main, text.replace("version = 2", `version = 2\nimports = ["${masked}"]`));
      return node;
    };
    using whole = nodeWith();
    const before = configuration(whole);
    expect(run(whole, [...command])).toBe(0);
    const after = configuration(whole);
    using mended = nodeWith();
    expect(run(mended, ["install", "kata-qemu"])).toBe(0);
    expect(whole.text(masked).includes("kata")).toBe(command[0] === "install");
    expect(whole.text()).not.toContain("kata");
    let kills = 0;
    for (const call of calls) {
      for (let nth = 1; ; nth++) {
        using node = nodeWith();
        const inject = ["-e", `trace=${call}`, "-e", `inject=${call}:signal=KILL:when=${nth}`];
        if (run(node, [...command], ["strace", "-f", "-qq", "-o", "/dev/null", ...inject]) !== null) break;
        kills++;
        // Another owner's run ends it, and mends nothing.
        const next = ["uninstall", "no-such-handler", "--owner", "other"];
        expect([call, nth, run(node, next)]).toEqual([call, nth, 0]);
        const end = configuration(node);
        // Undone without the old bytes, the handler is where it was, with its markers.
        const isWhole = [before, after, configuration(mended)].some(
          (tree) => JSON.stringify(tree) === JSON.stringify(end),
        );
        expect([call, nth, isWhole ? "whole" : end]).toEqual([call, nth, "whole"]);
        expect(run(node, [...command])).toBe(0);
        expect(configuration(node)).toEqual(after);
      }
    }
    expect(kills).toBeGreaterThan(10);
  }, 300_000);
});

describe.skipIf(!strace).each([markedCase, importedCase, crioCase])("a run on $name", (engineCase) => {
  const [path, text] = leftIn(engineCase);
  const nodeWith = () => {
    const node = Node.of(engineCase);
    node.place(path, text);
    return node;
  };
  const adopt = ["install", "kata-qemu", "--adopt=replace"];

  test("that adopts and is killed at any change is undone to the byte or done, and the handler is never missing", () => {
    using whole = nodeWith();
    const before = configuration(whole);
    expect(run(whole, adopt)).toBe(0);
    const after = configuration(whole);
    let kills = 0;
    for (const call of calls) {
      for (let nth = 1; ; nth++) {
        using node = nodeWith();
        const inject = ["-e", `trace=${call}`, "-e", `inject=${call}:signal=KILL:when=${nth}`];
        if (run(node, adopt, ["strace", "-f", "-qq", "-o", "/dev/null", ...inject]) !== null) break;
        kills++;
        const files = node.loaded(engineCase).map((file) => node.text(file));
        for (const file of files) expect(() => parse(file)).not.toThrow();
        expect(files.join("\n")).toContain("runtimes.kata-qemu]");
        expect(run(node, ["uninstall", "no-such-handler"])).toBe(0);
        const end = configuration(node);
        const isWhole = [before, after].some((tree) => JSON.stringify(tree) === JSON.stringify(end));
        expect([call, nth, isWhole ? "whole" : end]).toEqual([call, nth, "whole"]);
        expect(run(node, adopt)).toBe(0);
        expect(configuration(node)).toEqual(after);
        expect(Object.keys(node.tree()).filter((file) => file.endsWith(".tmp"))).toEqual([]);
      }
    }
    expect(kills).toBeGreaterThan(10);
    console.log(`   killed at ${kills} calls`);
  }, 300_000);
});
