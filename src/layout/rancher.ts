import { normalize } from "node:path/posix";
import { ShimctlError } from "../error.ts";
import type { HostFiles, Read } from "../host/host.ts";
import { engineSettings } from "./command_line.ts";
import { type Daemon, type Layout, type Places, runs, unitFiles } from "./layout.ts";

/** What k3s and RKE2 do the same way: RKE2 is built of k3s' code (k3s-io/k3s, pkg/agent/containerd/config.go). */
export interface Program {
  /** Also the name of its binary. */
  readonly name: "k3s" | "rke2";
  /** For people. */
  readonly title: string;
  /** The units that its installer makes, by role. */
  readonly units: Readonly<Record<Role, string>>;
  readonly binaries: readonly string[];
}

export type Role = "server" | "agent";

/**
 * The layout of one role. Both have the same files; the role decides which unit is restarted, so where nothing tells
 * the roles apart, both are evident and `detect` refuses to guess.
 */
export function rancher(program: Program, role: Role): Layout {
  const { name, title, units } = program;
  return {
    name: `${name}-${role}`,
    family: name,
    title: `${title} ${role}`,
    engine: "containerd",
    evidence: (host, daemons) => evidenceOf(program, role, host, daemons),
    bringsKubelet: true,
    unit: units[role],
    ...(role === "server" ? { isServer: true } : {}),
    isDaemon: (daemon) => roleOf(program, daemon) === role,
    refuses(host, daemon) {
      const another = anotherEngine(program, host, daemon);
      if (another === undefined) return undefined;
      return {
        path: daemon?.files?.at(-1) ?? `/etc/rancher/${name}/config.yaml`,
        why: `pods run by another engine: ${another}`,
        hint: another === "docker" ? `start ${title} without its option docker` : "leave --layout out",
      };
    },
    places: (host, daemon) => placesOf(program, host, daemon),
    // Its shims are in its own control group; its units say `process`.
    killModes: ["process", "none"],
    survives: `restarts, reboots and upgrades of ${title}, which writes config.toml anew at each start; not its uninstall script`,
    // Its containerd is part of its own binary, which says nothing of containerd's release.
    module: /(?!)/,
    oldest: { major: 1, minor: 6 },
  };
}

/** A daemon tells the role by itself. Where only files speak, see `roleByFiles`. */
function evidenceOf(
  program: Program,
  role: Role,
  host: HostFiles,
  daemons: readonly Daemon[],
): readonly string[] {
  const own = daemons.filter((daemon) => roleOf(program, daemon) !== undefined);
  const active = own.filter((daemon) => daemon.active === true);
  const meant = active.length > 0 ? active : own;
  const roles = new Set(meant.map((daemon) => roleOf(program, daemon)));
  // RKE2's archive brings the units of both roles; which of two idle ones is meant, the files may tell.
  if (roles.size === 1)
    return roles.has(role) && !usesOther(program, host, meant[0]) ? meant.map(({ source }) => source) : [];
  const folder = `/etc/rancher/${program.name}`;
  const data = saidDataDir(program, host, undefined) ?? usualDataDir(program);
  const trees = [`${data}/agent/etc/containerd`, folder, ...program.binaries];
  const found = trees.filter((path) => host.exists(path));
  // Every node is asked this: where nothing was installed, no unit need be looked for.
  if (found.length === 0 || usesOther(program, host, undefined)) return [];
  const units = { server: unitOf(host, program.units.server), agent: unitOf(host, program.units.agent) };
  const known = roleByFiles(program, host, data, units);
  return known === undefined || known === role ? [...found, ...units[role]] : [];
}

/** `undefined` where the files fit both, or contradict each other. */
function roleByFiles(
  program: Program,
  host: HostFiles,
  data: string,
  units: Readonly<Record<Role, readonly string[]>>,
): Role | undefined {
  const hasServerData = host.exists(`${data}/server`);
  const [isServer, isAgent] = [units.server.length > 0, units.agent.length > 0];
  if (isServer !== isAgent) {
    // An agent that was a server once, or the other way round.
    if (isAgent && hasServerData) return undefined;
    return isServer ? "server" : "agent";
  }
  if (hasServerData) return "server";
  // RKE2's archive brings both units; the one that starts with the machine is meant.
  const isWanted = (unit: string) =>
    host.exists(`/etc/systemd/system/multi-user.target.wants/${unit}`) ? 1 : 0;
  const wanted = isWanted(program.units.server) - isWanted(program.units.agent);
  return wanted === 0 ? undefined : wanted > 0 ? "server" : "agent";
}

function unitOf(host: HostFiles, unit: string): string[] {
  return unitFiles(unit).filter((path) => host.exists(path));
}

/** The role that a process is started for; `undefined` for one that is not this program's daemon. */
function roleOf({ name }: Program, daemon: Daemon): Role | undefined {
  // It starts itself again by these names (k3s-io/k3s, cmd/k3s/main.go).
  if (runs(daemon, `${name}-server`)) return "server";
  if (runs(daemon, `${name}-agent`)) return "agent";
  // Then it hides its arguments, which may hold secrets, behind one title (pkg/cli/server/server.go).
  const [title = "", ...rest] = daemon.argv;
  const [, program, role] = /(?:^|\/)([^/ ]+) (server|agent)$/.exec(title) ?? [];
  if (program === name && rest.every((word) => word === "")) return role === "server" ? "server" : "agent";
  if (!runs(daemon, name)) return undefined;
  const word = daemon.argv.slice(1).find((each) => each === "server" || each === "agent");
  return word === "server" || word === "agent" ? word : undefined;
}

function placesOf(program: Program, host: HostFiles, daemon: Daemon | undefined): Places {
  const said = saidDataDir(program, host, daemon);
  const folder = `${said ?? usualDataDir(program)}/agent/etc/containerd`;
  const unseen = said === undefined ? unseenPath(program, host, daemon) : undefined;
  return {
    rootFile: `${folder}/config.toml`,
    ...(unseen === undefined ? {} : { unseen }),
    source: {
      kind: "rendered",
      by: program.title,
      dropIns: [`${folder}/config-v3.toml.d`, `${folder}/config.toml.d`],
      templates: [
        { path: `${folder}/config-v3.toml.tmpl`, schema: 3 },
        { path: `${folder}/config.toml.tmpl`, schema: 2 },
      ],
      base: '{{ template "base" . }}',
      makes: foundByItself,
    },
    // RKE2 too: the path is fixed in k3s' code.
    socket: "/run/k3s/containerd/containerd.sock",
    binaries: [],
  };
}

/** Handlers that it renders as soon as it finds their binary (k3s-io/k3s, pkg/agent/containerd/runtimes.go). */
const foundByItself = [
  "runc",
  "crun",
  "nvidia",
  "nvidia-cdi",
  "nvidia-experimental",
  "lunatic",
  "slight",
  "spin",
  "wasmedge",
  "wasmer",
  "wasmtime",
  "wws",
];

/**
 * The daemon's own word, else its configuration's, else its variable's, else the default: what the configuration says
 * is put on the command line (k3s-io/k3s, pkg/configfilearg/parser.go). A word that may be any option decides first:
 * it stands as it is, and `detect` refuses it.
 * @returns `undefined` for the default
 */
function saidDataDir(program: Program, host: HostFiles, daemon: Daemon | undefined): string | undefined {
  const path =
    option(daemon, "data-dir", "d") ??
    unseenIn(daemon) ??
    startedOn(daemon) ??
    fromConfig(program, host, daemon, "data-dir") ??
    daemon?.environment[`${program.name.toUpperCase()}_DATA_DIR`] ??
    "";
  if (path === "") return undefined;
  // As it cleans the path (Go's filepath.Abs): what it renders names the folder of drop-ins in that spelling.
  return normalize(`/${path}`).replace(/\/+$/, "");
}

function usualDataDir({ name }: Program): string {
  return `/var/lib/rancher/${name}`;
}

/** What may name another folder than the default, and is not seen: no pod need mount a folder that holds keys. */
function unseenPath({ name }: Program, host: HostFiles, daemon: Daemon | undefined): string | undefined {
  const folder = `/etc/rancher/${name}`;
  return host.unmounted?.(`${folder}/config.yaml`) === undefined ? daemon?.unseen?.[0] : folder;
}

/** A process that hides its arguments, and that no unit explains, has told its containerd where its file is. */
function startedOn(daemon: Daemon | undefined): string | undefined {
  const argv = daemon?.startedOne ?? [];
  const { config } = engineSettings("containerd", { argv, environment: {} }) ?? {};
  return /^(\/.*)\/agent\/etc\/containerd\/config\.toml$/.exec(config ?? "")?.[1];
}

/** A word that may be any option. The value of an option is only that one's. */
function unseenIn(daemon: Daemon | undefined): string | undefined {
  const isAnothers = (word = "") => /^--?(?!data-dir$|d$|config$|c$)[a-z]/.test(word);
  return daemon?.argv.find((word, at, all) => /^\$\{[^}]*\}$/.test(word) && !isAnothers(all[at - 1]));
}

/** The last value of an option: `--name value`, `--name=value`, or with one dash. Go's flag package takes both. */
function option(daemon: Daemon | undefined, ...names: readonly string[]): string | undefined {
  const { argv } = daemon ?? { argv: [] };
  return argv
    .flatMap((word, at) => {
      const [, name, value] = /^--?([a-z][a-z-]*)(?:=(.*))?$/s.exec(word) ?? [];
      return name === undefined || !names.includes(name) ? [] : [value ?? argv[at + 1] ?? ""];
    })
    .at(-1);
}

/**
 * An option in the configuration file and in those in the folder beside it, in their order: the last one counts. Its
 * variable counts more than its flag (k3s-io/k3s, pkg/configfilearg/parser.go).
 */
function fromConfig(
  { name }: Program,
  host: HostFiles,
  daemon: Daemon | undefined,
  key: string,
): string | undefined {
  const said = daemon?.environment[`${name.toUpperCase()}_CONFIG_FILE`] || option(daemon, "config", "c");
  const folder = `/etc/rancher/${name}`;
  const file = said ?? `${folder}/config.yaml`;
  if (said === undefined && !host.exists(folder)) {
    // It holds the cluster's keys: no pod need mount it where the tree that it has mounted is the one in use.
    if (host.unmounted?.(folder) === undefined) refuseUnreadable(host.read(folder));
    return undefined;
  }
  const more = (host.list(`${file}.d`) ?? []).filter((each) => /\.ya?ml$/.test(each));
  return [file, ...more.map((each) => `${file}.d/${each}`)]
    .flatMap((path) => {
      const read = host.read(path);
      refuseUnreadable(read);
      if (read.kind !== "file") return [];
      const value = topLevelValue(new TextDecoder().decode(read.bytes), key);
      return value === undefined ? [] : [value === null ? `\${${key} in ${path}}` : value];
    })
    .at(-1);
}

/** What cannot be read may say anything of where files are: nobody can tell. */
function refuseUnreadable(read: Read): void {
  if (read.kind !== "unreadable") return;
  throw new ShimctlError("unsupported-node", `Cannot read this file, as ${read.reason}`, {
    path: read.path,
    ...(read.reason === "permission is denied" ? { hint: "run as root" } : {}),
  });
}

/** An engine that it was told of is found by itself. Docker's is none that knows handlers: that is refused. */
function usesOther(program: Program, host: HostFiles, daemon: Daemon | undefined): boolean {
  const another = anotherEngine(program, host, daemon);
  return another !== undefined && another !== "docker";
}

/** With either option, it starts no containerd of its own (k3s-io/k3s, pkg/cli/cmds/agent.go). */
function anotherEngine(program: Program, host: HostFiles, daemon: Daemon | undefined): string | undefined {
  const has = (flag: string) => {
    const given = daemon?.argv.findLast((word) => new RegExp(`^--?${flag}(=|$)`).test(word));
    return given === undefined ? fromConfig(program, host, daemon, flag) : (given.split("=")[1] ?? "true");
  };
  if (/^(1|t|true)$/i.test(has("docker") ?? "")) return "docker";
  return (
    option(daemon, "container-runtime-endpoint") ||
    fromConfig(program, host, daemon, "container-runtime-endpoint")
  );
}

/**
 * A key's last plain or quoted value on a line of its own, unindented; or that of JSON, which is YAML too. No YAML
 * reader: escapes in quotes stay as they are. With `+` at its end, a key's value comes after those of earlier files.
 * @returns `null` where the key is there in another form, such as a value on several lines or a flow mapping
 */
function topLevelValue(yaml: string, key: string): string | null | undefined {
  const json = jsonOf(yaml);
  if (json !== undefined) return json[key] === undefined ? undefined : String(json[key] ?? "");
  const entry = new RegExp(`^(["']?)${key}\\+?\\1[ \\t]*:(?:[ \\t]+(.*))?$`);
  const lines = yaml.split(/\r?\n/).filter((line) => !/^[ \t]*(?:#|$)/.test(line));
  const values = lines.flatMap((line, at) => {
    const match = entry.exec(line);
    if (match === null) return [];
    const value = match[2] ?? "";
    const quoted = /^"([^"]*)"|^'([^']*)'/.exec(value);
    const plain =
      quoted === null ? value.replace(/(?:^|[ \t]+)#.*$/, "").trim() : (quoted[1] ?? quoted[2] ?? "");
    const goesOn = quoted === null && /^[ \t]/.test(lines[at + 1] ?? "");
    return [goesOn || /^[|>&*!{[]/.test(plain) ? null : plain];
  });
  const isMentioned = new RegExp(`(?:^[ \\t]+|[{,][ \\t]*)(["']?)${key}\\1[ \\t]*:`, "m");
  if (values.length > 0) return values.at(-1);
  return isMentioned.test(lines.join("\n")) ? null : undefined;
}

function jsonOf(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
