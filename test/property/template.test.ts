import { describe, expect, test } from "bun:test";
import { readTemplate } from "../../src/engine/containerd/template.ts";
import { findBlocks, removeBlock, setBlock } from "../../src/toml/edit.ts";
import { anyTemplate, random } from "../support/any_template.ts";

const owners = ["default", "a", "team-b"];

function body(next: (below: number) => number): string {
  const name = `h${next(4)}`;
  return `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.${name}]\nruntime_type = "io.containerd.${name}.v${next(3)}"\n`;
}

function set(text: string, owner: string, block: string): string {
  const template = readTemplate(text);
  return template.back(setBlock(template.toml, { owner, body: block }));
}

function remove(text: string, owner: string): string {
  const template = readTemplate(text);
  return template.back(removeBlock(template.toml, owner));
}

const blocksIn = (text: string) =>
  findBlocks(readTemplate(text).toml).map(({ owner, body }) => [owner, body]);

/** Whether blocks of ours can stand in it: what is damaged, or ends in the middle of something, is refused. */
function takesBlocks(text: string): boolean {
  const template = readTemplate(text);
  if (template.closed !== undefined) return false;
  try {
    return findBlocks(template.toml).length === 0;
  } catch {
    return false;
  }
}

describe("any template", () => {
  test("is the same bytes after it was read, whatever is in it", () => {
    for (let seed = 1; seed <= 4000; seed++) {
      const text = anyTemplate(random(seed));
      const { back, toml } = readTemplate(text);
      if (back(toml) !== text) throw new Error(`seed ${seed}: ${JSON.stringify(text)}`);
    }
  });

  test("gets its bytes back when the last of any sequence of blocks has left", () => {
    let tried = 0;
    for (let seed = 1; seed <= 3000; seed++) {
      const next = random(seed);
      const original = anyTemplate(next);
      if (!takesBlocks(original)) continue;
      tried++;
      let text = original;
      const held = new Map<string, string>();
      for (let step = 0; step < 8; step++) {
        const owner = owners[next(owners.length)] ?? "";
        if (next(3) === 0) {
          text = remove(text, owner);
          held.delete(owner);
        } else {
          const block = body(next);
          text = set(text, owner, block);
          held.set(owner, block);
        }
        expect([seed, blocksIn(text).sort()]).toEqual([seed, [...held].sort()]);
      }
      for (const owner of owners) text = remove(text, owner);
      expect([seed, JSON.stringify(original), text]).toEqual([seed, JSON.stringify(original), original]);
    }
    expect(tried).toBeGreaterThan(500);
  });

  test("of which only lines outside our blocks were changed keeps those changes when the blocks leave", () => {
    for (let seed = 1; seed <= 1500; seed++) {
      const next = random(seed);
      const original = anyTemplate(next);
      if (!takesBlocks(original) || !original.endsWith("\n")) continue;
      const added = `# theirs ${seed}\n`;
      const edited = added + set(original, "default", body(next));
      expect([seed, remove(edited, "default")]).toEqual([seed, added + original]);
    }
  });
});

describe("markers that only look like ours", () => {
  const block = setBlock("", { owner: "default", body: body(random(1)) });

  test.each([
    ["in a comment of the template", `{{/*\n${block}*/}}\n`],
    ["in a trimmed comment", `{{- /*\n${block}*/ -}}\nx = 1\n`],
    ["in a raw string of an action", `{{ print \`\n${block}\` }}\n`],
    ["in a basic string over several lines", `x = """\n${block}"""\n`],
    ["in a literal string over several lines", `x = '''\n{{ template "base" . }}\n${block}''' # 'x\n`],
    ["in an action that never ends", `{{ if\n${block}`],
  ])("are no block: %s", (_, text) => {
    expect(blocksIn(text)).toEqual([]);
    expect(remove(text, "default")).toBe(text);
  });

  test.each([
    ["after a string with quotes in it", `x = "a '''"\ny = 'b """'\n\n${block}`],
    ["after a comment with quotes and an action", `# it's "{{ .Program }}" '''\n\n${block}`],
    ["after an action with quotes", `x = "{{ printf "%q" .X }}" # "\n\n${block}`],
    ["after strings that end with five quotes", `x = """a"""""\ny = '''b'''''\n\n${block}`],
    ["after an escape at the end of a line", `x = """a \\\n  """\ny = "\\\\"\n\n${block}`],
  ])("are one where they stand in plain text: %s", (_, text) => {
    expect(blocksIn(text).map(([owner]) => owner)).toEqual(["default"]);
    expect(remove(text, "default")).toBe(text.slice(0, -block.length - 1));
  });
});

describe("the end of a template takes no block", () => {
  test.each([
    ["inside a comment", "x = 1\n{{/* open\n", /inside a template action or comment/],
    ["inside a string", "x = '''\n", /inside a string/],
    ["inside a branch", "{{ if .X }}\nx = 1\n", /no \{\{ end \}\}/],
    ["behind half a line end", "x = 1\r", /carriage return/],
    ["behind an action that trims", '{{ template "base" . -}}\n\n', /-\}\}/],
  ])("%s", (_, text, why) => {
    expect(readTemplate(text).closed).toMatch(why);
  });

  test.each([
    ["an if with else", "{{ if .X }}a = 1\n{{ else if .Y }}a = 2\n{{ else }}a = 3\n{{ end }}\n"],
    ["a definition", '{{ define "x" }}b = 1\n{{ end }}\n{{ template "base" . }}\n'],
    ["an action that trims before text", "{{- template `base` . -}}\nx = 1\n"],
    ["half a string in a branch", `{{ if .X }}a = "b\n{{ else }}a = "c"{{ end }}\nx = 1\n`],
    ["nothing", ""],
  ])("but it does after %s", (_, text) => {
    expect(readTemplate(text).closed).toBeUndefined();
  });
});

test("a block into which somebody has put an action is there, and counts as edited", () => {
  const text = set('{{ template "base" . }}\n', "default", body(random(3)));
  const edited = text.replace("runtime_type", '{{ if .X }}"\nruntime_type');
  const [block] = findBlocks(readTemplate(edited).toml);
  expect([block?.owner, block?.intact]).toEqual(["default", false]);
  expect(readTemplate(edited).back(readTemplate(edited).toml)).toBe(edited);
});
