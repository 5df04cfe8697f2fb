import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, renameSync, rmSync } from "node:fs";
import process from "node:process";
import fc from "fast-check";
import { type EngineCase, engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

/**
 * Two nodes: on the one, three owners, an administrator and another tool take turns; on the other, the administrator
 * and the tool do the same alone. Once every owner has uninstalled, both hold the same files.
 *
 * The tool keeps what it does not know, writes its own version over everything, brings a copy back that it made
 * before, or parses the file and writes it anew without its comments, our markers among them (nvidia-ctk, tomlq):
 * handlers are known again by the record. Nobody can say whose an empty list of imports is then, and it stays.
 */
const runs = Number(process.env["SHIMCTL_TEST_PROPERTY_RUNS"] ?? "40");
const owners = ["a", "b", "c"] as const;

let temporary: string | undefined;
beforeAll(() => {
  temporary = process.env["TMPDIR"];
  if (existsSync("/dev/shm")) process.env["TMPDIR"] = "/dev/shm";
});
afterAll(() => {
  if (temporary === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = temporary;
});

/** A step of ours, on the one node. */
interface Ours {
  readonly by: (typeof owners)[number];
  readonly command: "install" | "apply" | "uninstall";
  /** Of the engine's first handlers, which. */
  readonly handlers: readonly number[];
}

/** A step of somebody else, on both nodes. `at`: where, of all the places there are. */
interface Theirs {
  readonly does:
    | "insert a comment"
    | "change a comment"
    | "append a table"
    | "define a handler"
    | "remove that handler"
    | "write its own file"
    | "remove its own file"
    | "write everything anew"
    | "write it without comments"
    | "make a copy"
    | "bring the copy back";
  readonly at: number;
  readonly byRename: boolean;
}

const ours: fc.Arbitrary<Ours> = fc.record({
  by: fc.constantFrom(...owners),
  command: fc.constantFrom("install", "install", "apply", "uninstall"),
  handlers: fc.uniqueArray(fc.nat(3), { maxLength: 3 }),
});

const theirs: fc.Arbitrary<Theirs> = fc.record({
  does: fc.constantFrom(
    "insert a comment",
    "insert a comment",
    "change a comment",
    "append a table",
    "define a handler",
    "remove that handler",
    "write its own file",
    "remove its own file",
    "write everything anew",
    "write it without comments",
    "make a copy",
    "bring the copy back",
  ),
  at: fc.nat(1_000),
  byRename: fc.boolean(),
});

/** What the administrator begins with. */
const beginnings = {
  "as packaged": (text: string) => text,
  "with no newline at its end": (text: string) => text.replace(/\n$/, ""),
  "with the lines of another system": (text: string) => text.replaceAll("\n", "\r\n"),
  "with nothing but comments": (text: string) => text.replace(/^[^#].*\n?|^\n/gm, ""),
  "with nothing": () => "",
} as const;
type Beginning = keyof typeof beginnings;

function write(node: Node, path: string, text: string, byRename: boolean): void {
  const written = byRename ? `${path}.new` : path;
  node.place(written, text);
  if (byRename) renameSync(node.root + written, node.root + path);
}

/** A file that a program has parsed and written anew, in a layout of its own: none has a `#` in a string. */
function withoutComments(text: string, newline: string): string {
  return linesOf(text === "" || text.endsWith("\n") ? text : text + newline)
    .filter((line) => !line.startsWith("#") && line.trim() !== "")
    .map((line) => line.replace(/ *#[^\r\n]*/, ""))
    .join("");
}

function linesOf(text: string): string[] {
  return text.split(/(?<=\n)/);
}

/** The same on each of the two nodes: where a line stands is told by the line itself. */
class Others {
  readonly #engineCase: EngineCase;
  readonly #nodes: readonly [withUs: Node, alone: Node];
  readonly #begun: string;
  readonly #newline: string;
  #copies: readonly string[] | undefined;
  #count = 0;
  #stripped = false;
  #isBack = false;

  constructor(engineCase: EngineCase, nodes: readonly [withUs: Node, alone: Node]) {
    this.#engineCase = engineCase;
    this.#nodes = nodes;
    this.#begun = nodes[1].text(engineCase.main);
    this.#newline = this.#begun.includes("\r\n") ? "\r\n" : "\n";
  }

  do({ does, at, byRename }: Theirs): void {
    const { main } = this.#engineCase;
    const number = ++this.#count;
    const edit = (change: (text: string) => string) => {
      for (const node of this.#nodes) write(node, main, change(node.text(main)), byRename);
    };
    switch (does) {
      case "insert a comment": {
        const anchor = this.#anchor(at, () => true);
        if (anchor !== undefined)
          edit((text) => text.replace(anchor, (line) => `${line}# comment ${number}${this.#newline}`));
        return;
      }
      case "change a comment": {
        const anchor = this.#anchor(at, (line) => line.startsWith("# comment"));
        if (anchor !== undefined) edit((text) => text.replace(anchor, `# changed ${number}${this.#newline}`));
        return;
      }
      case "append a table":
        if (this.#isTableless) return;
        edit((text) => this.#appended(text, `[proxy_plugins.p${number}]\n  type = "snapshot"\n`));
        return;
      case "define a handler":
        if (this.#isTableless || this.#nodes.some((node) => node.text(main).includes("by-tool"))) return;
        edit((text) => this.#appended(text, this.#tool));
        return;
      case "remove that handler":
        edit((text) => text.replace(this.#native(this.#tool), ""));
        return;
      case "write its own file":
        for (const node of this.#nodes) write(node, this.#own, `# ${number}\n${this.#ownText}`, byRename);
        return;
      case "remove its own file":
        for (const node of this.#nodes) rmSync(node.root + this.#own, { force: true });
        return;
      case "write everything anew":
        edit(() => this.#begun);
        return;
      case "write it without comments":
        // Without a version of its own, ours would be the file's from then on.
        if (this.#isTableless || this.#engineCase.engine === "crio") return;
        // What a copy has brought back, only its markers say whose it is.
        if (this.#isBack) return;
        edit((text) => withoutComments(text, this.#newline));
        this.#stripped = true;
        return;
      case "make a copy":
        // What it held of ours would come back after we are gone, and nothing would say that it was ours.
        if (this.#stripped) return;
        this.#copies = this.#nodes.map((node) => node.text(main));
        return;
      case "bring the copy back":
        this.#isBack = true;
        for (const [index, node] of this.#nodes.entries()) {
          const copy = this.#copies?.[index];
          if (copy !== undefined) write(node, main, copy, byRename);
        }
    }
  }

  /** A line, with its end, that stands once in the file of either node. */
  #anchor(at: number, suits: (line: string) => boolean): string | undefined {
    const texts = this.#nodes.map((node) => node.text(this.#engineCase.main));
    const lines = linesOf(texts[1] ?? "").filter(
      (line) => line.endsWith("\n") && suits(line) && texts.every((text) => text.split(line).length === 2),
    );
    return lines[at % Math.max(1, lines.length)];
  }

  /** As an editor does it, which begins a new line first. */
  #appended(text: string, more: string): string {
    return `${text}${text === "" || text.endsWith("\n") ? "" : this.#newline}${this.#native(more)}`;
  }

  /** Tables without a version are refused by containerd and by us: whoever adds one to such a file adds that first. */
  get #isTableless(): boolean {
    return this.#engineCase.engine === "containerd" && !this.#begun.includes("version = ");
  }

  #native(text: string): string {
    return text.replaceAll("\n", this.#newline);
  }

  get #tool(): string {
    return this.#engineCase.define("by-tool");
  }

  get #own(): string {
    return this.#engineCase.engine === "crio"
      ? "/etc/crio/crio.conf.d/99-tool.conf"
      : "/etc/containerd/conf.d/99-tool.toml";
  }

  get #ownText(): string {
    return this.#engineCase.engine === "crio"
      ? this.#engineCase.define("of-its-own")
      : `version = ${this.#engineCase.version.startsWith("1.") ? 2 : 3}\n${this.#engineCase.define("of-its-own")}`;
  }
}

async function run(node: Node, engineCase: EngineCase, { by, command, handlers }: Ours): Promise<void> {
  const names = handlers.map((index) => engineCase.handlers[index] ?? "");
  const args =
    command === "install" && names.length > 0
      ? ["install", ...names]
      : command === "uninstall"
        ? ["uninstall", ...(names.length === 0 ? ["--all"] : names)]
        : ["apply", "-f", `${node.root}/wanted.toml`];
  const tables = names.map((name) => `[handlers.${name}]\n`).join("");
  node.place("/wanted.toml", `format = 1\n${tables === "" ? "[handlers]\n" : tables}`);
  const ran = await node.run([...args, "--owner", by, "--restart", "none", "--log-level", "silent"]);
  rmSync(`${node.root}/wanted.toml`);
  // Another owner has that handler, with its markers or without: the one thing that may be in the way.
  if (ran.code !== 0)
    expect([ran.code, ran.err]).toEqual([5, expect.stringMatching(/owner '|this file defines it already/)]);
}

/** Every file, without the folders: an empty one that the tool made, and has left, is nobody's. */
function filesOf(node: Node): Record<string, string> {
  return Object.fromEntries(Object.entries(node.tree()).filter(([, facts]) => /[0-9a-f]{64}$/.test(facts)));
}

async function play(
  engineCase: EngineCase,
  beginning: Beginning,
  steps: readonly (Ours | Theirs)[],
): Promise<void> {
  const files = Object.fromEntries(
    Object.entries(engineCase.files).map(([path, text]) => [path, beginnings[beginning](text)]),
  );
  using withUs = Node.of(engineCase, files);
  using alone = Node.of(engineCase, files);
  const others = new Others(engineCase, [withUs, alone]);
  for (const step of steps) {
    if ("does" in step) others.do(step);
    else await run(withUs, engineCase, step);
  }
  for (const by of owners) await run(withUs, engineCase, { by, command: "uninstall", handlers: [] });
  const isStripped = steps.some((step) => "does" in step && step.does === "write it without comments");
  if (isStripped)
    withUs.place(engineCase.main, withUs.text(engineCase.main).replace(/^imports = \[\]\r?\n/m, ""));
  for (const path of alone.loaded(engineCase)) expect(withUs.text(path)).toBe(alone.text(path));
  expect(filesOf(withUs)).toEqual(filesOf(alone));
}

describe.each(engineCases)("after any sequence by three owners and others, on $name,", (engineCase) => {
  test("every uninstall done, the files are what the others alone would have made", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...(Object.keys(beginnings) as Beginning[])),
        fc.array(fc.oneof(ours, theirs), { minLength: 4, maxLength: 16 }),
        (beginning, steps) => play(engineCase, beginning, steps),
      ),
      { numRuns: runs },
    );
  }, 120_000);
});
