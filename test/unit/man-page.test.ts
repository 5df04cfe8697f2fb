import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { manPath } from "../../build/man.ts";
import { manPage } from "../../src/cli/man.ts";
import { commands, exitCodes, isCommand, moreOf, optionsOf } from "../../src/cli/options.ts";
import { whyNot } from "../support/needs.ts";

const names = Object.keys(commands).filter(isCommand);
/** The page as somebody reads it who knows no macros: without fonts and escapes, each paragraph in one line. */
const page = manPage()
  .replaceAll(/\\f[BIR]/g, "")
  .replaceAll("\\-", "-")
  .replaceAll("\\(aq", "'")
  .replaceAll("\\(ti", "~")
  .replaceAll(/\\\[u(\w+)\]/g, (_, point: string) => String.fromCodePoint(Number.parseInt(point, 16)))
  .replaceAll(/\n(?!\.)/g, " ")
  .toLowerCase();

test("the manual page in docs is what the options say", () => {
  expect(readFileSync(manPath, "utf8"), "When this is meant: npm run man").toBe(manPage());
});

describe("the manual page", () => {
  test.each(names)("has %s with its options, each with its help", (name) => {
    const { usage, help } = commands[name];
    const [, own] = page.split(`.ss ${usage.toLowerCase()} `);
    expect(own).toStartWith(`${help.toLowerCase()}.`);
    for (const line of moreOf(name)) expect(own).toContain(line.toLowerCase());
    const [, listed = ""] = /^\.pp options: (.*)\.$/m.exec(own ?? "") ?? [];
    expect(listed.split(", ")).toEqual(optionsOf(name).map((option) => `--${option.name}`));
    for (const option of optionsOf(name)) {
      const said = option.help.toLowerCase().replaceAll("`", "");
      const entries = page.split("\n.tp ").filter((entry) => entry.includes(`--${option.name}`));
      expect(entries.some((entry) => entry.includes(said))).toBe(true);
    }
  });

  test("has every exit code", () => {
    for (const [code, meaning] of exitCodes) expect(page).toContain(`.b ${code} ${meaning.toLowerCase()}\n`);
  });
});

/** What a program that formats manual pages has against this one. */
function complaints(...command: string[]): string[] {
  const [program = "", ...args] = command;
  const { stdout, stderr } = spawnSync(program, args, { input: manPage(), encoding: "utf8" });
  return `${stdout}${stderr}`.split("\n").filter((line) => line !== "");
}

test.skipIf(whyNot("the manual page with groff", { programs: ["groff"] }) !== undefined)(
  "groff has no warning for the manual page",
  () => {
    expect(complaints("groff", "-man", "-ww", "-z")).toEqual([]);
  },
);

test.skipIf(whyNot("the manual page with mandoc", { programs: ["mandoc"] }) !== undefined)(
  "mandoc has no remark on the manual page but that it names no day",
  () => {
    expect(complaints("mandoc", "-T", "lint").filter((line) => !line.includes("missing date"))).toEqual([]);
  },
);
