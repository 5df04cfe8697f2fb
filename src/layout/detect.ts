import type { EngineVersion } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import type { Found, Layout, Wish } from "./layout.ts";
import { layouts } from "./registry.ts";

/** Signs of an engine that this release cannot configure yet, so that it can be named instead of missed. */
const crioSigns = ["/etc/crio", "/usr/bin/crio", "/usr/local/bin/crio"];

/**
 * Finds the engine of a node.
 * Throws `unsupported-node` where there is none, where there are two, or where it is not one of ours.
 * @param goVersion the Go module version that a binary was built from, read without running it
 */
export function detect(
  host: HostFiles,
  wish: Wish,
  goVersion: (path: string) => ModuleVersion | undefined,
): Found {
  if (wish.engine === "crio") throw notYet();
  const found = layouts
    .map((layout) => ({ layout, evidence: evidenceFor(layout, host, wish) }))
    .filter(({ evidence }) => evidence.length > 0);
  const [first, second] = found;
  const crio = crioSigns.filter((path) => host.exists(path));
  if (first === undefined) {
    if (crio.length > 0) throw notYet();
    throw new ShimctlError(
      "unsupported-node",
      `Cannot find a container engine below ${host.root}: no configuration, binary, unit or socket of containerd`,
      {
        hint: "pass --root when the node is mounted elsewhere, --config when its configuration is, or --engine-version when containerd is not installed yet",
      },
    );
  }
  if (second !== undefined) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot choose between two engines on this node: ${first.evidence[0]} and ${second.evidence[0]}`,
      { hint: "pass --config" },
    );
  }
  if (crio.length > 0 && wish.engine === "auto") {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot choose between two engines on this node: ${first.evidence[0]} and ${crio[0]}`,
      { hint: "pass --engine containerd" },
    );
  }
  const { layout, evidence } = first;
  return {
    layout,
    evidence,
    site: {
      layout: layout.name,
      rootFile: wish.config ?? layout.rootFile,
      version: versionOf(layout, host, wish, goVersion),
    },
  };
}

function notYet(): ShimctlError {
  return new ShimctlError(
    "unsupported-node",
    "Cannot configure CRI-O, as this release knows containerd only",
    { hint: "pass --engine containerd when this node has both" },
  );
}

function evidenceFor(layout: Layout, host: HostFiles, wish: Wish): string[] {
  const said = [
    ...(wish.version === undefined ? [] : [`--engine-version ${wish.version}`]),
    ...(wish.config !== undefined && host.exists(wish.config) ? [wish.config] : []),
  ];
  return [...layout.evidence(host), ...said];
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
  if (wish.version !== undefined) return parseVersion(wish.version);
  const known = layout.binaries
    .filter((path) => host.exists(path))
    .flatMap((path) => {
      const version = fromModule(goVersion(path), path);
      return version === undefined ? [] : [version];
    });
  const [first, ...others] = known;
  if (first !== undefined && others.some((other) => other.major !== first.major)) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot tell which containerd runs on this node: ${first.source} is ${first.major}.x, ${others[0]?.source} is ${others[0]?.major}.x`,
      { hint: "pass --engine-version" },
    );
  }
  return first;
}

/** `X`, `X.Y` or `X.Y.Z`, with the suffixes that distributions add. */
export function parseVersion(text: string): EngineVersion {
  const match = /^v?(\d+)(?:\.(\d+)(?:\.(\d+))?)?(?:[-+~.].*)?$/.exec(text);
  const [, major, minor, patch] = match ?? [];
  if (major === undefined || Number(major) < 1) {
    throw new ShimctlError("usage", `Cannot read --engine-version, which must look like 1.7.24: ${text}`);
  }
  const version = {
    major: Number(major),
    ...(minor === undefined ? {} : { minor: Number(minor) }),
    ...(patch === undefined ? {} : { patch: Number(patch) }),
    source: "--engine-version",
  };
  if (version.major === 1 && version.minor !== undefined && version.minor < 6) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot configure containerd ${text}, as releases before 1.6 are not supported`,
      { hint: "upgrade containerd" },
    );
  }
  return version;
}

/** Most builds are made from a checkout, and then only the module's path tells 1.x from 2.x. */
function fromModule(module: ModuleVersion | undefined, path: string): EngineVersion | undefined {
  if (module === undefined) return undefined;
  const match = /^github\.com\/containerd\/containerd(?:\/v(\d+))?\/cmd\/containerd$/.exec(module.path);
  if (match === null) return undefined;
  const exact = /^v\d+\.\d+\.\d+/.test(module.version) ? parseVersion(module.version) : undefined;
  return exact === undefined ? { major: Number(match[1] ?? 1), source: path } : { ...exact, source: path };
}
