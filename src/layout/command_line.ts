import type { EngineName } from "../engine/backend.ts";
import type { Daemon, Places } from "./layout.ts";

/**
 * What an engine's own command line says about where its files are; absent what it leaves at the default. An empty one
 * stands for no file at all.
 */
export interface EngineSettings {
  readonly config?: string;
  /** CRI-O's folder of drop-ins. */
  readonly configDir?: string;
  readonly socket?: string;
}

interface Grammar {
  readonly flags: Readonly<Record<keyof EngineSettings, readonly string[]>>;
  /** Variables that stand for a flag that is not given. */
  readonly variables: Readonly<Partial<Record<keyof EngineSettings, string>>>;
  /** With one of them it is no daemon: shims call `containerd publish` for every event of a pod. */
  readonly commands: readonly string[];
}

/** From `--help` of containerd 1.6 to 2.3 and CRI-O 1.28 to 1.36. */
const grammars: Readonly<Record<EngineName, Grammar>> = {
  containerd: {
    flags: { config: ["config", "c"], configDir: [], socket: ["address", "a"] },
    variables: {},
    commands: ["config", "publish", "oci-hook", "help", "h"],
  },
  crio: {
    flags: { config: ["config", "c"], configDir: ["config-dir", "d"], socket: ["listen"] },
    variables: {
      config: "CONTAINER_CONFIG",
      configDir: "CONTAINER_CONFIG_DIR",
      socket: "CONTAINER_LISTEN",
    },
    commands: [
      "config",
      "version",
      "wipe",
      "status",
      "check",
      "complete",
      "completion",
      "man",
      "markdown",
      "help",
    ],
  },
};

/** What a daemon that is the engine itself was told; `undefined` for one that only starts it. */
export function engineSettings(
  engine: EngineName,
  { argv, environment }: Pick<Daemon, "argv" | "environment">,
): EngineSettings | undefined {
  const grammar = grammars[engine] as Grammar | undefined;
  if (grammar === undefined || programOf(argv) !== engine) return undefined;
  const settings: { -readonly [Key in keyof EngineSettings]: EngineSettings[Key] } = {};
  for (const key of ["config", "configDir", "socket"] as const) {
    const value = lastOf(argv, grammar.flags[key]) ?? environment[grammar.variables[key] ?? ""];
    if (value !== undefined) settings[key] = value;
  }
  return settings;
}

/**
 * The places of an engine that is its own daemon: its socket and its binary are those that it was started with. What
 * it reads stays where the layout has it: `detect` refuses where that is another file.
 */
export function asStarted(engine: EngineName, daemon: Daemon | undefined, usual: Places): Places {
  const settings = daemon === undefined ? undefined : engineSettings(engine, daemon);
  if (daemon === undefined || settings === undefined) return usual;
  const [program = ""] = daemon.argv;
  const socket = settings.socket?.replace(/^unix:\/\//, "");
  return {
    ...usual,
    ...(socket === undefined || !isKnown(socket) ? {} : { socket }),
    ...(program.startsWith("/") ? { binaries: [program] } : {}),
  };
}

/** Whether a path from a command line is one that `--config` takes: no variable and no specifier was left in it. */
export function isKnown(path: string): boolean {
  return path.startsWith("/") && !/\$\{|%|\p{Cc}/u.test(path);
}

/** Whether a command is the engine's, whatever it does. */
export function isProgram(engine: EngineName, argv: readonly string[]): boolean {
  return programOf(argv) === engine;
}

/** How the folder of drop-ins was moved, for people: the flag, or the variable that stands for it. */
export function movesDropIns(engine: EngineName, { argv }: Daemon): string {
  const { flags, variables } = grammars[engine];
  return lastOf(argv, flags.configDir) === undefined ? (variables.configDir ?? "") : "--config-dir";
}

/** Whether a command starts the engine, and not one of the engine's other commands. */
export function isEngine(engine: EngineName, argv: readonly string[]): boolean {
  const { commands } = grammars[engine];
  if (programOf(argv) !== engine) return false;
  return !argv.some((word, at) => {
    const before = argv[at - 1] ?? "";
    const isValue = before.startsWith("-") && !before.includes("=");
    return at > 0 && commands.includes(word) && !isValue;
  });
}

/** `--name VALUE`, `--name=VALUE`, and the same with one dash: Go's flag package takes both. The last one counts. */
function lastOf(argv: readonly string[], names: readonly string[]): string | undefined {
  let value: string | undefined;
  argv.forEach((word, at) => {
    const [, name, given] = /^--?([a-z][a-z-]*)(?:=(.*))?$/s.exec(word) ?? [];
    if (at > 0 && name !== undefined && names.includes(name)) value = given ?? argv[at + 1];
  });
  return value;
}

/** Flags that say where files are. All others may hold secrets: k3s has its token on the command line. */
const shownFlags = ["config", "c", "config-dir", "address", "a", "listen", "data-dir", "d", "root", "state"];

/** Who runs a program decides what it is called, and what its arguments are. */
const longest = 300;

/** A daemon's command for people, with no argument that may be a secret. */
export function shownCommand(argv: readonly string[]): string {
  const words = [programOf(argv)];
  let isCut = false;
  for (let at = 1; at < argv.length; at++) {
    const word = argv[at] ?? "";
    const [, name, given] = /^--?([a-z][a-z-]*)(?:=(.*))?$/s.exec(word) ?? [];
    if (name !== undefined && shownFlags.includes(name)) {
      words.push(word);
      if (given === undefined && argv[at + 1] !== undefined) words.push(argv[++at] ?? "");
    } else if (words.length === at && /^[a-z][a-z0-9.-]*$/.test(word)) words.push(word);
    else isCut = true;
  }
  const text = words.join(" ").replace(/\p{Cc}/gu, "?");
  const isLong = text.length > longest;
  return `${isLong ? text.slice(0, longest) : text}${isCut || isLong ? " …" : ""}`;
}

function programOf(argv: readonly string[]): string {
  const program = argv[0] ?? "";
  return program.slice(program.lastIndexOf("/") + 1);
}
