import type { EngineVersion } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import type { Found, Layout, Wish } from "./layout.ts";
import { layouts } from "./registry.ts";

/**
 * Finds the engine of a node.
 * Throws `unsupported-node` where there is none, or where there are two and nothing says which is meant.
 * @param goVersion the Go module version that a binary was built from, read without running it
 */
export function detect(
  host: HostFiles,
  wish: Wish,
  goVersion: (path: string) => ModuleVersion | undefined,
): Found {
  const named = layouts.filter((layout) => wish.engine === "auto" || layout.engine === wish.engine);
  const found = named
    .map((layout) => ({ layout, evidence: layout.evidence(host) }))
    .filter(({ evidence }) => evidence.length > 0);
  const [first, second] = found;
  if (first !== undefined && second !== undefined) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot choose between two engines on this node: ${first.evidence[0]} and ${second.evidence[0]}`,
      {
        hint: `pass --engine ${first.layout.engine} or --engine ${second.layout.engine}`,
      },
    );
  }
  const said = saidSo(host, wish);
  const layout = first?.layout ?? (said.length > 0 ? named[0] : undefined);
  if (layout === undefined) {
    const names = named.map((each) => each.engine).join(" or ");
    throw new ShimctlError(
      "unsupported-node",
      `Cannot find a container engine below ${host.root}: no configuration, binary, unit or socket of ${names}`,
      {
        hint: "pass --root when the node is mounted elsewhere, --config when its configuration is, or --engine and --engine-version when the engine is not installed yet",
      },
    );
  }
  return {
    layout,
    evidence: [...(first?.evidence ?? []), ...said],
    site: {
      layout: layout.name,
      rootFile: wish.config ?? layout.rootFile,
      version: versionOf(layout, host, wish, goVersion),
    },
  };
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
  host: HostFiles,
  wish: Wish,
  goVersion: (path: string) => ModuleVersion | undefined,
): EngineVersion | undefined {
  if (wish.version !== undefined) return supported(layout, parseVersion(wish.version, wish.versionOption));
  const known = layout.binaries
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
