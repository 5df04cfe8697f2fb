import { dirname } from "node:path/posix";
import type { Backend, Site } from "../engine/backend.ts";
import { backends } from "../engine/registry.ts";
import { ShimctlError } from "../error.ts";
import type { Daemon } from "../host/daemon.ts";
import { findDaemons } from "../host/daemons.ts";
import { readGoModule } from "../host/go_binary.ts";
import type { Read } from "../host/host.ts";
import { type LiveOptions, openLive } from "../host/live.ts";
import { deniedReason, type Host } from "../host/root.ts";
import { refuseUnmounted } from "../host/unmounted.ts";
import { detect, parseVersion, supported } from "../layout/detect.ts";
import type { Found } from "../layout/layout.ts";
import { layouts } from "../layout/registry.ts";
import { openRoot, openRootWithState } from "./open_root.ts";
import type { Options } from "./options.ts";
import { asShimctlError } from "./output.ts";
import { wantedDaemons } from "./wanted_daemons.ts";

export interface Node {
  readonly host: Host;
  readonly backend: Backend;
  readonly site: Site;
  readonly found: Found;
}

/** The node that the options name, with its engine; a running one tells its version where nothing else does. */
export async function openNode(options: Options): Promise<Node> {
  return withEngine(options, await openRootWithState(options));
}

/** The same for who looks at the engine's files only, and not at what is recorded of the node. */
export async function openEngine(options: Options): Promise<Node> {
  return withEngine(options, await openRoot(options));
}

async function withEngine(options: Options, host: Host): Promise<Node> {
  refuseMistyped(host, options);
  const asked = options.unit === undefined ? undefined : unitOf(options.unit);
  const found = find(host, options, await findDaemons(host, wantedDaemons(asked)));
  const backend = backends.find((candidate) => candidate.name === found.layout.engine);
  if (backend === undefined)
    throw new ShimctlError("unsupported-node", `Cannot configure ${found.layout.engine} in this release`);
  const node = { host, backend, site: found.site, found };
  if (found.site.version !== undefined) return node;
  const live = openLive(host, liveOptions(options, found));
  const answer = await live.status();
  live.close();
  if (answer.kind !== "up") return node;
  const version = supported(found.layout, { ...parseVersion(answer.version), source: "its CRI socket" });
  return { ...node, site: { ...found.site, version } };
}

/** Where the running engine is reached, and how it is restarted. */
export function liveOptions(options: Options, { layout, places, daemon, site }: Found): LiveOptions {
  const { source, restartedBy: by } = site;
  const folder =
    source?.kind === "merged" ? source.folder : source?.kind === "rendered" ? source.dropIns[0] : undefined;
  return {
    socket: places.socket,
    unit: unitOf(options.unit ?? daemon?.unit ?? layout.unit),
    mode: options.restart === "none" ? "auto" : options.restart,
    command: options.restartCommand,
    ...(by === undefined || folder === undefined ? {} : { byItself: { by, folder } }),
  };
}

/** As systemctl(1) takes it: a service where no suffix says otherwise. */
function unitOf(name: string): string {
  return name.includes(".") ? name : `${name}.service`;
}

function find(host: Host, options: Options, daemons: readonly Daemon[]): Found {
  try {
    const found = detect(
      host,
      {
        engine: options.engine,
        layout: options.layout,
        config: options.config,
        configOption: options.given.get("config"),
        unit: options.unit,
        version: options.engineVersion,
        versionOption: options.given.get("engine-version"),
      },
      daemons,
      (path) => readGoModule(host.real(path)),
    );
    // Nothing that this user may see speaks for an engine.
    if (found.layout.evidence(host, daemons).length === 0)
      refuseDenied(layouts.map((layout) => host.read(layout.places(host, undefined).rootFile)));
    return found;
  } catch (error) {
    refuseDenied(layouts.map((layout) => host.read(layout.places(host, undefined).rootFile)));
    throw error;
  }
}

/** A configuration that is not there is made, but not in a folder that somebody may have mistyped. */
function refuseMistyped(host: Host, options: Options): void {
  const { config } = options;
  const option = options.given.get("config");
  if (config === undefined || option === undefined || host.exists(config)) return;
  refuseUnmounted(host, [config]);
  if (host.list(dirname(config)) !== undefined) return;
  throw new ShimctlError("usage", `Cannot use ${option}, as neither this file nor its folder is there`, {
    path: config,
    hint: namedHint(host, config) ?? "check the path, or make the folder first",
  });
}

/** What to write for a file that was named as it is seen from here, below `--root`: errors show no root. */
export function namedHint({ root }: Host, path: string): string | undefined {
  if (root === "/" || !path.startsWith(`${root}/`)) return undefined;
  return `write it as the node names it, without its root: ${path.slice(root.length)}`;
}

/** What this user may not read may be as good as any: nobody can tell. */
export function refuseDenied(reads: Iterable<Read>): void {
  for (const read of reads) {
    if (read.kind !== "unreadable" || read.reason !== deniedReason) continue;
    throw new ShimctlError("unsupported-node", `${bare}, as ${deniedReason}`, {
      path: read.path,
      hint: "run as root",
    });
  }
}

const bare = "Cannot read the engine's configuration file";

/** Whatever was thrown, with the reason where the engine's file could not be read. */
export function explained(thrown: unknown, host: Host): ShimctlError {
  const error = asShimctlError(thrown, host.root);
  const { path } = error.facts;
  if (error.message !== bare || path === undefined) return namingRepair(error);
  // What stood in the way then may be gone by now.
  const { cause } = error.facts;
  const read = isUnreadable(cause) ? cause : host.read(path);
  const reason =
    read.kind === "unreadable"
      ? read.reason
      : read.kind !== "other"
        ? undefined
        : read.what === "directory"
          ? "it is a folder"
          : "it is not a regular file";
  if (reason === undefined) return error;
  const denied = reason === deniedReason;
  const isNoFile = read.kind === "other" || reason === "its symbolic links do not end";
  return new ShimctlError(denied ? "unsupported-node" : error.code, `${bare}, as ${reason}`, {
    ...error.facts,
    ...(denied ? { hint: "run as root" } : isNoFile ? { hint: "put a regular file in its place" } : {}),
    cause: thrown,
  });
}

function isUnreadable(cause: unknown): cause is Extract<Read, { kind: "unreadable" }> {
  return typeof cause === "object" && cause !== null && "kind" in cause && cause.kind === "unreadable";
}

/** Where a file is no TOML, or markers of ours in it are damaged, there is a command that shows what can be done. */
function namingRepair(error: ShimctlError): ShimctlError {
  const { hint, ...facts } = error.facts;
  const isDamage = error.code === "invalid-config" && /^Cannot read the file /.test(error.message);
  const isMarker = error.code === "conflict" && error.message.startsWith("Cannot trust the shimctl blocks");
  if ((!isDamage && !isMarker) || facts.path === undefined) return error;
  const first = hint?.replace(/\.$/, "") ?? "mend the file";
  return new ShimctlError(error.code, error.message, {
    ...facts,
    hint: `${first}, or let \`shimctl repair\` show what it can mend`,
    cause: error,
  });
}
