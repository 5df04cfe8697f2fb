import type { EngineVersion } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { refuseUnmounted } from "../host/unmounted.ts";
import { isSame, refuseElsewhere, refuseWrapped, settleMade } from "./elsewhere.ts";
import type { Daemon, Found, Layout, Places, Wish } from "./layout.ts";
import { daemonFor, evidenceFor } from "./own_daemon.ts";
import {
  refuseGuess,
  refuseUnseen,
  refuseUnseenSystem,
  sourcePaths,
  withoutGuesses,
} from "./partly_mounted.ts";
import { layouts } from "./registry.ts";

/**
 * Finds the engine of a node.
 * Throws `unsupported-node` where there is none, where there are two and nothing says which is meant, where
 * `wish` names another than the one that is there, where the engine reads another file than ours, and where
 * what has to be seen for that is not mounted.
 * @param daemons what is known of the node's daemons, running ones first
 * @param goVersion the Go module version that a binary was built from, read without running it
 */
export function detect(
  host: HostFiles,
  wish: Wish,
  daemons: readonly Daemon[],
  goVersion: (path: string) => ModuleVersion | undefined,
): Found {
  const named = layouts.filter((layout) => wish.engine === "auto" || layout.engine === wish.engine);
  const evident = withoutRefined(
    named
      .map((layout) => ({ layout, evidence: evidenceFor(layout, host, daemons) }))
      .filter(({ evidence }) => evidence.length > 0),
  );
  const said = saidSo(host, wish);
  const chosen = choose(evident, named, wish, daemons);
  const layout = chosen?.layout ?? (said.length > 0 ? named[0] : undefined);
  if (layout === undefined) {
    const names = [...new Set(named.map((each) => each.engine))].join(" or ");
    throw new ShimctlError(
      "unsupported-node",
      `Cannot find a container engine below ${host.root}: no configuration, binary, unit or socket of ${names}`,
      {
        hint:
          host.unmounted === undefined
            ? "pass --root when the node is mounted elsewhere, --config when its configuration is, or --engine and --engine-version when the engine is not installed yet"
            : `mount the folders of the node's engine below ${host.root}: its configuration, and that of its socket`,
      },
    );
  }
  const daemon = daemonFor(host, layout, daemons, wish);
  const places = layout.places(withoutGuesses(host), daemon);
  if (host.unmounted !== undefined && wish.layout === undefined) {
    refuseGuess(host, layout, chosen?.evidence ?? said, places, daemon, wish);
    const special = named.filter(({ refines }) => [refines].flat().includes(layout.name));
    refuseUnseenSystem(host, layout, special);
  }
  const { rootFile, source } = settleMade(host, layout, daemon, places, wish);
  refuseRendered(host, rootFile, layout, evident);
  if (daemon === undefined) refuseWrapped(layout, daemons, places, wish);
  else refuseElsewhere(host, layout, daemon, places, wish);
  refuseUnmounted(host, [rootFile, ...sourcePaths(source), places.socket]);
  refuseUnseen(host, places, wish);
  return {
    layout,
    places,
    daemon,
    evidence: [...(chosen?.evidence ?? []), ...said],
    refusal: layout.refuses?.(host, daemon),
    site: {
      layout: layout.name,
      rootFile,
      version: versionOf(layout, places, host, wish, goVersion),
      // Named or not, a file that is written anew is not the place for edits.
      ...(source === undefined ? {} : { source }),
      ...(source === undefined || layout.restarts === undefined ? {} : { restartedBy: source.by }),
      ...(layout.sharedWith === undefined ? {} : { sharedWith: layout.sharedWith }),
    },
  };
}

interface Evident {
  readonly layout: Layout;
  readonly evidence: readonly string[];
}

/** Throws where a file is meant that another layout has as written anew, such as one that a link leads to. */
function refuseRendered(
  host: HostFiles,
  rootFile: string,
  layout: Layout,
  evident: readonly Evident[],
): void {
  for (const { layout: other } of evident) {
    if (other === layout || (other.family !== undefined && other.family === layout.family)) continue;
    const { source, rootFile: rendered } = other.places(host, undefined);
    if (source === undefined || !("by" in source) || !isSame(host, rootFile, rendered)) continue;
    throw new ShimctlError(
      "unsupported-node",
      `Cannot edit this file, as it is the one that ${source.by} writes anew at each start: ${rendered}`,
      { path: rootFile, hint: `pass --layout ${other.name}` },
    );
  }
}

/** A special case is meant where both it and the general one are evident. */
function withoutRefined(evident: readonly Evident[]): Evident[] {
  const isRefined = (name: string): boolean =>
    evident.some(({ layout }) => [layout.refines].flat().includes(name));
  return evident.filter(({ layout }) => !isRefined(layout.name));
}

/** The one layout that is meant; `undefined` where none is evident. */
function choose(
  evident: readonly Evident[],
  named: readonly Layout[],
  wish: Wish,
  daemons: readonly Daemon[],
): Evident | undefined {
  const wished = named.filter((layout) => isCalled(layout, wish.layout));
  if (wish.layout !== undefined) {
    if (wished.length === 0) throw unknownLayout(wish.layout, named);
    const found = evident.filter(({ layout }) => wished.includes(layout));
    const [first, ...others] = found;
    if (first !== undefined && others.length === 0) return first;
    const other = evident[0];
    if (first === undefined && other !== undefined) {
      throw new ShimctlError(
        "unsupported-node",
        `Cannot use --layout ${wish.layout}, as this node is ${other.layout.title}: ${other.evidence[0]}`,
        { hint: `pass --layout ${other.layout.name}, or leave it out` },
      );
    }
    const only = wished.length === 1 ? wished[0] : undefined;
    if (first === undefined && only !== undefined)
      return { layout: only, evidence: [`--layout ${wish.layout}`] };
    if (first !== undefined) return settle(found, daemons);
    throw ambiguous(wished.map((layout) => ({ layout, evidence: [`--layout ${wish.layout}`] })));
  }
  return settle(evident, daemons);
}

/**
 * The only one, or the only one whose daemon runs while those of all others do not. An engine that runs beside a
 * Kubernetes that is stopped is docker's, or left over: nothing says that it is meant.
 */
function settle(evident: readonly Evident[], daemons: readonly Daemon[]): Evident | undefined {
  if (evident.length < 2) return evident[0];
  const states = ({ layout }: Evident) =>
    daemons.filter((daemon) => layout.isDaemon(daemon)).map(({ active }) => active);
  const [only, ...others] = evident.filter((each) => states(each).includes(true));
  // One that may run, for all that is known, counts as much.
  const rest = evident.filter((each) => each !== only);
  const mayBeMeant = (each: Evident) =>
    (each.layout.bringsKubelet === true && only?.layout.bringsKubelet !== true) ||
    states(each).includes(undefined);
  if (only !== undefined && others.length === 0 && !rest.some(mayBeMeant)) return only;
  throw ambiguous(evident);
}

function ambiguous(evident: readonly Evident[]): ShimctlError {
  const engines = new Set(evident.map(({ layout }) => layout.engine));
  const [first] = evident;
  const family = first?.layout.family;
  if (family !== undefined && evident.every(({ layout }) => layout.family === family)) {
    return new ShimctlError(
      "unsupported-node",
      `Cannot tell which of ${evident.map(({ layout }) => layout.title).join(" and ")} this node is, and each is restarted by another unit: ${[...new Set(evident.map(({ evidence }) => evidence[0]))].join(" and ")}`,
      { hint: `pass ${evident.map(({ layout }) => `--layout ${layout.name}`).join(" or ")}` },
    );
  }
  const options = evident.map(({ layout }) =>
    engines.size === evident.length ? `--engine ${layout.engine}` : `--layout ${layout.name}`,
  );
  return new ShimctlError(
    "unsupported-node",
    `Cannot choose between ${evident.length === 2 ? "two" : evident.length} engines on this node: ${evident.map(({ evidence }) => evidence[0]).join(" and ")}`,
    { hint: `pass ${options.join(" or ")}` },
  );
}

function isCalled(layout: Layout, name: string | undefined): boolean {
  return name !== undefined && (layout.name === name || layout.family === name);
}

function unknownLayout(name: string, named: readonly Layout[]): ShimctlError {
  return new ShimctlError("usage", `Cannot use --layout, as no such layout is known: ${name.slice(0, 60)}`, {
    hint: `the layouts are ${named.map((layout) => layout.name).join(", ")}`,
  });
}

/** What the command line says counts where the node itself says nothing. */
function saidSo(host: HostFiles, wish: Wish): string[] {
  return [
    ...(wish.version === undefined ? [] : [`${wish.versionOption ?? "--engine-version"} ${wish.version}`]),
    ...(wish.config !== undefined && host.exists(wish.config) ? [`--config ${wish.config}`] : []),
  ];
}

/** What Go stamped into a binary. */
export interface ModuleVersion {
  /** The path of its main package. */
  readonly path: string;
  /** The main module's version, `(devel)` for most builds. */
  readonly version: string;
}

function versionOf(
  layout: Layout,
  places: Places,
  host: HostFiles,
  wish: Wish,
  goVersion: (path: string) => ModuleVersion | undefined,
): EngineVersion | undefined {
  if (wish.version !== undefined) return supported(layout, parseVersion(wish.version, wish.versionOption));
  const known = places.binaries
    .filter((path) => host.exists(path))
    .flatMap((path) => {
      const version = fromModule(layout, goVersion(path), path);
      return version === undefined ? [] : [version];
    });
  const [first, ...others] = known;
  const other = others.find((each) => each.major !== first?.major);
  if (first !== undefined && other !== undefined) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot tell which engine runs on this node: ${first.source} is ${first.major}.x, ${other.source} is ${other.major}.x`,
      { hint: "pass --engine-version" },
    );
  }
  return first === undefined ? undefined : supported(layout, first);
}

/** Throws `unsupported-config` for a release that is too old. */
export function supported(layout: Layout, version: EngineVersion): EngineVersion {
  const { major, minor } = layout.oldest;
  if (
    version.major < major ||
    (version.major === major && version.minor !== undefined && version.minor < minor)
  ) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot configure this release of ${layout.engine}, as those before ${major}.${minor} are not supported: ${version.major}.${version.minor ?? "x"}`,
      {
        hint: `upgrade ${layout.engine}`,
      },
    );
  }
  return version;
}

/** `X`, `X.Y` or `X.Y.Z`, with the suffixes that distributions add. */
export function parseVersion(text: string, option = "--engine-version"): EngineVersion {
  const match = /^v?(\d+)(?:\.(\d+)(?:\.(\d+))?)?(?:[-+~.].*)?$/.exec(text);
  const [, major, minor, patch] = match ?? [];
  if (major === undefined || Number(major) < 1) {
    throw new ShimctlError(
      "usage",
      `Cannot read ${option}, which must look like 1.7.24: ${text.slice(0, 60)}`,
    );
  }
  return {
    major: Number(major),
    ...(minor === undefined ? {} : { minor: Number(minor) }),
    ...(patch === undefined ? {} : { patch: Number(patch) }),
    source: "--engine-version",
  };
}

/** Most builds are made from a checkout, and then only the module's path tells the major version. */
function fromModule(
  layout: Layout,
  module: ModuleVersion | undefined,
  path: string,
): EngineVersion | undefined {
  const match = module === undefined ? null : layout.module.exec(module.path);
  if (module === undefined || match === null) return undefined;
  if (/^v\d+\.\d+\.\d+/.test(module.version)) return { ...parseVersion(module.version), source: path };
  return { major: Number(match[1] ?? 1), source: path };
}
