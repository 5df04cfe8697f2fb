import { describe, expect, test } from "bun:test";
import { parseArguments, unknownVariables, wantsJson } from "../../src/cli/options.ts";
import { ShimctlError } from "../../src/error.ts";

const parse = (line: string, env: Readonly<Record<string, string>> = {}) =>
  parseArguments(line === "" ? [] : line.split(" "), env);

/** The usage error's message; an argument that is `''` is empty. */
function refusal(line: string, env: Readonly<Record<string, string>> = {}): string {
  try {
    parseArguments(
      line.split(" ").map((token) => (token === "''" ? "" : token)),
      env,
    );
  } catch (error) {
    if (error instanceof ShimctlError && error.code === "usage") return error.message;
    throw error;
  }
  return "it was accepted";
}

describe("what a command would not look at is refused", () => {
  test.each([
    ["install kata-qemu -- --dry-run", "Cannot read '--', which 'install' does not take"],
    ["status --", "Cannot read '--', which 'status' does not take"],
    ["-- status", "Cannot read '--' before a command"],
    ["status now", "Cannot read 'now', as 'status' takes no such argument"],
    ["version 2", "Cannot read '2', as 'version' takes no such argument"],
    ["apply kata-qemu -f x", "Cannot apply handlers by name"],
    ["lock now -- true", "Cannot read 'now', as 'lock' takes no such argument"],
    ["install -", "Cannot read '-', as it is no name"],
    ["diff -f x", "Cannot use --file, as 'diff' alone does not take it"],
    ["diff uninstall a -f x", "Cannot use --file, as 'diff uninstall' does not take it"],
    ["diff install a --all", "Cannot use --all, as 'diff install' does not take it"],
    ["--json install a", "Cannot read '--json' before a command"],
  ])("%s", (line, message) => {
    expect(refusal(line)).toBe(message);
  });

  test("a variable for another command's option is no mistake", () => {
    expect(parse("diff", { SHIMCTL_FILE: "x" }).command).toBe("diff");
  });
});

describe("an option that is not there is told as it was typed", () => {
  test.each([
    "--restarts",
    "--root.x=y",
    "-x",
    "--/",
    "-json",
    "-xyz",
    "---json",
    "--noRestart",
    "--=x",
    "-=",
  ])("%s", (typed) => {
    expect(refusal(`install a ${typed}`)).toBe(
      `Cannot use ${typed.replace(/=.*/, "")}, as 'install' has no such option`,
    );
  });
});

describe("values", () => {
  test.each(["--root ''", "--root=", "--owner ''", "-f ''"])("%s is empty", (option) => {
    expect(refusal(`install a ${option}`)).toMatch(/^Cannot read --\w+, as its value is empty$/);
  });

  test.each(["--root", "--root --json"])("%s misses its value", (option) => {
    expect(refusal(`install a ${option}`)).toBe("Cannot read --root, as its value is missing");
  });

  test("an empty variable counts as unset", () => {
    const { options } = parse("install a", { SHIMCTL_OWNER: "", SHIMCTL_DRY_RUN: "", SHIMCTL_JSON: "" });
    expect([options.owner, options.dryRun, options.given.size]).toEqual(["default", false, 0]);
  });

  test("stay text, and the short form takes one too", () => {
    const { options } = parse("install a -f 010 --engine-version 2.10 --snapshotter=-1 --owner -f");
    expect([options.file, options.engineVersion, options.snapshotter, options.owner]).toEqual([
      "010",
      "2.10",
      "-1",
      "-f",
    ]);
  });

  test("an explicit no beats the variable, on the command line and in a variable", () => {
    const { options } = parse("install a --dry-run=false --allow-missing=false --json=false", {
      SHIMCTL_DRY_RUN: "true",
      SHIMCTL_ALLOW_MISSING: "1",
      SHIMCTL_JSON: "true",
    });
    expect([options.dryRun, options.allowMissing, options.json]).toEqual([false, false, false]);
    expect(parse("install a", { SHIMCTL_ALLOW_MISSING: "false" }).options.given.has("allow-missing")).toBe(
      true,
    );
  });

  test("--no-restart is read", () => {
    expect(parse("install a --no-restart").options.given.get("no-restart")).toBe("--no-restart");
  });

  test("a value that cannot be read is called as it was given, and cut", () => {
    expect(refusal("install a --retries x")).toBe("Cannot read --retries, which must be a whole number: x");
    expect(refusal("install a", { SHIMCTL_RETRIES: "x" })).toBe(
      "Cannot read SHIMCTL_RETRIES, which must be a whole number: x",
    );
    expect(refusal("install a", { SHIMCTL_LOCK_TIMEOUT: "soon" })).toContain("SHIMCTL_LOCK_TIMEOUT");
    expect(refusal("install a", { SHIMCTL_ENGINE: "docker" })).toContain("SHIMCTL_ENGINE");
    expect(refusal("install a", { SHIMCTL_CONFIG: "etc" })).toContain("SHIMCTL_CONFIG");
    expect(refusal(`install a --engine ${"x".repeat(900)}`).length).toBeLessThan(150);
  });
});

describe("JSON is decided before anything else", () => {
  test.each([
    [["install", "--bogus", "--json"], {}, true],
    [["install", "--json=true"], {}, true],
    [["install", "--json=false"], { SHIMCTL_JSON: "true" }, false],
    [["install"], { SHIMCTL_JSON: "true" }, true],
    [["install"], { SHIMCTL_JSON: "false" }, false],
    [["lock", "--", "cmd", "--json"], {}, false],
  ] as const)("%p %p", (argv, env, wanted) => {
    expect(wantsJson(argv, env)).toBe(wanted);
  });
});

test("what a shimctl passes to its children is known", () => {
  expect(unknownVariables({ SHIMCTL_LOCK_FD: "3", SHIMCTL_LOCK_LEVEL: "1", SHIMCTL_X: "" })).toEqual([
    "SHIMCTL_X",
  ]);
});

describe("how the engine is restarted", () => {
  test.each([
    ["install a --restart none", { SHIMCTL_RESTART_COMMAND: "/bin/x" }, "none"],
    ["install a --no-restart", { SHIMCTL_RESTART_COMMAND: "/bin/x" }, "none"],
    ["install a --restart none --restart-command /bin/x", {}, "none"],
    ["install a", { SHIMCTL_RESTART: "none", SHIMCTL_RESTART_COMMAND: "/bin/x" }, "none"],
    ["install a --restart-command /bin/x", { SHIMCTL_RESTART: "none" }, "command"],
    ["install a --restart auto --restart-command /bin/x", { SHIMCTL_NO_RESTART: "1" }, "command"],
    ["install a --restart-command /bin/x", {}, "command"],
  ])("%s with %j is %s: it is left alone where anybody says so who is not overruled", (line, env, mode) => {
    expect(parse(line, env).options.restart).toBe(mode as "none");
  });

  test("a command that names no program is refused", () => {
    expect(() => parseArguments(["install", "a", "--restart-command", "  "], {})).toThrow("names no program");
  });
});
