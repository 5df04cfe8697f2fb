import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { exitCodes, isCommand, parseArguments } from "../../src/cli/options.ts";
import { waveLabel } from "../../src/managed/kubernetes.ts";
import { families } from "../../src/metrics/prometheus.ts";

const root = join(import.meta.dir, "../..");
const pages = [
  "README.md",
  "deploy/README.md",
  ...readdirSync(join(root, "docs")).flatMap((name) => (name.endsWith(".md") ? [`docs/${name}`] : [])),
];
const textOf = (page: string) => readFileSync(join(root, page), "utf8");

/** What stands as code: each line of a block, with those that a `\` goes on in, and what is between backquotes. */
function codeOf(page: string): string[] {
  const text = textOf(page).replaceAll(/\\\n\s*/g, " ");
  const blocks = [...text.matchAll(/^```[\s\S]*?^```|(?:^ {4}.*\n)+/gm)].flatMap(([block]) =>
    block.split("\n"),
  );
  const inline = [...text.replaceAll(/^```[\s\S]*?^```/gm, "").matchAll(/`([^`]+)`/g)];
  return [...blocks, ...inline.map(([, code = ""]) => code.replaceAll("\n", " "))];
}

/** The words up to where the shell or a comment goes on; what only says that there may be more is left out. */
function wordsOf(code: string): string[] {
  const [line = ""] = code.replaceAll("$(NODE_NAME)", "NODE").split(/\s#\s|[|<>;&)]|\s-- /);
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)]
    .map(([, double, single, bare]) => double ?? single ?? bare ?? "")
    .filter((word) => !/^(…|\.\.\.|\[.*|.*\])$/.test(word));
}

/** Every command line of shimctl that has more than its command. */
function commandsOf(page: string): string[][] {
  return codeOf(page)
    .flatMap((code) =>
      [...code.matchAll(/(?:^|[\s(=])shimctl ([a-z].*)/g)].map(([, rest = ""]) => wordsOf(rest)),
    )
    .filter(([name = "", ...others]) => isCommand(name) && others.length > 0);
}

/** Why nobody could run it; an option whose value is left out at the end is only spoken of. */
function whyNotRead(words: readonly string[]): string {
  try {
    parseArguments(words, {});
    return "";
  } catch (error) {
    const why = String(error);
    return why.includes(`${words.at(-1)}, as its value is missing`) ? "" : why;
  }
}

describe("the documentation", () => {
  test.each(pages)("of %s names only commands and options that there are", (page) => {
    for (const words of commandsOf(page)) expect(whyNotRead(words), `shimctl ${words.join(" ")}`).toBe("");
  });

  test("has command lines that this test finds", () => {
    expect(pages.flatMap(commandsOf).length).toBeGreaterThan(30);
    expect(commandsOf("docs/operations.md").length).toBeGreaterThan(10);
  });

  test.each(pages)("of %s names only metrics that there are", (page) => {
    const known = families.map(({ name }) => name);
    for (const [name] of textOf(page).matchAll(/\bshimctl_[a-z_]+/g)) expect(known).toContain(name);
  });

  test.each(pages)("of %s leads to files that there are", (page) => {
    const text = textOf(page);
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, to = ""]) =>
      join(dirname(page), to),
    );
    // In deploy/README.md itself, PATH is where the repository is.
    const named = [...text.matchAll(/(?:`|PATH\/)(deploy\/[a-z/-]+)/g)].map(([, path = ""]) => path);
    for (const path of [...links, ...named]) expect(existsSync(join(root, path)), path).toBe(true);
  });

  test.each(pages)("of %s selects nodes by the label of the manifests", (page) => {
    for (const [label] of textOf(page).matchAll(/[a-z./]*\/wave=\w+/g)) expect(label).toBe(`${waveLabel}=1`);
  });

  test("of deploy/README.md patches the argument that it means", () => {
    const [, at = "", value = ""] = /args\/(\d+), value: (--stagger)=/.exec(textOf("deploy/README.md")) ?? [];
    const args = [...textOf("deploy/base/shimctl.yaml").matchAll(/^ {8}- "?(--\w+|watch)/gm)].map(
      ([, name]) => name,
    );
    expect(args[Number(at)]).toBe(value);
  });

  test("says of each exit code what it means in a pod", () => {
    const told = [...textOf("docs/operations.md").matchAll(/^\| (\d+(?:, \d+)*) \|/gm)].flatMap(
      ([, codes = ""]) => codes.split(", ").map(Number),
    );
    expect(told).toEqual(exitCodes.map(([code]) => code));
  });
});
