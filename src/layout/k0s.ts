import type { Source } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { parseToml, type TomlTable } from "../toml/parse.ts";
import { ownContainerd } from "./containerd.ts";
import { type Daemon, type Layout, type Places, runs, unitFiles } from "./layout.ts";

const rootFile = "/etc/k0s/containerd.toml";
const folder = "/etc/k0s/containerd.d";
const into = "/run/k0s/containerd-cri.toml";
const socket = "/run/k0s/containerd.sock";
const dataDir = "/var/lib/k0s";

/** What both roles have: k0s renders the root file at each start, and reads drop-ins from one folder. */
const k0s = {
  ...ownContainerd,
  family: "k0s",
  bringsKubelet: true,
  places: (host: HostFiles, daemon: Daemon | undefined): Places => ({
    rootFile,
    source: sourceOf(host),
    socket,
    binaries: [`${dataDirOf(daemon)}/bin/containerd`],
  }),
  restarts: "itself",
  survives:
    "restarts, reboots and upgrades of k0s; but k0s 1.36 and later do not start on a drop-in of 1.35 and before: uninstall before that upgrade, and install again after it",
} as const satisfies Partial<Layout>;

/** k0s on a node that carries the control plane, and pods where it was told to. */
export const k0sController: Layout = {
  ...k0s,
  name: "k0s-controller",
  title: "k0s controller",
  isServer: true,
  unit: "k0scontroller.service",
  isDaemon: (daemon) => runs(daemon, "k0s") && isController(daemon),
  evidence: (host, daemons) =>
    daemons.some(usesOther)
      ? []
      : [
          ...daemons.filter((daemon) => k0sController.isDaemon(daemon)).map(({ source }) => source),
          ...unitFiles("k0scontroller.service").filter((path) => host.exists(path)),
        ],
};

/** k0s on a node that carries pods only. Files that do not say which role they are of count for it. */
export const k0sWorker: Layout = {
  ...k0s,
  name: "k0s-worker",
  title: "k0s worker",
  unit: "k0sworker.service",
  isDaemon: (daemon) => runs(daemon, "k0s") && daemon.argv.includes("worker"),
  evidence: (host, daemons) => {
    if (daemons.some(usesOther)) return [];
    const said = [
      ...daemons.filter((daemon) => k0sWorker.isDaemon(daemon)).map(({ source }) => source),
      ...unitFiles("k0sworker.service").filter((path) => host.exists(path)),
    ];
    if (said.length === 0 && k0sController.evidence(host, daemons).length > 0) return [];
    return [
      ...said,
      ...[rootFile, folder, `${dataDir}/bin/containerd`, socket].filter((path) => host.exists(path)),
    ];
  },
};

/** Told of another engine, it starts no containerd and reads no drop-ins of its own (k0s: docs/runtime.md). */
function usesOther(daemon: Daemon): boolean {
  return runs(daemon, "k0s") && daemon.argv.some((word) => /^--cri-socket(=|$)/.test(word));
}

function isController({ argv }: Daemon): boolean {
  return argv.includes("controller") || argv.includes("single");
}

function dataDirOf(daemon: Daemon | undefined): string {
  const argv = daemon?.argv ?? [];
  const at = argv.findIndex((argument) => /^--data-dir(=|$)/.test(argument));
  const said = at < 0 ? undefined : (/=(.*)/.exec(argv[at] ?? "")?.[1] ?? argv[at + 1]);
  return said?.startsWith("/") === true ? said.replace(/\/+$/, "") : dataDir;
}

/**
 * How this generation of k0s reads drop-ins, by the bytes that it has written itself: up to 1.35 (containerd 1.7) it
 * merges them into one file and imports that; from 1.36 on (containerd 2.3) it imports the folder.
 */
function sourceOf(host: HostFiles): Source {
  const [by, mark] = ["k0s", "# k0s_managed=true"];
  const read = host.read(rootFile);
  const text = read.kind === "file" ? Buffer.from(read.bytes).toString("latin1") : undefined;
  const root = tableOf(text);
  const imports = Array.isArray(root?.["imports"]) ? root["imports"] : [];
  const merged = imports.find(
    (path) => typeof path === "string" && /^\/.*\/containerd-cri\.toml$/.test(path),
  );
  // A file that is not there, or cannot be read, decides nothing: nothing is written then either.
  const isMerged =
    root === undefined
      ? !/^\s*version\s*=\s*3\b/m.test(text ?? "")
      : merged !== undefined || root["version"] === 2n;
  return isMerged
    ? { kind: "merged", by, mark, folder, into: typeof merged === "string" ? merged : into }
    : { kind: "rendered", by, mark, dropIns: [folder], templates: [], base: "" };
}

/** `undefined` where it is no TOML; whoever reads it for good says so. */
function tableOf(text: string | undefined): TomlTable | undefined {
  try {
    return text === undefined ? undefined : parseToml(text, rootFile);
  } catch (error) {
    if (error instanceof ShimctlError) return undefined;
    throw error;
  }
}
