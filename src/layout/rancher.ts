import type { HostFiles } from "../host/host.ts";
import { type Daemon, type Layout, type Places, type Refusal, runs, unitFiles } from "./layout.ts";

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
    unit: units[role],
    ...(role === "server" ? { isServer: true } : {}),
    isDaemon: (daemon) => roleOf(program, daemon) === role,
    places: (host, daemon) => placesOf(program, host, daemon),
    refuses: (host, daemon) => refusalOf(program, host, daemon),
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
  if (roles.size === 1) return roles.has(role) ? meant.map(({ source }) => source) : [];
  const folder = `/etc/rancher/${program.name}`;
  const data = dataDir(program, host, undefined);
  const trees = [`${data}/agent/etc/containerd`, folder, ...program.binaries];
  const found = trees.filter((path) => host.exists(path));
  // Every node is asked this: where nothing was installed, no unit need be looked for.
  if (found.length === 0) return [];
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
  const folder = `${dataDir(program, host, daemon)}/agent/etc/containerd`;
  return {
    rootFile: `${folder}/config.toml`,
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

/** It starts no containerd of its own, and renders nothing, where it is told of another engine (pkg/agent/run.go). */
function refusalOf(program: Program, host: HostFiles, daemon: Daemon | undefined): Refusal | undefined {
  const { title } = program;
  const said = (key: string) => setting(program, host, daemon, key);
  const without = (key: string) => ({
    path: placesOf(program, host, daemon).rootFile,
    why: `it runs pods with another engine, and does not read this file: ${key}`,
  });
  const isDocker = /^(?:true|t|1)$/i.test(said("docker") ?? "false");
  if (isDocker || daemon?.argv.includes("--docker") === true)
    return {
      ...without("docker"),
      hint: `start ${title} without docker, whose handlers shimctl does not set`,
    };
  const endpoint = said("container-runtime-endpoint");
  if (endpoint === undefined || endpoint === "") return undefined;
  const hint = /crio/.test(endpoint) ? "pass --engine crio" : "pass --layout vanilla";
  return { ...without(`container-runtime-endpoint ${endpoint}`), hint };
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

/** The daemon's own word, else its configuration's, else the default. */
function dataDir(program: Program, host: HostFiles, daemon: Daemon | undefined): string {
  const { name } = program;
  const said =
    option(daemon, "--data-dir", "-d") ??
    daemon?.environment[`${name.toUpperCase()}_DATA_DIR`] ??
    fromConfig(program, host, daemon, "data-dir");
  const path = said === undefined || said === "" ? `/var/lib/rancher/${name}` : said;
  const absolute = path.startsWith("/") ? path : `/${path}`;
  return absolute.replace(/\/+$/, "");
}

/** What the daemon says, else its configuration. */
function setting(program: Program, host: HostFiles, daemon: Daemon | undefined, key: string) {
  return option(daemon, `--${key}`) ?? fromConfig(program, host, daemon, key);
}

/** The last value of an option, as `--name value`, `--name=value` or the short form of either. */
function option(daemon: Daemon | undefined, ...names: readonly string[]): string | undefined {
  const { argv } = daemon ?? { argv: [] };
  return argv
    .flatMap((word, at) => {
      const next = argv[at + 1];
      if (names.includes(word)) return next === undefined ? [] : [next];
      const name = names.find((each) => word.startsWith(`${each}=`));
      return name === undefined ? [] : [word.slice(name.length + 1)];
    })
    .at(-1);
}

/** A key of the configuration file and of the files in the folder beside it, in their order: the last one counts. */
function fromConfig(
  { name }: Program,
  host: HostFiles,
  daemon: Daemon | undefined,
  key: string,
): string | undefined {
  const said = option(daemon, "--config", "-c") ?? daemon?.environment[`${name.toUpperCase()}_CONFIG_FILE`];
  const folder = `/etc/rancher/${name}`;
  if (said === undefined && !host.exists(folder)) return undefined;
  const file = said ?? `${folder}/config.yaml`;
  const more = (host.list(`${file}.d`) ?? []).filter((each) => /\.ya?ml$/.test(each));
  return [file, ...more.map((each) => `${file}.d/${each}`)]
    .flatMap((path) => {
      const read = host.read(path);
      return read.kind === "file" ? topLevelValue(new TextDecoder().decode(read.bytes), key) : [];
    })
    .at(-1);
}

/**
 * A key's plain or quoted value on a line of its own, unindented. No YAML reader: values on several lines, anchors and
 * flow mappings are not understood, and escapes in quotes stay as they are. A path needs none of these.
 */
function topLevelValue(yaml: string, key: string): string[] {
  const entry = new RegExp(`^(["']?)${key}\\1[ \\t]*:[ \\t]+(.*)$`);
  return yaml.split(/\r?\n/).flatMap((line) => {
    const value = entry.exec(line)?.[2];
    if (value === undefined) return [];
    const quoted = /^"([^"]*)"|^'([^']*)'/.exec(value);
    const plain = quoted === null ? value.replace(/(?:^|[ \t]+)#.*$/, "").trim() : (quoted[1] ?? quoted[2]);
    return plain === undefined || plain === "" ? [] : [plain];
  });
}
