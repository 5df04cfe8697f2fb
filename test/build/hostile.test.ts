import { describe, expect, test } from "bun:test";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { scrubbedPrefixes } from "../../build/scrub.ts";
import { compiled } from "../support/binary.ts";
import { whyNot } from "../support/needs.ts";
import { Node } from "../support/node.ts";
import { unprotected } from "../support/unprotected.ts";

/** A folder with everything that could run code in, or configure, what is started in it. */
class HostileFolder {
  readonly path = mkdtempSync(join(tmpdir(), "shimctl-hostile-"));
  readonly mark = join(this.path, "mark");

  /** @param without names of files that would decide, where something else is tried */
  constructor(...without: string[]) {
    const code = `require("node:fs").writeFileSync(${JSON.stringify(this.mark)}, "");\n`;
    for (const name of ["attack.js", "index.js", "version", "shimctl", "node_modules/zod/index.js"])
      this.place(name, code);
    this.place("bunfig.toml", 'preload = ["./attack.js"]\n');
    this.place(".env", "SHIMCTL_JSON=true\nBUN_OPTIONS=--preload=./attack.js\n");
    this.place("tsconfig.json", '{"compilerOptions":{"paths":{"*":["./attack.js"]}}}');
    this.place(
      "package.json",
      '{"main":"attack.js","imports":{"#x":"./attack.js"},"scripts":{"version":"./attack.js"}}',
    );
    for (const name of ["libc.so.6", "libc.so", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld.so"])
      this.place(name, "no library");
    for (const name of without) rmSync(join(this.path, name));
  }

  /** Runs an executable in the folder, with nothing in its environment but what is given. */
  run(
    argv: readonly string[],
    env: Readonly<Record<string, string>> = {},
    timeout = 30_000,
  ): SpawnSyncReturns<string> {
    const [command = "", ...args] = argv;
    return spawnSync(command, args, {
      cwd: this.path,
      env,
      encoding: "utf8",
      timeout,
      killSignal: "SIGKILL",
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  private place(name: string, text: string): void {
    mkdirSync(join(this.path, name, ".."), { recursive: true });
    writeFileSync(join(this.path, name), text, { mode: 0o755 });
  }
}

/** Files that an executable without protection obeys, so that only a variable is left to change anything. */
const obeyed = ["bunfig.toml", ".env", "tsconfig.json", "package.json"];

/** Whether an executable does anything but say its version, with this environment, in a hostile folder. */
function isChangedBy(
  executable: string,
  env: Readonly<Record<string, string>>,
  ...without: string[]
): boolean {
  using folder = new HostileFolder(...without);
  const inFolder = Object.fromEntries(
    Object.entries(env).map(([name, value]) => [name, value.replaceAll("@", folder.path)]),
  );
  // One that waits for a debugger waits for ever.
  const patience = executable === unprotected() ? 5_000 : 30_000;
  const ran = folder.run([executable, "version"], inFolder, patience);
  const isVersion = ran.status === 0 && ran.stderr === "" && /^shimctl \S+ \(.*\)\n$/.test(ran.stdout);
  return !isVersion || existsSync(folder.mark) || existsSync(join(folder.path, "written"));
}

const variables: readonly Readonly<Record<string, string>>[] = [
  { BUN_BE_BUN: "1" },
  { BUN_OPTIONS: "--preload=./attack.js" },
  { BUN_OPTIONS: "--cpu-prof --cpu-prof-dir=@/written" },
  { BUN_INSPECT: "unix://@/socket?wait=1" },
  { BUN_BYTECODE_ORDER_OUT: "@/written" },
  { BUN_BYTECODE_DIGEST_OUT: "@/written" },
  { BUN_JSC_dumpOptions: "2" },
  { JSC_SIGNAL_FOR_GC: "9" },
  { SIMDUTF_FORCE_IMPLEMENTATION: "nonsense" },
  { WTF_numberOfProcessorCores: "x" },
  { mimalloc_verbose: "1" },
  { MIMALLOC_VERBOSE: "1" },
  { MiMalloc_Verbose: "1" },
];

describe("variables of the runtime change nothing", () => {
  for (const env of variables)
    test(Object.entries(env).map(([name, value]) => `${name}=${value}`)[0] ?? "", () => {
      expect(isChangedBy(unprotected(), env, ...obeyed)).toBe(true);
      expect(isChangedBy(compiled(), env, ...obeyed)).toBe(false);
      expect(isChangedBy(compiled(), env)).toBe(false);
    });

  test("an executable without protection is unchanged where nothing is tried", () => {
    expect(isChangedBy(unprotected(), {}, ...obeyed)).toBe(false);
  });

  for (const name of ["BUN_JSC_useJIT", "JavaScriptCoreUseJIT"])
    test(`${name}=0 takes neither the lock nor the install away`, () => {
      expect(install(unprotected(), { [name]: "0" }).status).toBe(6);
      expect(install(compiled(), { [name]: "0" }).status).toBe(0);
    });

  // None of these shows an effect on an executable without protection today; this is for the next release of Bun.
  for (const [name, value] of [
    ["NODE_OPTIONS", "--require=./attack.js"],
    ["NODE_PATH", "."],
    ["NODE_CHANNEL_FD", "0"],
    ["NODE_V8_COVERAGE", "./written"],
    ["NODE_COMPILE_CACHE", "./written"],
    ["BUN_INSPECT_CONNECT_TO", "unix://./socket"],
    ["BUN_INSPECT_PRELOAD", "./attack.js"],
    ["BUN_CONFIG_FILE", "./bunfig.toml"],
    ["XDG_CONFIG_HOME", "."],
    ["HOME", "."],
  ] as const)
    test(`${name}=${value}`, () => {
      expect(isChangedBy(compiled(), { [name]: value })).toBe(false);
    });

  test("all of them at once, among others", () => {
    const all = Object.fromEntries(
      variables.flatMap((env, index) => [...Object.entries(env), [`X${index}`, ""]]),
    );
    expect(isChangedBy(compiled(), all)).toBe(false);
  });

  test("no name that it may be called by makes it another program", () => {
    for (const name of ["bun", "bunx", "node", "./attack.js", ""]) {
      using folder = new HostileFolder();
      const ran = spawnSync(compiled(), ["version"], { argv0: name, cwd: folder.path, encoding: "utf8" });
      expect(ran.stdout).toStartWith("shimctl ");
      expect(existsSync(folder.mark)).toBe(false);
    }
  });
});

describe("what a command under the lock sees", () => {
  test("is the environment as it was given, the runtime's variables included", () => {
    using node = new Node("2.1.9", "version = 3\n");
    using folder = new HostileFolder();
    const ran = folder.run([compiled(), "lock", "--root", node.root, "--", "/usr/bin/env"], {
      BUN_OPTIONS: "--preload=./attack.js",
      NODE_PATH: "a=b",
      PATH: "/usr/bin",
    });
    const lines = ran.stdout.split("\n");
    expect(lines).toContain("BUN_OPTIONS=--preload=./attack.js");
    expect(lines).toContain("NODE_PATH=a=b");
    expect(lines).toContain("PATH=/usr/bin");
    expect(lines.some((line) => line.startsWith("SHIMCTL_LOCK_FD="))).toBe(true);
  });
});

describe("the folder that it is started in changes nothing", () => {
  test("bunfig.toml runs no code", () => {
    expect(isChangedBy(unprotected(), {})).toBe(true);
    expect(isChangedBy(compiled(), {})).toBe(false);
  });

  test(".env sets no variable", () => {
    using folder = new HostileFolder("bunfig.toml");
    const said = (executable: string) => folder.run([executable, "version"]).stdout;
    expect(said(unprotected())).toStartWith("{");
    expect(said(compiled())).toStartWith("shimctl ");
  });
});

const noStrace = whyNot("what is opened in a hostile folder", { programs: ["strace"] });

describe.skipIf(noStrace !== undefined)("no file of the folder that it is started in is opened", () => {
  const touched = (folder: HostileFolder, argv: readonly string[]): string[] => {
    const log = join(folder.path, "..", `${folder.path.split("/").at(-1)}.strace`);
    try {
      folder.run(["strace", "-f", "-o", log, "-e", "trace=open,openat,openat2,execve", ...argv], {
        PATH: process.env["PATH"] ?? "",
      });
      const lines = readFileSync(log, "utf8").split("\n");
      const relative = /open(?:at2?)?\((?:AT_FDCWD, )?"(?!\/)/;
      // The folder itself is listed: the runtime looks for nothing in it, but does look.
      return lines
        .filter((line) => line.includes(`"${folder.path}/`) || relative.test(line))
        .filter((line) => !line.includes("execve("));
    } finally {
      rmSync(log, { force: true });
    }
  };

  test("by version", () => {
    using folder = new HostileFolder();
    expect(touched(folder, [unprotected(), "version"])).not.toEqual([]);
    expect(touched(folder, [compiled(), "version"])).toEqual([]);
  });

  test("by an install, which loads the C library", () => {
    using node = new Node("2.1.9", "version = 3\n");
    using folder = new HostileFolder();
    const argv = ["install", "kata-qemu", "--root", node.root, "--engine-version", node.version];
    expect(touched(folder, [compiled(), ...argv])).toEqual([]);
    expect(node.tree()["/etc/containerd/conf.d/50-shimctl-default.toml"]).toBeDefined();
    // What would be seen, were the library's name one that the loader does not know.
    const missing = 'require("bun:ffi").dlopen("libmissing.so.6", { x: { returns: "i32" } })';
    rmSync(join(folder.path, "tsconfig.json"));
    const looked = touched(folder, [process.execPath, "--config=/dev/null", "-e", missing]);
    expect(looked.some((line) => line.includes(`"${folder.path}/libmissing.so.6"`))).toBe(true);
  });
});

/** Installs a handler on a node of its own, and says how that ended and what became of the configuration. */
function install(
  executable: string,
  env: Readonly<Record<string, string>>,
  run = (folder: HostileFolder, argv: readonly string[]) => folder.run(argv, env),
): { status: number | null; stderr: string; changed: boolean } {
  using node = new Node("1.7.24", "version = 2\n");
  using folder = new HostileFolder(...obeyed);
  const before = node.text();
  const options = ["--root", node.root, "--engine-version", node.version];
  const { status, stderr } = run(folder, [executable, "install", "kata-qemu", ...options]);
  return { status, stderr, changed: node.text() !== before };
}

describe("where no memory may become executable", () => {
  const noJit = (folder: HostileFolder, argv: readonly string[]) =>
    spawnSync(
      process.execPath,
      [join(import.meta.dirname, "..", "support", "no-jit.ts"), folder.path, ...argv],
      {
        env: {},
        encoding: "utf8",
      },
    );

  test("an install is refused before anything is written, and says why and what to do", () => {
    const { status, stderr, changed } = install(compiled(), {}, noJit);
    expect(stderr).toContain("this process may not map executable memory");
    expect(stderr).toContain("MemoryDenyWriteExecute=");
    expect(status).toBe(6);
    expect(changed).toBe(false);
  });

  test("what only reads works", () => {
    using folder = new HostileFolder();
    const { stdout, status } = noJit(folder, [compiled(), "version"]);
    expect(stdout).toStartWith("shimctl ");
    expect(status).toBe(0);
  });
});

const noCompiler = whyNot("which variables the runtime asks for", { programs: ["cc"] });

describe.skipIf(noCompiler !== undefined)("the variables that the runtime asks the C library for", () => {
  test("are taken away, or known to be harmless", () => {
    const folder = mkdtempSync(join(tmpdir(), "shimctl-getenv-"));
    using node = new Node("2.1.9", "version = 3\n");
    try {
      const spy = join(folder, "spy.so");
      const built = spawnSync("cc", ["-shared", "-fPIC", "-o", spy, "-xc", "-"], {
        input: spySource,
        encoding: "utf8",
      });
      expect(built.stderr).toBe("");
      const { stderr } = spawnSync(
        compiled(),
        ["install", "kata-qemu", "--root", node.root, "--engine-version", node.version],
        { encoding: "utf8", env: { LD_PRELOAD: spy } },
      );
      const asked = [...new Set(stderr.match(/(?<=^getenv )\S+$/gm))];
      expect(asked).toContain("BUN_OPTIONS");
      const isScrubbed = (name: string) =>
        scrubbedPrefixes.some((each) => `${name}=`.toLowerCase().startsWith(each.toLowerCase()));
      expect(asked.filter((name) => !isScrubbed(name) && !harmless.includes(name))).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

/** Looks only: how text is shown, which time zone; another system's loader; a benchmark's padding; warnings of Node. */
const harmless = [
  "DYLD_INSERT_LIBRARIES",
  "FORCE_COLOR",
  "HYPERFINE_RANDOMIZED_ENVIRONMENT_OFFSET",
  "LANG",
  "LC_ALL",
  "LC_MESSAGES",
  "NODE_NO_WARNINGS",
  "NO_COLOR",
  "TZ",
];

const spySource = `
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
extern char **environ;
char *getenv(const char *name) {
  size_t length = strlen(name);
  dprintf(2, "getenv %s\\n", name);
  for (char **each = environ; each != 0 && *each != 0; each++)
    if (strncmp(*each, name, length) == 0 && (*each)[length] == '=') return *each + length + 1;
  return 0;
}
char *secure_getenv(const char *name) { return getenv(name); }
`;
