import { cac } from "cac";
import { ShimctlError } from "../error.ts";
import type { RestartMode } from "../host/live.ts";
import type { Budget } from "../transaction/activation.ts";

/** `choice`: the value may be left out, and is then the default one. */
type Kind = "text" | "flag" | "choice" | "duration" | "count";

/** What a value can be, for shells to offer: words, a path as it is seen from here, or what a registry has. */
export type Takes = "file" | "folder" | "layout" | "document" | readonly string[];

interface OptionSpec {
  readonly kind: Kind;
  readonly value?: string;
  readonly help: string;
  readonly short?: string;
  readonly default?: string;
  readonly takes?: Takes;
}

/** Shells that a completion script can be made for. */
export const shells = ["bash", "zsh", "fish"] as const;

/** Every option, once. Each is also a variable: `--lock-timeout` is `SHIMCTL_LOCK_TIMEOUT`. */
const specs = {
  root: {
    kind: "text",
    value: "DIR",
    help: "the node's root folder, as seen from here",
    default: "/",
    takes: "folder",
  },
  engine: {
    kind: "text",
    value: "NAME",
    help: "auto, containerd or crio",
    default: "auto",
    takes: ["auto", "containerd", "crio"],
  },
  layout: {
    kind: "text",
    value: "NAME",
    help: "the kind of node (k3s, rke2, k0s, microk8s, vanilla …), where it cannot be found out",
    takes: "layout",
  },
  "engine-version": { kind: "text", value: "V", help: "the engine's version, where it cannot be found out" },
  config: {
    kind: "text",
    value: "PATH",
    help: "the engine's configuration file, as the node names it",
    takes: "file",
  },
  owner: {
    kind: "text",
    value: "NAME",
    help: "who asks; each owner has a file or block of its own",
    default: "default",
  },
  epoch: {
    kind: "text",
    value: "E",
    help: "puts incarnations of the owner in order: a number, an RFC 3339 time, or now; an older one does nothing",
  },
  instance: { kind: "text", value: "NAME", help: "names one of several incarnations of the same epoch" },
  prefix: {
    kind: "text",
    value: "DIR",
    help: "where the runtime is installed, instead of its usual place",
    takes: "folder",
  },
  snapshotter: { kind: "text", value: "NAME", help: "the snapshotter for these handlers" },
  file: { kind: "text", value: "FILE", short: "f", help: "a handler file (TOML)", takes: "file" },
  for: {
    kind: "text",
    value: "KIND",
    help: "the managed system (talos, bottlerocket, nodeadm, flatcar, machineconfig), runtimeclass, daemonset or job",
    takes: "document",
  },
  image: {
    kind: "text",
    value: "REF",
    help: "the image of shimctl, as the cluster pulls it (localhost/shimctl of this version)",
  },
  all: { kind: "flag", help: "every handler of this owner" },
  "allow-missing": { kind: "flag", help: "accept handlers whose binary or configuration is not on the host" },
  "update-presets": {
    kind: "flag",
    help: "take presets as they are now, where a handler was installed by an older definition",
  },
  adopt: {
    kind: "choice",
    value: "replace",
    help: "take over what others define: where it means the same, or whatever it says (replace)",
    takes: ["identical", "replace"],
  },
  restart: {
    kind: "text",
    value: "HOW",
    help: "auto, systemd (over D-Bus), systemctl, or none: leave the engine running as it is",
    default: "auto",
    takes: ["auto", "systemd", "systemctl", "none"],
  },
  "no-restart": { kind: "flag", help: "the same as --restart none" },
  "restart-command": {
    kind: "text",
    value: "COMMAND",
    help: "restart the engine by this program, its arguments separated by spaces",
  },
  unit: { kind: "text", value: "NAME", help: "the engine's unit, where it is not the usual one" },
  "verify-timeout": {
    kind: "duration",
    value: "D",
    help: "how long the restarted engine may take until it serves",
    default: "5m",
  },
  "undo-on-timeout": {
    kind: "flag",
    help: "undo the change when that time is over, instead of leaving it open",
  },
  "allow-kill": { kind: "flag", help: "restart a unit whose KillMode ends the node's pods" },
  "restart-server": { kind: "flag", help: "restart a unit that carries the cluster's control plane" },
  "only-ours": { kind: "flag", help: "refuse where the restart would bring others' changes into effect too" },
  "restart-budget": {
    kind: "text",
    value: "HOUR,DAY",
    help: "how often shimctl may restart the engine without a person, within an hour and a day",
    default: "3,6",
  },
  automatic: {
    kind: "flag",
    help: "nobody is watching: count restarts (a pod without a terminal is automatic)",
  },
  retry: {
    kind: "flag",
    help: "try a change that was undone before, or one restart more than the budget has",
  },
  yes: { kind: "flag", help: "write it; without this nothing is written" },
  from: {
    kind: "text",
    value: "WHERE",
    help: "put older bytes in place: store (shimctl's own), or bak (a copy beside the file)",
    takes: ["store", "bak"],
  },
  format: {
    kind: "text",
    value: "FORMAT",
    help: "text, or prometheus: metrics for a textfile collector",
    default: "text",
    takes: ["text", "prometheus"],
  },
  "on-drift": {
    kind: "text",
    value: "HOW",
    help: "repair what others changed of ours, or only report it",
    default: "repair",
    takes: ["repair", "report"],
  },
  settle: {
    kind: "duration",
    value: "D",
    help: "how long drift must last before it is repaired: its cause may not be done yet",
    default: "30s",
  },
  interval: {
    kind: "duration",
    value: "D",
    help: "how often to look, besides whenever a file changes; at most once a second",
    default: "1m",
  },
  stagger: {
    kind: "duration",
    value: "D",
    help: "wait before the first change, up to that long, by the node's name: not all nodes restart at once",
    default: "0s",
  },
  listen: {
    kind: "text",
    value: "ADDRESS",
    help: "serve /healthz, /readyz and /metrics there: HOST:PORT, or :PORT for every address",
  },
  once: { kind: "flag", help: "look once, repair what has to be repaired, and end: for a timer" },
  "node-name": {
    kind: "text",
    value: "NAME",
    help: "the Kubernetes node that this is (in a pod: spec.nodeName)",
  },
  "node-label": {
    kind: "text",
    value: "KEY=VALUE,...",
    help: "labels that the Kubernetes node has while the handlers are proved to be served",
  },
  "remove-taint": {
    kind: "text",
    value: "KEY[:EFFECT],...",
    help: "taints to remove from the Kubernetes node once the handlers are proved to be served",
  },
  probe: { kind: "flag", help: "run an empty sandbox on each of our handlers, and remove it" },
  force: { kind: "flag", help: "remove handlers that running pods use" },
  "wait-unused": {
    kind: "duration",
    value: "D",
    help: "wait that long until no pod uses the handlers that are removed",
    default: "0s",
  },
  "dry-run": { kind: "flag", help: "plan and prove, write nothing" },
  "prove-with": {
    kind: "text",
    value: "PATH",
    help: "let this engine binary parse the result before anything is written",
    takes: "file",
  },
  json: { kind: "flag", help: "print one JSON document" },
  "lock-timeout": { kind: "duration", value: "D", help: "how long to wait for another run", default: "15m" },
  since: { kind: "text", value: "TIME", help: "from this time on, or of the last such as 2h or 7d" },
  to: { kind: "text", value: "ID", help: "back to how that operation left it; `shimctl log` shows IDs" },
  reason: { kind: "text", value: "TEXT", help: "why, for whoever meets it" },
  timeout: { kind: "duration", value: "D", help: "how long to wait for the lock", default: "15m" },
  retries: {
    kind: "count",
    value: "N",
    help: "how often to plan again when another program writes in between",
    default: "50",
  },
  "log-level": {
    kind: "text",
    value: "LEVEL",
    help: "silent, error, warn, info or debug",
    default: "info",
    takes: ["silent", "error", "warn", "info", "debug"],
  },
  help: { kind: "flag", short: "h", help: "show this help" },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof specs;

const node: readonly OptionName[] = ["root", "engine", "layout", "engine-version", "config"];
const change: readonly OptionName[] = [
  ...node,
  "owner",
  "epoch",
  "instance",
  "restart",
  "no-restart",
  "restart-command",
  "unit",
  "verify-timeout",
  "undo-on-timeout",
  "allow-kill",
  "restart-server",
  "only-ours",
  "restart-budget",
  "automatic",
  "retry",
  "force",
  "wait-unused",
  "dry-run",
  "prove-with",
  "lock-timeout",
  "retries",
];
const always: readonly OptionName[] = ["json", "log-level", "help"];
const making: readonly OptionName[] = [
  "file",
  "prefix",
  "snapshotter",
  "allow-missing",
  "update-presets",
  "adopt",
];

/** What is done to the Kubernetes node, only when asked. */
const cluster: readonly OptionName[] = ["node-name", "node-label", "remove-taint"];

const labelling = [
  "Exit code 9 with --node-label or --remove-taint can mean: the handlers are installed and served, and the",
  "Kubernetes node is not as asked for; the same command again does only that.",
];

interface CommandSpec {
  readonly usage: string;
  readonly help: string;
  /** More that help has to say, a line each. */
  readonly more?: readonly string[];
  /** What its arguments are; absent where it takes none. */
  readonly takes?: "handlers" | "handler" | "file" | "change" | "shell";
  readonly options: readonly OptionName[];
  /** Options that mean something else for this command. */
  readonly means?: Partial<Record<OptionName, Pick<OptionSpec, "value" | "help" | "default" | "takes">>>;
}

export const commands = {
  install: {
    usage: "install HANDLER... | -f FILE",
    help: "add handlers to what the owner has",
    more: labelling,
    takes: "handlers",
    options: [...change, ...making, ...cluster, ...always],
  },
  uninstall: {
    usage: "uninstall HANDLER... | --all",
    help: "remove handlers of the owner",
    more: [
      "Labels that the owner set on the Kubernetes node go before the first change, in a pod. Where the API cannot be",
      "reached within 30 s, the handlers are removed all the same, and the labels with the next run that reaches it.",
    ],
    takes: "handlers",
    options: [...change, "all", ...cluster, ...always],
  },
  apply: {
    usage: "apply -f FILE",
    help: "make the owner's handlers exactly those of a file",
    more: labelling,
    options: [...change, ...making, ...cluster, ...always],
  },
  watch: {
    usage: "watch HANDLER... | -f FILE",
    help: "install, then keep it so: look again when a file changes and on a timer, and mend what others undid",
    more: [
      "With a handler file, the owner has exactly what stands in it, as with apply; without, names are added, as with install.",
      "It goes on until a signal ends it, whatever it finds on the node. Only what its options or its handler file are",
      "wrong about when it starts ends it at once, with exit code 2.",
    ],
    takes: "handlers",
    options: [
      ...change,
      ...making,
      "on-drift",
      "settle",
      "interval",
      "stagger",
      "listen",
      "once",
      ...cluster,
      ...always,
    ],
  },
  diff: {
    usage: "diff [install|uninstall|apply ...]",
    help: "show what that command would change, write nothing",
    takes: "change",
    options: [...change, ...making, "all", ...always],
  },
  status: {
    usage: "status",
    help: "show the node: engine, handlers, owners, drift",
    options: [...node, "unit", "probe", "format", ...always],
  },
  check: {
    usage: "check [PATH]",
    help: "check the engine's configuration, or one file",
    takes: "file",
    options: [...node, ...always],
  },
  log: {
    usage: "log",
    help: "list what was done on this node, oldest first",
    options: ["root", "since", "owner", "file", ...always],
    means: {
      owner: { value: "NAME", help: "only what this owner did" },
      file: { value: "PATH", help: "only what changed this file", takes: "file" },
    },
  },
  rollback: {
    usage: "rollback [--to ID]",
    help: "take back the owner's last operation",
    options: [...change, "to", "allow-missing", ...always],
  },
  hold: {
    usage: "hold [--all]",
    help: "let automatic runs of the owner only report",
    options: ["root", "owner", "all", "for", "reason", "lock-timeout", ...always],
    means: {
      all: { help: "the whole node, whoever the owner is" },
      for: { value: "D", help: "for that long, instead of until `shimctl release`" },
    },
  },
  release: {
    usage: "release [--all]",
    help: "let automatic runs of the owner go on",
    options: ["root", "owner", "all", "lock-timeout", ...always],
    means: { all: { help: "every hold on this node" } },
  },
  repair: {
    usage: "repair [--yes] [PATH]",
    help: "show what the engine refuses in its configuration, and mend it",
    takes: "file",
    options: [
      ...node,
      "yes",
      "from",
      "restart",
      "no-restart",
      "restart-command",
      "unit",
      "verify-timeout",
      "allow-kill",
      "restart-server",
      "restart-budget",
      "automatic",
      "retry",
      "prove-with",
      "lock-timeout",
      "retries",
      ...always,
    ],
  },
  presets: {
    usage: "presets [NAME]",
    help: "list the handlers that shimctl knows",
    takes: "handler",
    options: ["prefix", "snapshotter", "root", ...always],
  },
  render: {
    usage: "render --for KIND HANDLER... | -f FILE",
    help: "print handlers as a document for a managed system or a cluster",
    more: [
      "daemonset: a namespace, the handler file and a DaemonSet that keeps handlers installed on the nodes of a wave",
      "job: a Job that uninstalls handlers, or --all of the owner, from --node-name",
      "Each time they are made, they are a newer incarnation: its epoch and instance are stamped into the pods.",
    ],
    takes: "handlers",
    options: [
      "for",
      "file",
      "all",
      "prefix",
      "snapshotter",
      "owner",
      "engine",
      "layout",
      "engine-version",
      "image",
      "node-name",
      ...always,
    ],
    means: {
      layout: {
        value: "NAME",
        help: "the kind of node: vanilla, crio, k3s, rke2, k0s or microk8s",
        takes: "layout",
      },
      owner: {
        value: "NAME",
        help: "who asks for the handlers, in a DaemonSet and a Job",
        default: "cluster",
      },
      "node-name": { value: "NAME", help: "the node of a Job" },
    },
  },
  lock: {
    usage: "lock [--timeout D] -- COMMAND...",
    help: "run a command while holding the node's lock",
    options: ["root", "owner", "timeout", ...always],
  },
  completion: {
    usage: `completion ${shells.join("|")}`,
    help: "print a script that completes command lines in that shell",
    more: [
      "bash: write it to /etc/bash_completion.d/shimctl, or: source <(shimctl completion bash)",
      "zsh: write it to a folder of $fpath as _shimctl",
      "fish: write it to ~/.config/fish/completions/shimctl.fish",
    ],
    takes: "shell",
    options: always,
  },
  man: { usage: "man", help: "print the manual page, for man -l", options: always },
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
  /** Whether the environment is that of a pod. */
  readonly inPod: boolean;
  readonly engine: "auto" | "containerd" | "crio";
  readonly layout: string | undefined;
  readonly engineVersion: string | undefined;
  readonly config: string | undefined;
  readonly owner: string;
  readonly epoch: string | undefined;
  readonly instance: string | undefined;
  readonly prefix: string | undefined;
  readonly snapshotter: string | undefined;
  readonly file: string | undefined;
  /** The managed system that `render` writes for. */
  readonly kind: string | undefined;
  readonly all: boolean;
  readonly allowMissing: boolean;
  readonly updatePresets: boolean;
  readonly adopt: "identical" | "replace" | undefined;
  readonly dryRun: boolean;
  readonly proveWith: string | undefined;
  readonly json: boolean;
  readonly lockTimeoutMs: number;
  readonly retries: number;
  readonly restart: "none" | RestartMode;
  readonly restartCommand: readonly string[];
  readonly unit: string | undefined;
  readonly verifyTimeoutMs: number;
  readonly undoOnTimeout: boolean;
  readonly allowKill: boolean;
  readonly restartServer: boolean;
  readonly onlyOurs: boolean;
  readonly budget: Budget;
  readonly automatic: boolean;
  readonly retry: boolean;
  readonly force: boolean;
  readonly probe: boolean;
  readonly format: "text" | "prometheus";
  readonly onDrift: "repair" | "report";
  readonly settleMs: number;
  readonly intervalMs: number;
  readonly staggerMs: number;
  readonly listen: string | undefined;
  readonly once: boolean;
  readonly nodeName: string | undefined;
  readonly image: string | undefined;
  readonly nodeLabel: string | undefined;
  readonly removeTaint: string | undefined;
  readonly yes: boolean;
  readonly from: string | undefined;
  readonly waitUnusedMs: number;
  readonly since: string | undefined;
  readonly to: string | undefined;
  readonly forMs: number | undefined;
  readonly reason: string | undefined;
  readonly logLevel: string;
  /** Options that the command line or a variable gave, and how: `--owner` or `SHIMCTL_OWNER`. */
  readonly given: ReadonlyMap<string, string>;
}

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
    argv.length === 0 ||
    own[0] === "help" ||
    (first === undefined && own.some((token) => token === "--help" || token === "-h"));
  if (helpOnly)
    return {
      command: "version",
      args: own[0] === "help" ? own.slice(1) : [],
      rest,
      options: finish(new Map(), env, always),
      help: true,
    };
  if (own[0] === "--version" || own[0] === "-V") own.splice(0, 1, "version");
  const name = own[0] ?? "--";
  if (!isCommand(name)) {
    throw name.startsWith("-")
      ? new ShimctlError("usage", `Cannot read '${shown(name)}' before a command`, {
          hint: "write it after the command; `shimctl --help` lists the commands",
        })
      : new ShimctlError("usage", `Cannot run '${shown(name)}', as there is no such command`, {
          hint: `${nearest(name, Object.keys(commands))}\`shimctl --help\` lists them`,
        });
  }

  const { flags, args } = readTokens(own.slice(1), name);
  const help = flags.get("help") === "true";
  if (!help) refuseStray(name, args, split >= 0, flags);
  return { command: name, args, rest, options: finish(flags, env, commands[name].options), help };
}

/**
 * Whether a result goes out as JSON. It is decided before anything else, so that a usage error is one JSON
 * document as well.
 */
export function wantsJson(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): boolean {
  const split = argv.indexOf("--");
  const own = split < 0 ? argv : argv.slice(0, split);
  const said = own.findLast((token) => /^--json(=|$)/.test(token)) ?? env[variable("json")];
  return said === "--json" || said === "--json=true" || said === "true" || said === "1";
}

/** What somebody typed, as a message repeats it: short, and on one line. */
export function shown(text: string): string {
  const clean = text.replace(/\p{Cc}/gu, "?");
  return clean.length > 60 ? `${clean.slice(0, 60)}…` : clean;
}

export function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commands, name);
}

function shortOf(name: OptionName): string | undefined {
  const spec: OptionSpec = specs[name];
  return spec.short;
}

/** Takes the command line apart into options, as they were written, and everything else. */
function readTokens(
  argv: readonly string[],
  command: CommandName,
): { flags: Map<OptionName, string>; args: string[] } {
  const known: readonly OptionName[] = commands[command].options;
  const seen = new Set<OptionName>();
  const tokens: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const token = argv[i] ?? "";
    if (!token.startsWith("-") || token === "-") {
      tokens.push(guard + token);
      continue;
    }
    const [, dashes, name, inline] = /^(--?)([^=]*)(?:=(.*))?$/s.exec(token) ?? [];
    const option = known.find((each) => (dashes === "--" ? each : shortOf(each)) === name);
    if (option === undefined) {
      const typed = `${dashes ?? ""}${name ?? ""}`;
      throw new ShimctlError("usage", `Cannot use ${shown(typed)}, as '${command}' has no such option`, {
        hint: `${nearest(
          typed,
          known.map((each) => `--${each}`),
        )}\`shimctl ${command} --help\` lists them`,
      });
    }
    if (seen.has(option)) throw new ShimctlError("usage", `Cannot use --${option} twice`);
    seen.add(option);
    const spec: OptionSpec = specs[option];
    if (spec.kind === "flag") {
      if (inline !== undefined && inline !== "true" && inline !== "false")
        throw new ShimctlError("usage", `Cannot read --${option}, which takes no value: ${shown(inline)}`);
      tokens.push(`--${plain(option)}=${guard}${inline ?? "true"}`);
      continue;
    }
    if (spec.kind === "choice") {
      tokens.push(`--${plain(option)}=${guard}${inline ?? "true"}`);
      continue;
    }
    const value = inline ?? argv[++i];
    if (value === undefined || value === "" || (inline === undefined && value.startsWith("--"))) {
      const why = value === "" ? "empty" : "missing";
      throw new ShimctlError("usage", `Cannot read --${option}, as its value is ${why}`, {
        hint: `write --${option} ${spec.value ?? "VALUE"}`,
      });
    }
    tokens.push(`--${plain(option)}=${guard}${value}`);
  }
  return parse(command, [...seen], tokens);
}

/** Keeps the library from reading a value as a number (`2.10` is not 2.1), or anything as a flag. */
const guard = "\u0001";

/** The library reads `--no-restart` as `restart` negated; here it is a flag like any other. */
function plain(option: OptionName): string {
  return option.replace(/^no-/, "without-");
}

/** @param used the options that stand on this command line: declaring all of them is a good part of a short run */
function parse(
  command: CommandName,
  used: readonly OptionName[],
  tokens: readonly string[],
): { flags: Map<OptionName, string>; args: string[] } {
  const cli = cac("shimctl");
  const declared = cli.command(`${command} [...args]`, commands[command].help);
  for (const option of used) declared.option(`--${plain(option)} <value>`, specs[option].help);
  declared.action(() => undefined);
  const { args, options } = cli.parse(["", "shimctl", command, ...tokens], { run: false });
  const flags = new Map<OptionName, string>();
  for (const option of used) {
    const value: unknown =
      options[plain(option).replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())];
    if (typeof value === "string") flags.set(option, value.slice(guard.length));
  }
  return { flags, args: args.map((arg) => arg.slice(guard.length)) };
}

/** What a command would not look at is refused: whoever wrote it meant something by it. */
function refuseStray(
  command: CommandName,
  args: readonly string[],
  hasRest: boolean,
  flags: ReadonlyMap<OptionName, string>,
): void {
  if (hasRest && command !== "lock") {
    throw new ShimctlError("usage", `Cannot read '--', which '${command}' does not take`, {
      hint: "write options before or after the names, without '--'; nothing here needs it",
    });
  }
  const [first] = args;
  if (first !== undefined && command === "apply") {
    throw new ShimctlError("usage", "Cannot apply handlers by name", {
      hint: "write them into a handler file: apply -f FILE",
    });
  }
  const { takes }: CommandSpec = commands[command];
  if (first !== undefined && takes === undefined) {
    throw new ShimctlError("usage", `Cannot read '${shown(first)}', as '${command}' takes no such argument`, {
      hint:
        command === "lock"
          ? "write the command to run after '--': shimctl lock -- COMMAND..."
          : `\`shimctl ${command} --help\` says what it takes`,
    });
  }
  if (args.includes("-")) {
    throw new ShimctlError("usage", "Cannot read '-', as it is no name", {
      hint: "to read a handler file from a pipe, pass -f /dev/stdin",
    });
  }
  if (command !== "diff" || (first !== undefined && !isCommand(first))) return;
  const read: readonly OptionName[] = first === undefined ? [...change, ...always] : commands[first].options;
  const unread = [...flags.keys()].find((name) => !read.includes(name));
  if (unread === undefined) return;
  const inner = first === undefined ? "'diff' alone" : `'diff ${first}'`;
  throw new ShimctlError("usage", `Cannot use --${unread}, as ${inner} does not take it`, {
    hint: "write diff install, diff uninstall or diff apply, then what that command takes",
  });
}

function variable(name: string): string {
  return `SHIMCTL_${name.toUpperCase().replaceAll("-", "_")}`;
}

function finish(
  flags: ReadonlyMap<OptionName, string>,
  env: Readonly<Record<string, string | undefined>>,
  known: readonly OptionName[],
): Options {
  const given = new Map<string, string>();
  const values = new Map<OptionName, string>();
  for (const name of known) {
    const flag = flags.get(name);
    // An empty variable counts as unset: that is how a manifest leaves one out.
    const said = flag ?? (env[variable(name)] || undefined);
    if (said === undefined) continue;
    given.set(name, flag === undefined ? variable(name) : `--${name}`);
    values.set(name, said);
  }
  const get = (name: OptionName): string | undefined => {
    const spec: OptionSpec = specs[name];
    return values.get(name) ?? spec.default;
  };
  const text = (name: OptionName): string => get(name) ?? "";
  /** How the value came here, as whoever has to mend it knows it. */
  const called = (name: OptionName): string => given.get(name) ?? `--${name}`;
  const flag = (name: OptionName): boolean => {
    const value = get(name);
    if (value === undefined || value === "false" || value === "0") return false;
    if (value === "true" || value === "1") return true;
    throw new ShimctlError(
      "usage",
      `Cannot read ${called(name)}, which must be true or false: ${shown(value)}`,
    );
  };
  const oneOf = <T extends string>(name: OptionName, allowed: readonly T[]): T => {
    const value = text(name);
    const found = allowed.find((each) => each === value);
    if (found !== undefined) return found;
    const all = `${allowed.slice(0, -1).join(", ")} or ${allowed.at(-1) ?? ""}`;
    throw new ShimctlError("usage", `Cannot read ${called(name)}, which must be ${all}: ${shown(value)}`);
  };
  for (const name of ["config", "prefix"] as const) {
    const value = get(name);
    const why = value === undefined ? undefined : pathProblem(value);
    if (why !== undefined)
      throw new ShimctlError("usage", `Cannot use ${called(name)}, which ${why}: ${shown(value ?? "")}`);
  }
  // As seen from here, such a path may be relative.
  for (const name of ["root", "file", "prove-with"] as const) {
    const value = get(name) ?? "";
    if (/\p{Cc}/u.test(value))
      throw new ShimctlError(
        "usage",
        `Cannot use ${called(name)}, which must hold no control characters: ${shown(value)}`,
      );
  }
  const unit = get("unit");
  if (unit !== undefined && !/^[A-Za-z0-9:_@][A-Za-z0-9:_.@\\-]{0,254}$/.test(unit))
    throw new ShimctlError("usage", `Cannot use ${called("unit")}, which is no unit's name: ${shown(unit)}`);
  const words = (name: OptionName): string[] =>
    text(name)
      .split(" ")
      .filter((word) => word !== "");
  const restartMode = (): "none" | RestartMode => {
    const said = oneOf("restart", specs.restart.takes);
    const command = given.get("restart-command");
    // Who says that the engine is to be left alone is obeyed, unless by a variable and a flag says otherwise.
    const isNone = flag("no-restart") || said === "none";
    const noneByFlag =
      (flag("no-restart") && given.get("no-restart") === "--no-restart") ||
      (said === "none" && given.get("restart") === "--restart");
    if (isNone && (noneByFlag || command !== "--restart-command")) return "none";
    if (command === undefined) return said;
    if (words("restart-command").length > 0) return "command";
    throw new ShimctlError("usage", `Cannot read ${called("restart-command")}, as it names no program`);
  };
  const adopting = (): Options["adopt"] => {
    const value = get("adopt");
    if (value === undefined || value === "false" || value === "0") return undefined;
    if (value === "true" || value === "1") return "identical";
    return oneOf("adopt", specs.adopt.takes);
  };
  const isHold = known === commands.hold.options;
  const timeout = known.includes("timeout") ? "timeout" : "lock-timeout";
  return {
    root: text("root"),
    inPod: env["KUBERNETES_SERVICE_HOST"] !== undefined,
    engine: oneOf("engine", specs.engine.takes),
    layout: get("layout"),
    engineVersion: get("engine-version"),
    config: plainPath(get("config")),
    owner: text("owner"),
    epoch: get("epoch"),
    instance: get("instance"),
    prefix: get("prefix")?.replace(/(?<=.)\/+$/, ""),
    snapshotter: get("snapshotter"),
    file: get("file"),
    kind: isHold ? undefined : get("for"),
    all: flag("all"),
    allowMissing: flag("allow-missing"),
    updatePresets: flag("update-presets"),
    adopt: adopting(),
    dryRun: flag("dry-run"),
    proveWith: get("prove-with"),
    json: flag("json"),
    lockTimeoutMs: duration(called(timeout), text(timeout)),
    retries: count(called("retries"), text("retries")),
    restart: restartMode(),
    restartCommand: words("restart-command"),
    unit,
    verifyTimeoutMs: duration(called("verify-timeout"), text("verify-timeout")),
    undoOnTimeout: flag("undo-on-timeout"),
    allowKill: flag("allow-kill"),
    restartServer: flag("restart-server"),
    onlyOurs: flag("only-ours"),
    budget: budget(called("restart-budget"), text("restart-budget")),
    automatic: flag("automatic"),
    retry: flag("retry"),
    force: flag("force"),
    probe: flag("probe"),
    format: oneOf("format", specs.format.takes),
    onDrift: oneOf("on-drift", specs["on-drift"].takes),
    settleMs: duration(called("settle"), text("settle")),
    intervalMs: duration(called("interval"), text("interval")),
    staggerMs: duration(called("stagger"), text("stagger")),
    listen: get("listen"),
    once: flag("once"),
    nodeName: get("node-name"),
    image: get("image"),
    nodeLabel: get("node-label"),
    removeTaint: get("remove-taint"),
    yes: flag("yes"),
    from: get("from"),
    waitUnusedMs: duration(called("wait-unused"), text("wait-unused")),
    since: get("since"),
    to: get("to"),
    forMs: isHold && get("for") !== undefined ? duration(called("for"), text("for")) : undefined,
    reason: get("reason"),
    logLevel: oneOf("log-level", specs["log-level"].takes),
    given,
  };
}

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `15m`, `1h30m`; a bare number is seconds. Milliseconds. @param name how errors call it */
export function duration(name: string, text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const [, alone, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (alone !== undefined && unit !== undefined) return Number(alone) * (units[unit] ?? 1000);
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) {
    throw new ShimctlError(
      "usage",
      `Cannot read ${name}, which must be a time such as 90s or 15m: ${shown(text)}`,
    );
  }
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (units[unit ?? "s"] ?? 1000), 0);
}

/** One spelling for each path: by the root file's, the record knows it again. */
function plainPath(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  return `/${path
    .split("/")
    .filter((name) => name !== "" && name !== ".")
    .join("/")}`;
}

/** Why a path of the node cannot be taken as it is written, in words that follow "which"; `undefined`: it can. */
export function pathProblem(path: string): string | undefined {
  if (!path.startsWith("/")) return "must be an absolute path";
  if (/\p{Cc}/u.test(path)) return "must hold no control characters";
  if (path.split("/").includes("..")) return "must hold no '..'";
  // PATH_MAX of Linux, its final zero included.
  return Buffer.byteLength(path) >= 4096 ? "is longer than a path can be" : undefined;
}

function budget(name: string, value: string): Budget {
  const [, hour, day] = /^(\d{1,4}),(\d{1,4})$/.exec(value) ?? [];
  if (hour === undefined || day === undefined) {
    throw new ShimctlError(
      "usage",
      `Cannot read ${name}, which must be two numbers such as 3,6: ${shown(value)}`,
    );
  }
  return { hour: Number(hour), day: Number(day) };
}

function count(name: string, text: string): number {
  if (!/^\d{1,6}$/.test(text))
    throw new ShimctlError("usage", `Cannot read ${name}, which must be a whole number: ${shown(text)}`);
  return Number(text);
}

/**
 * Variables that look like ours and are not: a typing error there is silent otherwise. What Kubernetes injects
 * for a Service named shimctl is no mistake.
 */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set<string>([
    ...Object.keys(specs).map(variable),
    "SHIMCTL_LOCK_FD",
    "SHIMCTL_LOCK_LEVEL",
    "SHIMCTL_NODE_NAME",
    "SHIMCTL_WATCH_PARENT",
    "SHIMCTL_WATCH_TALLY",
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

/** An option, as a command takes it. */
export interface Option extends OptionSpec {
  readonly name: OptionName;
}

/** The options of a command, with what they mean for it: what help, completion and the manual are made from. */
export function optionsOf(command: CommandName): readonly Option[] {
  const spec: CommandSpec = commands[command];
  return spec.options.map((name) => {
    const own: OptionSpec = specs[name];
    const meant = spec.means?.[name];
    return { name, ...(meant === undefined ? own : { kind: own.kind, ...meant }) };
  });
}

/** More that help has to say of a command. */
export function moreOf(command: CommandName): readonly string[] {
  const { more = [] }: CommandSpec = commands[command];
  return more;
}

/** What a command's arguments are. */
export function takesOf(command: CommandName): CommandSpec["takes"] {
  const spec: CommandSpec = commands[command];
  return spec.takes;
}

/** How an option's value is written after its name: ` DIR`, `[=replace]`, or nothing. */
export function valueText({ kind, value }: Option): string {
  if (value === undefined) return "";
  return kind === "choice" ? `[=${value}]` : ` ${value}`;
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
      exitHelp(),
      "",
    ].join("\n");
  }
  const spec = commands[command];
  const rows = optionsOf(command).map((option) => {
    const { name, short, help, default: fallback } = option;
    return [
      `${short === undefined ? "    " : `-${short}, `}--${name}${valueText(option)}`,
      `${help}${fallback === undefined ? "" : ` (${fallback})`}`,
    ] as const;
  });
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return [
    `shimctl ${spec.usage}`,
    "",
    `  ${spec.help}`,
    ...moreOf(command).map((line) => `  ${line}`),
    "",
    "Options:",
    ...rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`),
    "",
    exitHelp(),
    "",
  ].join("\n");
}

/** Exit codes and what they mean, as scripts rely on them. */
export const exitCodes: readonly (readonly [code: number, meaning: string])[] = [
  [0, "done, unchanged or superseded"],
  [1, "internal error"],
  [2, "usage"],
  [3, "invalid or unsupported configuration, nothing written"],
  [4, "lock time-out, try again"],
  [5, "conflict, other owner, or in use"],
  [6, "unsupported node, nothing written"],
  [7, "engine failed, change undone"],
  [8, "undo failed, manual steps printed"],
  [9, "cannot verify"],
  [10, "status: drifted"],
  [11, "status, check, repair: broken"],
  [12, "held: failed before, or on hold"],
];

/** The exit codes in two columns. */
function exitHelp(): string {
  const left = exitCodes.slice(0, 7).flatMap(([code, meaning]) => {
    const [first = "", ...more] = meaning.match(/.{1,33}(?= |$)/g) ?? [];
    return [`  ${code}  ${first}`, ...more.map((line) => `    ${line}`)];
  });
  const right = exitCodes.slice(7).map(([code, meaning]) => `${String(code).padEnd(3)}${meaning}`);
  const rows = left.map((line, row) => `${line.padEnd(41)}${right[row] ?? ""}`.trimEnd());
  return `Exit codes:\n${rows.join("\n")}`;
}
