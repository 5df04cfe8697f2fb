import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { bashCompletion } from "../../src/cli/completion/bash.ts";
import { commandLine } from "../../src/cli/completion/command_line.ts";
import { fishCompletion } from "../../src/cli/completion/fish.ts";
import { zshCompletion } from "../../src/cli/completion/zsh.ts";
import { commands, isCommand, optionsOf, shells } from "../../src/cli/options.ts";
import { allPresets } from "../../src/handler/presets/registry.ts";
import { layouts } from "../../src/layout/registry.ts";
import { documentNames } from "../../src/managed/registry.ts";
import { whyNot } from "../support/needs.ts";
import { runNowhere } from "../support/nowhere.ts";
import { offersOf, there } from "../support/shells.ts";

const makers = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };
const names = Object.keys(commands).filter(isCommand);
const handlers = allPresets().map(({ name }) => name);
const paths = Object.values(there);

const run = runNowhere;

for (const shell of shells) {
  const problem = whyNot(`completion in ${shell}`, { programs: [shell] });
  describe.skipIf(problem !== undefined)(`${shell} offers`, () => {
    const script = makers[shell](commandLine());
    /** Without what fish adds: what is on the line already, a slash behind folders, an equals sign. */
    const offered = (...lines: string[]) =>
      offersOf(shell, script, lines).map((found) => [
        ...new Set(found.map((each) => each.replace(/^--[\w-]+=(?=.)|(?<=.)[/=]$/g, ""))),
      ]);

    test("what the command prints", async () => {
      expect(await run(`completion ${shell}`)).toEqual({ code: 0, out: script, err: "" });
    });

    test("every command, and help", () => {
      expect(offered("shimctl ", "shimctl help ", "shimctl in")).toEqual([
        [...names, "help"].sort(),
        [...names].sort(),
        ["install"],
      ]);
    });

    test("every option of every command, and no other", () => {
      const found = offered(...names.map((name) => `shimctl ${name} --`));
      expect(found).toEqual(
        names.map((name) =>
          optionsOf(name)
            .map((option) => `--${option.name}`)
            .sort(),
        ),
      );
    });

    test("the values of an option that has some, whether behind a space or an equals sign", () => {
      const wanted = {
        "--engine": ["auto", "containerd", "crio"],
        "--layout": layouts.flatMap(({ name, family }) => (family === undefined ? [name] : [name, family])),
        "--restart": ["auto", "systemd", "systemctl", "none"],
        "--log-level": ["silent", "error", "warn", "info", "debug"],
      };
      for (const [option, values] of Object.entries(wanted)) {
        const all = [...new Set(values)].sort();
        expect(offered(`shimctl install ${option} `, `shimctl install ${option}=`)).toEqual([all, all]);
      }
      expect(offered("shimctl install --adopt=", "shimctl repair --from ")).toEqual([
        ["identical", "replace"],
        ["bak", "store"],
      ]);
    });

    test("nothing for a value that only its user knows", () => {
      expect(offered("shimctl install --owner ", "shimctl install --epoch=", "shimctl log --since ")).toEqual(
        [[], [], []],
      );
    });

    test("kinds of documents for --for of render, and none for that of hold", () => {
      expect(offered("shimctl render --for ", "shimctl hold --for ")).toEqual([
        [...documentNames].sort(),
        [],
      ]);
    });

    test("paths where a path is meant, and only folders where it is one", () => {
      expect(
        offered(
          "shimctl install -f ",
          "shimctl apply --file=some",
          "shimctl check some-",
          "shimctl repair ",
          "shimctl log --file some-f",
          "shimctl install --root some",
          "shimctl presets --prefix=",
        ),
      ).toEqual([paths, paths, paths, paths, paths, [there.folder], [there.folder]]);
    });

    test("handlers where a command takes some", () => {
      const all = [...handlers].sort();
      expect(
        offered(
          "shimctl install ",
          "shimctl uninstall --dry-run ",
          "shimctl install runsc --owner me ",
          "shimctl presets ",
          "shimctl render --for talos ",
          "shimctl diff install --retry ",
        ),
      ).toEqual([all, all, all, all, all, all]);
      expect(offered("shimctl install kata-qemu-sn", "shimctl status k", "shimctl apply k")).toEqual([
        handlers.filter((name) => name.startsWith("kata-qemu-sn")).sort(),
        [],
        [],
      ]);
    });

    test("the commands that diff shows, until one is there", () => {
      expect(offered("shimctl diff ", "shimctl diff --root x ", "shimctl diff apply y")).toEqual([
        ["apply", "install", "uninstall"],
        ["apply", "install", "uninstall"],
        ["youki"],
      ]);
    });

    test("the shells that completion knows", () => {
      expect(offered("shimctl completion ")).toEqual([[...shells].sort()]);
    });

    test("for lock the programs there are, and nothing of ours behind --", () => {
      const [program, argument, own] = offered(
        "shimctl lock -- unam",
        "shimctl lock --owner me -- cat some-fi",
        "shimctl install -- k",
      );
      expect(program).toContain("uname");
      expect(argument).toEqual([there.file]);
      expect(own).toEqual([]);
    });

    test("names of any characters as they are, and runs nothing of them", () => {
      const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 });
      const word = fc
        .oneof(
          text,
          fc.constantFrom(
            "it's",
            "$(touch x)",
            "`id`",
            "a b",
            "c:d",
            "e[f]",
            "\\",
            "\\'",
            '"',
            "*",
            "~",
            "!x",
            "a=b",
          ),
        )
        // A word with a dot in front is hidden in fish until the dot is typed.
        .filter((said) => !/^[-.]|\p{C}|\p{Z}$|^\p{Z}/u.test(said) && said.normalize() === said);
      const odd = fc.uniqueArray(fc.record({ name: word, help: word }), {
        minLength: 6,
        maxLength: 12,
        selector: ({ name }) => name,
      });
      fc.assert(
        fc.property(odd, (made) => {
          const line = { ...commandLine(), handlers: made };
          const [found] = offersOf(shell, makers[shell](line), ["shimctl install "]);
          expect(found).toEqual(made.map(({ name }) => name).sort());
        }),
        { numRuns: 8 },
      );
    });
  });
}

describe("a shell", () => {
  test.each([
    ["completion", "as not one shell is named", "write shimctl completion SHELL; known are bash, zsh, fish"],
    ["completion bash zsh", "as not one shell is named", "known are bash, zsh, fish"],
    ["completion bsh", "as it is not known: bsh", "did you mean 'bash'? known are"],
  ])("that cannot be meant is refused: %s", async (line, message, hint) => {
    const { code, out, err } = await run(line);
    expect([code, out]).toEqual([2, ""]);
    expect(err).toContain(message);
    expect(err).toContain(hint);
  });

  test.each(["completion fish", "man"])("gets one JSON document with --json: %s", async (line) => {
    const plain = await run(line);
    const { command, result, text } = JSON.parse((await run(`${line} --json`)).out) as Record<
      string,
      unknown
    >;
    expect([command, result, text]).toEqual([line.split(" ")[0], "ok", plain.out]);
  });
});
