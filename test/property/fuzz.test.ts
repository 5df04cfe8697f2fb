import { afterAll, describe, expect, test } from "bun:test";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import process from "node:process";
import { commands } from "../../src/cli/options.ts";
import { generate } from "../fixtures/toml/documents.ts";
import { type EngineCase, engineCases } from "../support/engine_case.ts";
import { Node, type Ran } from "../support/node.ts";
import { randomOf } from "../support/random.ts";

/**
 * Whatever shimctl is given to read: it never crashes, never hangs, and never writes where it has no business.
 * A failure names its trial: SHIMCTL_TEST_INPUT=<number> runs that one alone.
 */
const inputs = Number(process.env["SHIMCTL_TEST_INPUTS"] ?? "3000");
const only = process.env["SHIMCTL_TEST_INPUT"];
/** Nothing may take longer, in ms; what it waited for a processor, which others had, does not count. */
const hangMs = 1_000;
/** Of which one has to do: a disk may have had something else to do, too. */
const attempts = 4;
/** After so many failures of one kind the others tell nothing new. */
const mostFailures = 20;

interface Random {
  int(below: number): number;
  pick<T>(list: readonly T[]): T;
  chance(probability: number): boolean;
}

function random(seed: number): Random {
  const next = randomOf(seed);
  const int = (below: number): number => Math.floor(next() * below);
  return { int, pick: (list) => list[int(list.length)] as (typeof list)[number], chance: (p) => next() < p };
}

const state = "/var/lib/shimctl";
const examples = ["presets.toml", "explicit.toml"].map((name) =>
  readFileSync(`${import.meta.dirname}/../../docs/examples/${name}`, "utf8"),
);
/** Paths that no input may lead to. */
const traps = [
  "/etc/victim/file",
  "../../outside/file",
  "/etc/link/file",
  "/etc/link/../../outside/file",
  "/opt/kata/bin/containerd-shim-kata-v2",
  "/dev/null",
  "/",
  ".",
];
const pieces = [
  "\0",
  "\r",
  "\n",
  "\r\n",
  "\u2028",
  "\ufeff",
  "\u0007",
  "\u{1f980}",
  '"',
  "'",
  '"""',
  "'''",
  "\\",
  "[",
  "]",
  "[[",
  "]]",
  "{",
  "}",
  ",",
  ".",
  "=",
  "#",
  "-",
  "..",
  "/",
  "_",
  " ",
  "\t",
  "0",
  "1",
  "-1",
  "2",
  "99999999999999999999999",
  "1e999",
  "nan",
  "0x",
  "1979-05-27T07:32:00Z",
  "true",
  "null",
  "__proto__",
  "constructor",
  "toString",
  "version = 3\n",
  "version = 1\n",
  'imports = ["/etc/victim/*"]\n',
  'imports = ["/etc/containerd/config.toml"]\n',
  'imports = ["**", "[", "../x"]\n',
  "[plugins]\n",
  '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.x]\n',
  "[crio.runtime.runtimes.x]\n",
  "# BEGIN shimctl default format=1 sha256=0123456789abcdef\n",
  "# END shimctl default\n",
  "# BEGIN shimctl shared format=1 sha256=0123456789abcdef\n",
  "# BEGIN shimctl default format=2\n",
  "# shimctl shared: version sha256=0123456789abcdef",
  '"step":"begin"',
  '"step":"end"',
  '"format":1',
  '"format":2',
  '"format":3',
  '{"format":',
  "[".repeat(3000),
  "{a=".repeat(2000),
  `${"a.".repeat(3000)}a = 1\n`,
  ...traps,
];

function garbage(random: Random): Uint8Array {
  const bytes = new Uint8Array(random.int(random.chance(0.1) ? 5000 : 200));
  for (let at = 0; at < bytes.length; at++) bytes[at] = random.int(random.chance(0.5) ? 256 : 128);
  return bytes;
}

/** A valid text with a few things wrong. */
function mutated(random: Random, valid: string, others: readonly string[]): Uint8Array {
  if (random.chance(0.03)) return garbage(random);
  let text = valid;
  // What still parses gets further: whole lines and values only.
  const isGentle = random.chance(0.5);
  for (let count = random.int(4) + (random.chance(0.9) ? 1 : 0); count > 0; count--) {
    const at = random.int(text.length + 1);
    const end = Math.min(text.length, at + random.int(random.chance(0.3) ? 300 : 12));
    const lines = text.split("\n");
    const line = random.int(lines.length);
    switch (isGentle ? 6 + random.int(4) : random.int(9)) {
      case 0:
        text = text.slice(0, at) + text.slice(end);
        break;
      case 1:
        text = text.slice(0, end) + text.slice(at);
        break;
      case 2:
      case 3:
        text = text.slice(0, at) + random.pick(pieces) + text.slice(random.chance(0.5) ? at : end);
        break;
      case 4:
        text = text.slice(0, at);
        break;
      case 5: {
        const other = random.pick(others);
        const from = random.int(other.length + 1);
        text = text.slice(0, at) + other.slice(from, from + random.int(400)) + text.slice(at);
        break;
      }
      case 6:
        lines.splice(
          line,
          1,
          lines[random.int(lines.length)] ?? "",
          ...(random.chance(0.5) ? [lines[line] ?? ""] : []),
        );
        text = lines.join("\n");
        break;
      case 7:
        lines.splice(line, 1);
        text = lines.join("\n");
        break;
      default: {
        // One value for another: what stands between quotes.
        const strings = [...text.matchAll(/"[^"\n]*"/g)];
        const found = random.chance(0.8) && strings.length > 0 ? random.pick(strings) : undefined;
        if (found !== undefined)
          text = `${text.slice(0, found.index)}${JSON.stringify(random.pick(pieces))}${text.slice(found.index + found[0].length)}`;
      }
    }
  }
  const bytes = Buffer.from(text);
  if (!isGentle && bytes.length > 0 && random.chance(0.15)) bytes[random.int(bytes.length)] = random.int(256);
  return new Uint8Array(bytes);
}

/** One node for each engine, brought back to the same files before each trial. */
interface Place {
  readonly engine: EngineCase;
  readonly base: string;
  readonly node: Node;
  /** Configurations with our handlers in them, and the state that goes with them. */
  readonly installed: readonly Readonly<Record<string, string>>[];
}

const temporary = mkdtempSync(`${tmpdir()}/shimctl-fuzz-`);
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

function below(root: string, path: string): Record<string, string> {
  const found: Record<string, string> = {};
  let names: string[];
  try {
    names = readdirSync(root + path);
  } catch {
    return found;
  }
  for (const name of names) {
    const here = `${path}/${name}`;
    const stat = lstatSync(root + here);
    if (stat.isDirectory()) Object.assign(found, below(root, here));
    else if (stat.isFile()) found[here] = readFileSync(root + here, "latin1");
  }
  return found;
}

async function placeFor(engine: EngineCase, index: number): Promise<Place> {
  const base = `${temporary}/${index}`;
  mkdirSync(`${base}/outside`, { recursive: true });
  writeFileSync(`${base}/outside/file`, "outside");
  const before = process.env["TMPDIR"];
  process.env["TMPDIR"] = base;
  const node = Node.of(engine);
  if (before === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = before;
  node.place("/etc/victim/file", "victim");
  symlinkSync("../../outside", `${node.root}/etc/link`);
  const installed: Record<string, string>[] = [engine.files];
  const commandsOf = [
    ["install", engine.handlers[0]],
    ["install", engine.handlers[1], "--owner", "other"],
    ["uninstall", "--all"],
  ];
  for (const args of commandsOf) {
    expect((await node.run(args)).code).toBe(0);
    installed.push({
      ...below(node.root, "/etc/containerd"),
      ...below(node.root, "/etc/crio"),
      ...below(node.root, state),
    });
  }
  return { engine, base, node, installed };
}

function reset({ node }: Place, files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const part of [
    "/etc/containerd",
    "/etc/crio",
    "/etc/cfg",
    "/etc/crio.conf.d",
    "/etc/conf.d",
    "/var",
    "/run",
  ])
    rmSync(node.root + part, { recursive: true, force: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(node.root + path), { recursive: true, mode: path.startsWith(state) ? 0o700 : 0o755 });
    writeFileSync(node.root + path, typeof content === "string" ? Buffer.from(content, "latin1") : content, {
      mode: path.startsWith(state) ? 0o600 : 0o644,
    });
  }
}

/** Everything below the sandbox that no command has business with, with its kind, mode and bytes. */
function elsewhere({ base, node }: Place, except: readonly string[] = []): string {
  const facts: string[] = [];
  const visit = (path: string) => {
    for (const name of readdirSync(path).sort()) {
      const here = `${path}/${name}`;
      const host = here.startsWith(`${node.root}/`) ? here.slice(node.root.length) : here;
      if (["/etc/containerd", "/etc/crio", "/var", "/run", ...except].includes(host)) continue;
      const stat = lstatSync(here);
      const bytes = stat.isSymbolicLink()
        ? readlinkSync(here)
        : stat.isFile()
          ? readFileSync(here, "latin1")
          : "";
      facts.push(`${host} ${stat.mode.toString(8)} ${bytes}`);
      if (stat.isDirectory()) visit(here);
    }
  };
  visit(base);
  return facts.join("\n");
}

interface Trial {
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Places that this command line names itself. */
  readonly except?: readonly string[];
}

type Kind = (random: Random, place: Place) => Trial;

function anyCommand(random: Random, { engine }: Place): string[] {
  return random.pick([
    ["install", random.pick(engine.handlers)],
    ["install", ...engine.handlers],
    ["install", random.pick(engine.handlers), "--json"],
    ["install", random.pick(engine.handlers), "--owner", "other"],
    ["install", random.pick(engine.handlers), "--dry-run"],
    ["uninstall", random.pick(engine.handlers)],
    ["uninstall", "--all"],
    ["uninstall", "--all", "--owner", "other", "--json"],
    ["diff", "install", random.pick(engine.handlers)],
    ["diff"],
    ["status"],
    ["status", "--json"],
    ["check"],
    ["rollback"],
    ["rollback", "--json", "--allow-missing"],
    ["rollback", "--owner", "other", "--dry-run"],
    ["log"],
    ["log", "--json"],
    ["hold"],
    ["release", "--all"],
    ["repair"],
    ["repair", "--yes", "--json"],
    ["repair", "--yes", "--from", random.pick(["store", "bak"])],
  ]);
}

const kinds: Readonly<Record<string, Kind>> = {
  "a configuration": (random, place) => {
    const files: Record<string, string | Uint8Array> = { ...random.pick(place.installed) };
    const mine = Object.keys(files).filter((path) => path.startsWith("/etc/"));
    const path = random.pick(mine.length > 0 ? mine : [place.engine.rootFile]);
    const made = random.chance(0.1);
    const text = made
      ? generate(random.int(2 ** 31), random.pick(["realistic", "hostile"] as const))
      : String(files[path] ?? "");
    files[path] = mutated(random, text, Object.values(random.pick(place.installed)));
    return { files, args: anyCommand(random, place) };
  },
  "a handler file": (random, place) => {
    const files = { ...random.pick(place.installed) };
    const file = `${place.base}/handlers.toml`;
    writeFileSync(file, mutated(random, random.pick(examples), examples));
    const command = random.pick([["apply"], ["install"], ["diff", "apply"], ["apply", "--dry-run"]]);
    return {
      files,
      args: [...command, "-f", file, ...(random.chance(0.7) ? ["--allow-missing"] : [])],
      except: [file],
    };
  },
  arguments: (random, place) => {
    const names = Object.values(commands).flatMap(({ options }) => options.map((name) => `--${name}`));
    const word = (): string =>
      random.chance(0.35)
        ? random.pick(names)
        : random.chance(0.4)
          ? random.pick([
              ...place.engine.handlers,
              "default",
              "other",
              "1m",
              "2.1",
              "containerd",
              "crio",
              "none",
              "/etc/cfg/x.toml",
              "/etc/cfg",
            ])
          : random.chance(0.6)
            ? random.pick(pieces)
            : Buffer.from(
                mutated(random, random.pick([...place.engine.handlers, ...names]), pieces),
              ).toString();
    const words = Array.from({ length: random.int(6) }, word).map((text) =>
      random.chance(0.1) ? `${text}=${word()}` : text,
    );
    const args = random.chance(0.85) ? [...anyCommand(random, place), ...words] : words;
    const named = args
      .map((text) => text.replace(/^--[a-z-]+=/, ""))
      .filter((text) => /^\/etc\/cfg./.test(text));
    return {
      files: random.pick(place.installed),
      args: args.filter(isHarmless),
      except: ["/etc/cfg", ...named, "/etc/crio.conf.d", "/etc/conf.d", `${place.base}/handlers.toml`],
    };
  },
  "a journal": (random, place) => {
    const files: Record<string, string | Uint8Array> = { ...random.pick(place.installed.slice(1)) };
    const lines = String(files[`${state}/journal`] ?? "").split("\n");
    const begin = lines.findLastIndex((line) => line.includes('"step":"begin"'));
    const cut = begin + 1 + random.int(lines.length - begin);
    const intent = lines.slice(0, cut).findLast((line) => line.includes('"step":"intent"'));
    let text = lines
      .slice(0, cut)
      .map((line) => `${line}\n`)
      .join("");
    if (random.chance(0.4) && intent !== undefined) {
      const value = JSON.parse(intent) as Record<string, string>;
      const temp = value["temp"] ?? "";
      if (temp.startsWith("/etc/"))
        files[temp] = random.chance(0.5)
          ? String(files[value["path"] ?? ""] ?? "")
          : mutated(random, String(Object.values(files)[0]), pieces);
      for (const key of ["path", "target", "temp"])
        if (random.chance(0.3))
          value[key] =
            random.pick(traps) + random.pick(["", temp, ".toml", "/.config.toml.shimctl-0123456789ab.tmp"]);
      text = text.replace(intent, JSON.stringify(value));
    }
    files[`${state}/journal`] = random.chance(0.7) ? mutated(random, text, [text, ...pieces]) : text;
    if (random.chance(0.1)) files[`${state}/journal.1`] = mutated(random, text, pieces);
    return { files, args: anyCommand(random, place) };
  },
  "a record": (random, place) => {
    const files: Record<string, string | Uint8Array> = { ...random.pick(place.installed.slice(1)) };
    const record = String(files[`${state}/record.json`] ?? "");
    files[`${state}/record.json`] = mutated(random, record, [record, ...pieces]);
    return { files, args: anyCommand(random, place) };
  },
};

/** What would run other programs, or another node: this one's is the only one that may be changed. */
function isHarmless(text: string): boolean {
  return !/--(root|restart|prove|file|no-restart)|^-f|\/dev\/|^lock$|^--$/.test(text);
}

/** How long this thread has been able to run, and did not, in ms (kernel, scheduler/sched-stats); 0 where that is not told. */
function waitedForProcessor(): number {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[1]) / 1e6;
  } catch {
    return 0;
  }
}

async function attempt(
  place: Place,
  { files, args, env = {}, except }: Trial,
): Promise<{ ran: Ran; ms: number }> {
  reset(place, files);
  const before = elsewhere(place, except);
  const waited = waitedForProcessor();
  const started = performance.now();
  const ran = await place.node.run(args, { SHIMCTL_NO_RESTART: "true", ...env });
  const ms = performance.now() - started - (waitedForProcessor() - waited);
  expect(elsewhere(place, except)).toBe(before);
  return { ran, ms };
}

/** @returns the exit code */
async function carryOut(place: Place, trial: Trial): Promise<number> {
  let slow = 0;
  for (let count = 0; count < attempts; count++) {
    const { ran, ms } = await attempt(place, trial);
    if (ran.code === 1 || ran.err.includes("please report this"))
      throw new Error(`it crashed: ${ran.out}${ran.err}`);
    if (ms < hangMs) return ran.code;
    slow = ms;
  }
  throw new Error(`it took ${slow.toFixed(0)} ms`);
}

describe("whatever stands in", () => {
  const places: Place[] = [];
  const trials = Object.entries(kinds);
  for (const [which, [name, kind]] of trials.entries()) {
    test(`${name}: no crash, no hang, no write elsewhere`, async () => {
      if (places.length === 0)
        for (const [index, engine] of engineCases.entries()) places.push(await placeFor(engine, index));
      const started = performance.now();
      const numbers =
        only === undefined
          ? Array.from(
              { length: Math.ceil(inputs / trials.length) },
              (_, index) => index * trials.length + which,
            )
          : Number(only) % trials.length === which
            ? [Number(only)]
            : [];
      const failures: string[] = [];
      const codes = new Map<number, number>();
      for (const number of numbers) {
        const chosen = random(number * 2654435761);
        const place = chosen.pick(places);
        const trial = kind(chosen, place);
        if (only !== undefined)
          for (const [path, content] of Object.entries(trial.files))
            console.log(
              `== ${path}\n${typeof content === "string" ? content : Buffer.from(content).toString()}`,
            );
        try {
          const code = await carryOut(place, trial);
          codes.set(code, (codes.get(code) ?? 0) + 1);
        } catch (cause) {
          failures.push(
            `SHIMCTL_TEST_INPUT=${number}: ${place.engine.name}: ${JSON.stringify(trial.args).slice(0, 500)}: ${cause instanceof Error ? cause.message : cause}`,
          );
          if (failures.length === mostFailures) break;
        }
      }
      console.log(
        `${name}: ${numbers.length} inputs in ${((performance.now() - started) / 1000).toFixed(0)} s; exit codes ${JSON.stringify(Object.fromEntries(codes))}`,
      );
      expect(failures).toEqual([]);
    }, 7_200_000);
  }
});
