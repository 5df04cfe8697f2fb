import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { parse, type TomlTable } from "smol-toml";
import type { CrioEngine } from "../../build/crio.ts";
import {
  at,
  isTable,
  type Jailed,
  jailPath,
  type Output,
  type Programs,
  runInJail,
  startInJail,
} from "./harness.ts";

/** The real CRI-O as a judge, in the jails of harness.ts. */

export interface CrioDaemon {
  /** The process id on this machine; the namespaces live exactly as long as it does. */
  readonly pid: number;
  /** The CRI socket as this machine reaches it, through /proc. */
  readonly socket: string;
  /** The handlers that it serves, sorted: its own `status config`, without those it ignores. */
  handlers(): Promise<string[]>;
  /** The whole configuration it runs with, as `crio status config` has it. */
  config(): TomlTable;
  /** The handlers that it found and does not serve, in the order of its warnings. */
  ignored(): string[];
  /** Everything the daemon has said so far; still there after `stop`. */
  log(): string;
  /** Kills it with all that it started, and waits until they are gone. Harmless when repeated. */
  stop(): Promise<void>;
}

/**
 * What `crio config` says on a node whose root is `root`; the sandbox is mounted read-only. It reads the
 * configuration as the daemon would, but looks at no handler: a program that is absent is rc 0.
 */
export function crioConfig(engine: CrioEngine, root: string): Output {
  // Without -c and -d, which would name the same paths: an absent crio.conf is refused where -c names it, and
  // the packaged unit does not.
  const command = `/usr/bin/env -i PATH=${jailPath} HOME=/root /engine/bin/crio config`;
  // It asks the kernel for its last capability.
  return runInJail(programsOf(engine), root, command, { proc: true });
}

/**
 * The meaning of what `crio config` says: two configurations are the same to one engine when these are equal.
 * It holds what differs from the defaults, and every handler. What `crio config` does not print is not in it;
 * the daemon's own `config()` is complete.
 */
export function normalise(configOutput: string): TomlTable {
  const table = parse(configOutput, { integersAsBigInt: true });
  const crio = isTable(table["crio"]) ? table["crio"] : {};
  const runtime = isTable(crio["runtime"]) ? crio["runtime"] : {};
  return { ...table, crio: { ...crio, runtime: { ...runtime, runtimes: handlersOf(configOutput) } } };
}

/**
 * The handlers in what `crio config` says. Where they are all built-in it has them as comments, like every
 * other default. It writes names without quotes: a name with a dot comes out as a table in a table.
 */
export function handlersOf(configOutput: string): Record<string, TomlTable> {
  const printed = runtimesIn(parse(configOutput, { integersAsBigInt: true }));
  if (Object.keys(printed).length > 0) return printed;
  // The example in the documentation above them does not begin its paragraph.
  const defaults = configOutput
    .split(/\n{2,}/)
    .filter((paragraph) => paragraph.startsWith("# [crio.runtime.runtimes."))
    .map((paragraph) => paragraph.replaceAll(/^# ?/gm, ""));
  return runtimesIn(parse(defaults.join("\n"), { integersAsBigInt: true }));
}

function runtimesIn(table: TomlTable): Record<string, TomlTable> {
  const runtimes = at(table, "crio", "runtime", "runtimes");
  const handlers: Record<string, TomlTable> = {};
  if (!isTable(runtimes)) return handlers;
  for (const [name, handler] of Object.entries(runtimes)) if (isTable(handler)) handlers[name] = handler;
  return handlers;
}

/**
 * A real CRI-O on the node whose root is `root`, started as its unit would, with what this needs to differ:
 * layers are copied (vfs, as overlays do not stack at will), nothing is restored or mapped on this machine's
 * kernel. What it writes, anywhere, is in memory and vanishes with it; no pod is ever run.
 * Throws with the daemon's last words when it gives up, or does not answer within 20 s.
 */
export async function startCrio(engine: CrioEngine, root: string): Promise<CrioDaemon> {
  const address = whereItListens(engine, root);
  const flags = [
    "--storage-driver=vfs",
    "--disable-hostport-mapping",
    "--irqbalance-config-restore-file=disable",
  ];
  const jailed = await startInJail(programsOf(engine), root, {
    name: "crio",
    version: engine.version,
    inside: [`exec env -i PATH=${jailPath} HOME=/root /engine/bin/crio ${flags.join(" ")}`],
    isUp: (it) => existsSync(it.reach(address)) && status(it, address).rc === 0,
  });
  const config = (): TomlTable => {
    const { rc, stdout, stderr } = status(jailed, address);
    if (rc !== 0) throw new Error(`crio status config ended with ${rc}: ${stderr.trim()}`);
    return parse(stdout, { integersAsBigInt: true });
  };
  return {
    pid: jailed.pid,
    socket: jailed.reach(address),
    handlers: async () => Object.keys(runtimesIn(config())).sort(),
    config,
    ignored: () => [...jailed.log().matchAll(ignoring)].map((match) => match[1] ?? ""),
    log: jailed.log,
    stop: jailed.stop,
  };
}

const ignoring = /Runtime handler \\"(.*?)\\" is being ignored due to/g;

/** Without this node's configuration, which may have become unreadable since the daemon read it. */
function status(jailed: Jailed, address: string): Output {
  return jailed.run(
    "/engine/bin/crio",
    "--config=",
    "--config-dir=",
    "status",
    `--socket=${address}`,
    "config",
  );
}

/** By its line: `crio config` writes values without escapes, so that a quote in one is no TOML any more. */
function whereItListens(engine: CrioEngine, root: string): string {
  const { rc, stdout } = crioConfig(engine, root);
  const listen = rc === 0 ? /^listen = "(.*)"$/m.exec(stdout)?.[1] : undefined;
  return listen ?? "/var/run/crio/crio.sock";
}

function programsOf(engine: CrioEngine): Programs {
  return { bin: dirname(engine.crio), libraries: engine.libraries };
}
