import { cac } from "cac";
import { ShimctlError } from "../error.ts";

type Kind = "text" | "flag" | "duration" | "count";

interface OptionSpec {
  readonly kind: Kind;
  readonly value?: string;
  readonly help: string;
  readonly short?: string;
  readonly default?: string;
}

/** Every option, once. Each is also a variable: `--lock-timeout` is `SHIMCTL_LOCK_TIMEOUT`. */
const specs = {
  root: { kind: "text", value: "DIR", help: "the node's root folder, as seen from here", default: "/" },
  engine: { kind: "text", value: "NAME", help: "auto, containerd or crio", default: "auto" },
  "engine-version": { kind: "text", value: "V", help: "the engine's version, where it cannot be found out" },
  config: { kind: "text", value: "PATH", help: "the engine's configuration file, as the node names it" },
  owner: {
    kind: "text",
    value: "NAME",
    help: "who asks; each owner has a file or block of its own",
    default: "default",
  },
  prefix: { kind: "text", value: "DIR", help: "where the runtime is installed, instead of its usual place" },
  snapshotter: { kind: "text", value: "NAME", help: "the snapshotter for these handlers" },
  file: { kind: "text", value: "FILE", short: "f", help: "a handler file (TOML)" },
  all: { kind: "flag", help: "every handler of this owner" },
  "allow-missing": { kind: "flag", help: "accept handlers whose binary or configuration is not on the host" },
  "no-restart": { kind: "flag", help: "leave the engine running as it is (this release never restarts it)" },
  "dry-run": { kind: "flag", help: "plan and prove, write nothing" },
  "prove-with": {
    kind: "text",
    value: "PATH",
    help: "let this engine binary parse the result before anything is written",
  },
  json: { kind: "flag", help: "print one JSON document" },
  "lock-timeout": { kind: "duration", value: "D", help: "how long to wait for another run", default: "15m" },
  timeout: { kind: "duration", value: "D", help: "how long to wait for the lock", default: "15m" },
  retries: {
    kind: "count",
    value: "N",
    help: "how often to plan again when another program writes in between",
    default: "50",
  },
  "log-level": { kind: "text", value: "LEVEL", help: "silent, error, warn, info or debug", default: "info" },
  help: { kind: "flag", short: "h", help: "show this help" },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof specs;

const node: readonly OptionName[] = ["root", "engine", "engine-version", "config"];
const change: readonly OptionName[] = [
  ...node,
  "owner",
  "no-restart",
  "dry-run",
  "prove-with",
  "lock-timeout",
  "retries",
];
const always: readonly OptionName[] = ["json", "log-level", "help"];
const making: readonly OptionName[] = ["file", "prefix", "snapshotter", "allow-missing"];

interface CommandSpec {
  readonly usage: string;
  readonly help: string;
  readonly options: readonly OptionName[];
}

export const commands = {
  install: {
    usage: "install HANDLER... | -f FILE",
    help: "add handlers to what the owner has",
    options: [...change, ...making, ...always],
  },
  uninstall: {
    usage: "uninstall HANDLER... | --all",
    help: "remove handlers of the owner",
    options: [...change, "all", ...always],
  },
  apply: {
    usage: "apply -f FILE",
    help: "make the owner's handlers exactly those of a file",
    options: [...change, ...making, ...always],
  },
  diff: {
    usage: "diff [install|uninstall|apply ...]",
    help: "show what that command would change, write nothing",
    options: [...change, ...making, "all", ...always],
  },
  status: {
    usage: "status",
    help: "show the node: engine, handlers, owners, drift",
    options: [...node, ...always],
  },
  check: {
    usage: "check [PATH]",
    help: "check the engine's configuration, or one file",
    options: [...node, ...always],
  },
  presets: {
    usage: "presets [NAME]",
    help: "list the handlers that shimctl knows",
    options: ["prefix", "snapshotter", "root", ...always],
  },
  lock: {
    usage: "lock [--timeout D] -- COMMAND...",
    help: "run a command while holding the node's lock",
    options: ["root", "owner", "timeout", ...always],
  },
  version: { usage: "version", help: "show the version", options: always },
} as const satisfies Record<string, CommandSpec>;

export type CommandName = keyof typeof commands;

export interface Parsed {
  readonly command: CommandName;
  readonly args: readonly string[];
  /** What follows `--`. */
  readonly rest: readonly string[];
  readonly options: Options;
  readonly help: boolean;
}

export interface Options {
  readonly root: string;
  readonly engine: "auto" | "containerd" | "crio";
  readonly engineVersion: string | undefined;
  readonly config: string | undefined;
  readonly owner: string;
  readonly prefix: string | undefined;
  readonly snapshotter: string | undefined;
  readonly file: string | undefined;
  readonly all: boolean;
  readonly allowMissing: boolean;
  readonly dryRun: boolean;
  readonly proveWith: string | undefined;
  readonly json: boolean;
  readonly lockTimeoutMs: number;
  readonly retries: number;
  readonly logLevel: string;
  /** Options that the command line or a variable gave, so that a handler file does not override them. */
  readonly given: ReadonlySet<string>;
}

/** Keeps cac's parser from turning `2.10` into the number 2.1. */
const guard = "\u0001";

/**
 * Reads the command line and the variables: a flag beats a variable.
 * Throws `usage` errors that name the nearest thing that exists.
 */
export function parseArguments(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Parsed {
  const split = argv.indexOf("--");
  const own = split < 0 ? [...argv] : argv.slice(0, split);
  const rest = split < 0 ? [] : argv.slice(split + 1);

  const first = own.find((token) => !token.startsWith("-"));
  const helpOnly =
    own.length === 0 ||
    own[0] === "help" ||
    (first === undefined && own.some((token) => token === "--help" || token === "-h"));
  if (helpOnly)
    return {
      command: "version",
      args: own[0] === "help" ? own.slice(1) : [],
      rest,
      options: defaults(env),
      help: true,
    };
  if (own[0] === "--version" || own[0] === "-V") own.splice(0, 1, "version");
  const name = own[0] ?? "";
  if (!isCommand(name)) {
    throw new ShimctlError(
      "usage",
      name.startsWith("-")
        ? `Cannot read '${name}' before a command`
        : `Cannot run '${name}', as there is no such command`,
      {
        hint: `${nearest(name, Object.keys(commands))}\`shimctl --help\` lists them`,
      },
    );
  }

  const cli = cac("shimctl");
  const command = cli.command(`${name} [...args]`);
  const spec: CommandSpec = commands[name];
  for (const option of spec.options) {
    const { kind, value, short }: OptionSpec = specs[option];
    const flag = `${short === undefined ? "" : `-${short}, `}--${option}`;
    command.option(kind === "flag" ? flag : `${flag} <${value ?? "value"}>`, "");
  }
  command.action(() => undefined);
  const { args, options } = cli.parse(["", "", ...guarded(own, spec.options)], { run: false });
  const flags = new Map<string, string>();
  for (const [key, value] of Object.entries(options)) {
    if (key === "--") continue;
    const option = spec.options.find((candidate) => camel(candidate) === key || shortOf(candidate) === key);
    if (option === undefined) {
      const typed = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
      throw new ShimctlError("usage", `Cannot use ${typed}, as '${name}' has no such option`, {
        hint: `${nearest(
          typed,
          spec.options.map((known) => `--${known}`),
        )}\`shimctl ${name} --help\` lists them`,
      });
    }
    if (Array.isArray(value)) throw new ShimctlError("usage", `Cannot use --${option} twice`);
    flags.set(option, String(value).replaceAll(guard, ""));
  }
  return {
    command: name,
    args: args.map((arg) => arg.replaceAll(guard, "")),
    rest,
    options: finish(flags, env, spec.options),
    help: flags.get("help") === "true",
  };
}

export function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commands, name);
}

function shortOf(name: OptionName): string | undefined {
  const spec: OptionSpec = specs[name];
  return spec.short;
}

function camel(name: string): string {
  // cac reads `--no-restart` as the negation of `restart`.
  return name.replace(/^no-/, "").replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Joins each option with its value as text, so that no value is taken for a number or for a flag. */
function guarded(argv: readonly string[], known: readonly OptionName[]): string[] {
  const out: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const token = argv[i] ?? "";
    const match = /^--?([a-z][a-z-]*)(?:=(.*))?$/s.exec(token);
    const option =
      match === null
        ? undefined
        : known.find(
            (name) =>
              name === match[1] ||
              (token.startsWith(`-${match[1]}`) && !token.startsWith("--") && shortOf(name) === match[1]),
          );
    if (option === undefined) {
      out.push(token);
      continue;
    }
    const spec: OptionSpec = specs[option];
    if (spec.kind === "flag") {
      const value = match?.[2];
      if (value !== undefined && value !== "true" && value !== "false")
        throw new ShimctlError("usage", `Cannot read --${option}, which takes no value: ${value}`);
      // `=false` on a flag is as if it was not there.
      if (value !== "false") out.push(`--${option}`);
      continue;
    }
    const value = match?.[2] ?? argv[++i];
    if (value === undefined || (match?.[2] === undefined && value.startsWith("--"))) {
      throw new ShimctlError("usage", `Cannot read --${option}, as its value is missing`, {
        hint: `write --${option} ${spec.value ?? "VALUE"}`,
      });
    }
    out.push(`--${option}=${guard}${value}`);
  }
  return out;
}

function variable(name: string): string {
  return `SHIMCTL_${name.toUpperCase().replaceAll("-", "_")}`;
}

function defaults(env: Readonly<Record<string, string | undefined>>): Options {
  return finish(new Map(), env, always);
}

function finish(
  flags: ReadonlyMap<string, string>,
  env: Readonly<Record<string, string | undefined>>,
  known: readonly OptionName[],
): Options {
  const given = new Set<string>();
  const get = (name: OptionName): string | undefined => {
    const spec: OptionSpec = specs[name];
    // cac says `restart: false` for `--no-restart`.
    const flag = name === "no-restart" ? (flags.has(name) ? "true" : undefined) : flags.get(name);
    const said = flag ?? (known.includes(name) ? env[variable(name)] : undefined);
    if (said !== undefined && said !== "") given.add(name);
    return said === undefined || said === "" ? spec.default : said;
  };
  const text = (name: OptionName): string => get(name) ?? "";
  const flag = (name: OptionName): boolean => {
    const value = get(name);
    if (value === undefined || value === "false" || value === "0") return false;
    if (value === "true" || value === "1") return true;
    throw new ShimctlError("usage", `Cannot read ${variable(name)}, which must be true or false: ${value}`);
  };
  const engine = text("engine");
  if (engine !== "auto" && engine !== "containerd" && engine !== "crio") {
    throw new ShimctlError(
      "usage",
      `Cannot read --engine, which must be auto, containerd or crio: ${engine}`,
    );
  }
  for (const name of ["root", "config", "prefix"] as const) {
    const value = get(name);
    if (name !== "root" && value !== undefined && !value.startsWith("/"))
      throw new ShimctlError("usage", `Cannot use --${name}, which must be an absolute path: ${value}`);
  }
  const timeout =
    flags.has("timeout") || (known.includes("timeout") && env[variable("timeout")] !== undefined)
      ? "timeout"
      : "lock-timeout";
  return {
    root: text("root"),
    engine,
    engineVersion: get("engine-version"),
    config: get("config"),
    owner: text("owner"),
    prefix: get("prefix")?.replace(/(?<=.)\/+$/, ""),
    snapshotter: get("snapshotter"),
    file: get("file"),
    all: flag("all"),
    allowMissing: flag("allow-missing"),
    dryRun: flag("dry-run"),
    proveWith: get("prove-with"),
    json: flag("json"),
    lockTimeoutMs: duration(timeout, text(timeout)),
    retries: count("retries", text("retries")),
    logLevel: level(text("log-level")),
    given,
  };
}

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `15m`, `1h30m`; a bare number is seconds. Milliseconds. */
export function duration(name: string, text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) {
    throw new ShimctlError(
      "usage",
      `Cannot read --${name}, which must be a time such as 90s or 15m: ${text}`,
    );
  }
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (units[unit ?? "s"] ?? 1000), 0);
}

function count(name: string, text: string): number {
  if (!/^\d{1,6}$/.test(text))
    throw new ShimctlError("usage", `Cannot read --${name}, which must be a whole number: ${text}`);
  return Number(text);
}

function level(text: string): string {
  if (!["silent", "error", "warn", "info", "debug"].includes(text)) {
    throw new ShimctlError(
      "usage",
      `Cannot read --log-level, which must be silent, error, warn, info or debug: ${text}`,
    );
  }
  return text;
}

/**
 * Variables that look like ours and are not: a typing error there is silent otherwise. What Kubernetes injects
 * for a Service named shimctl is no mistake.
 */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set<string>([
    ...Object.keys(specs).map(variable),
    "SHIMCTL_LOCK_FD",
    "SHIMCTL_NODE_NAME",
  ]);
  return Object.keys(env).filter(
    (name) =>
      name.startsWith("SHIMCTL_") &&
      !known.has(name) &&
      !/^SHIMCTL_(PORT(_.*)?|SERVICE_.*|TEST_.*)$/.test(name),
  );
}

/** "did you mean …? " for the nearest candidate, or nothing. */
export function nearest(typed: string, candidates: readonly string[]): string {
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: editDistance(typed, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best !== undefined && best.distance <= Math.max(2, typed.length / 3)
    ? `did you mean '${best.candidate}'? `
    : "";
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      );
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Help for one command, or for all. */
export function helpText(command: CommandName | undefined): string {
  if (command === undefined) {
    const width = Math.max(...Object.values(commands).map((spec) => spec.usage.length));
    return [
      "shimctl installs, changes and removes container runtime handlers on a node.",
      "",
      "Commands:",
      ...Object.values(commands).map((spec) => `  ${spec.usage.padEnd(width)}  ${spec.help}`),
      "",
      "`shimctl COMMAND --help` shows a command's options. Each option is also a variable:",
      "--lock-timeout is SHIMCTL_LOCK_TIMEOUT; a flag beats a variable beats the handler file.",
      "",
      exitHelp,
      "",
    ].join("\n");
  }
  const spec: CommandSpec = commands[command];
  const rows = spec.options.map((name) => {
    const { value, short, help, default: fallback }: OptionSpec = specs[name];
    return [
      `${short === undefined ? "    " : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
      `${help}${fallback === undefined ? "" : ` (${fallback})`}`,
    ] as const;
  });
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return [
    `shimctl ${spec.usage}`,
    "",
    `  ${spec.help}`,
    "",
    "Options:",
    ...rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`),
    "",
    exitHelp,
    "",
  ].join("\n");
}

const exitHelp = `Exit codes:
  0  done, unchanged or superseded       7  engine failed, change undone
  1  internal error                      8  undo failed, manual steps printed
  2  usage                               9  cannot verify
  3  invalid or unsupported              10 status: drifted
     configuration, nothing written      11 status, check: broken
  4  lock time-out, try again            12 held: this plan failed before
  5  conflict, other owner, or in use
  6  unsupported node, nothing written`;
