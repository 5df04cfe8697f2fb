import type { Source } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { refuseUnmounted } from "../host/unmounted.ts";
import { systemFiles } from "./evidence.ts";
import type { Daemon, Layout, Places, Wish } from "./layout.ts";

/** What a layout reads to tell where files are has to be the node's: nobody can tell from what is not mounted. */
export function withoutGuesses(host: HostFiles): HostFiles {
  if (host.unmounted === undefined) return host;
  return {
    ...host,
    read(path) {
      refuseUnmounted(host, [path]);
      return host.read(path);
    },
  };
}

/**
 * Where only parts of the node are mounted, a configuration may be left of an engine that is no more, and that of the
 * one that runs is not there. What only a running engine leaves has to speak for it: its unit, or its socket.
 */
export function refuseGuess(
  host: HostFiles,
  layout: Layout,
  evidence: readonly string[],
  places: Places,
  daemon: Daemon | undefined,
  wish: Wish,
): void {
  if (daemon?.active === true) return;
  const bus = "/run/dbus";
  if (host.exists(places.socket)) {
    // An engine that runs, and nothing else: where its configuration is, only how it is started may tell.
    if (wish.config !== undefined || daemon !== undefined || evidence.some((each) => each !== places.socket))
      return;
    refuseUnmounted(host, [places.rootFile]);
    throw new ShimctlError(
      "unsupported-node",
      `Cannot tell which file ${layout.engine} reads, as ${places.rootFile} is not there and nothing that is mounted below ${host.root} says how it is started: ${places.socket}`,
      {
        path: places.rootFile,
        hint: `mount the node's ${bus} at ${host.root}${bus}, or pass --layout ${layout.name}`,
      },
    );
  }
  throw new ShimctlError(
    "unsupported-node",
    `Cannot tell whether ${layout.title} runs on this node, as only parts of it are mounted below ${host.root} and none of them shows a running engine: ${evidence[0]}`,
    {
      ...(daemon?.files?.[0] === undefined ? {} : { path: daemon.files[0] }),
      hint:
        host.unmounted?.(bus) === undefined
          ? `start the engine, or pass --layout ${layout.name}`
          : `mount the node's ${bus} at ${host.root}${bus}, or pass --layout ${layout.name}`,
    },
  );
}

/**
 * A system that writes the engine's configuration itself looks like an ordinary node but for the file that names it:
 * on Talos, /etc/containerd is that of an engine which runs no pods.
 * @param special the layouts that a node of this one may be, for all that its engine shows
 */
export function refuseUnseenSystem(host: HostFiles, layout: Layout, special: readonly Layout[]): void {
  const kept = special.find(({ document, refuses }) => document !== undefined && refuses !== undefined);
  if (kept === undefined || systemFiles.some((path) => host.unmounted?.(path) === undefined)) return;
  throw new ShimctlError(
    "unsupported-node",
    `Cannot tell ${layout.title} from ${kept.title} and others that keep their engine's configuration themselves, as what names the node's system is not mounted below ${host.root}`,
    {
      path: "/usr/lib/os-release",
      hint: `mount the node's /usr/lib at ${host.root}/usr/lib, read-only, or pass --layout ${layout.name}`,
    },
  );
}

/** A file that is not there may be so as it is elsewhere, where what would say that cannot be seen. */
export function refuseUnseen(host: HostFiles, { rootFile, source, unseen }: Places, wish: Wish): void {
  if (source === undefined || unseen === undefined || wish.config !== undefined) return;
  if (host.read(rootFile).kind !== "absent") return;
  throw new ShimctlError(
    "unsupported-node",
    `Cannot tell which file ${source.by} writes, as this one is not there, and what may name another cannot be seen: ${unseen}`,
    {
      path: rootFile,
      hint: `pass --config with the file that it writes, or start ${source.by} once where that is this one`,
    },
  );
}

/** Every file and folder that an edit may be about. */
export function sourcePaths(source: Source | undefined): string[] {
  if (source === undefined || source.kind === "template") return [];
  if (source.kind === "merged") return [`${source.folder}/any`, source.into];
  return [...source.dropIns.map((folder) => `${folder}/any`), ...source.templates.map(({ path }) => path)];
}
