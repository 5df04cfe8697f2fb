import type { EngineName, SharedFolder, Site, Source } from "../engine/backend.ts";
import type { Daemon } from "../host/daemon.ts";
import type { HostFiles } from "../host/host.ts";

export type { Daemon };

/** What the command line says about where the engine is. */
export interface Wish {
  readonly engine: "auto" | EngineName;
  /** A layout's name, or that of its family. */
  readonly layout?: string | undefined;
  readonly config: string | undefined;
  /** How the command line called what gave `config`; absent where it is only a file to look at. */
  readonly configOption?: string | undefined;
  /** The unit that is meant, where several run one kind of engine. */
  readonly unit?: string | undefined;
  readonly version: string | undefined;
  /** How errors call what gave the version. */
  readonly versionOption?: string | undefined;
}

/** Where an engine's files live on one node. */
export interface Places {
  /** What decides version and plugin ids: the file that the engine is started with, or that one is made from. */
  readonly rootFile: string;
  /** What the engine is started with, where that is made of the root file. */
  readonly startedWith?: string;
  /** What could not be seen, and may say that the root file is elsewhere. */
  readonly unseen?: string;
  /** Where edits go, when something else writes the root file anew. */
  readonly source?: Source;
  readonly socket: string;
  /** Where the engine's binary may be, first match wins. */
  readonly binaries: readonly string[];
}

/** One kind of node. Adding one means one file and one line in `registry.ts`. */
export interface Layout {
  readonly name: string;
  /** What `--layout` may call it too: `k3s` is the server and the agent. */
  readonly family?: string;
  /** For people: `k3s server`. */
  readonly title: string;
  readonly engine: EngineName;
  /** The layouts that this one is a special case of: where they are evident too, this one is meant. */
  readonly refines?: string | readonly string[];
  /** What on this node speaks for the layout; empty when nothing does. */
  evidence(host: HostFiles, daemons: readonly Daemon[]): readonly string[];
  /** Kubernetes comes with the engine: while it is stopped, no other engine is the kubelet's for that. */
  readonly bringsKubelet?: true;
  /** Its unit where nobody says otherwise. */
  readonly unit: string;
  /** Whether a daemon is this layout's. */
  isDaemon(daemon: Daemon): boolean;
  /** @param daemon its own, where it is known: it may say that the files are elsewhere */
  places(host: HostFiles, daemon: Daemon | undefined): Places;
  /** KillModes of that unit under which pods outlive their engine (systemd.kill(5)). */
  readonly killModes: readonly string[];
  /** Its unit carries the cluster's control plane, whatever the unit is called: it is restarted only when asked for. */
  readonly isServer?: true;
  /** Absent: the unit is restarted. `itself`: its supervisor sees the change and restarts the engine. */
  readonly restarts?: "itself";
  /** A folder that its own package lets a group write to. */
  readonly sharedWith?: SharedFolder;
  /** What of an edit outlives what, for people. */
  readonly survives: string;
  /** What it does not: `the next boot, at which …`. Absent where nothing takes it away. */
  readonly wipes?: string;
  /** What `render --for` calls the system in whose document handlers last. */
  readonly document?: string;
  /** Why nothing is changed on such a node; absent, or without an answer, where it is an ordinary one. */
  refuses?(host: HostFiles, daemon: Daemon | undefined): Refusal | undefined;
  /** Why this file is not edited, where the system keeps it as it is: an edit would be a fault to it. */
  keeps?(host: HostFiles, path: string): Refusal | undefined;
  /** The Go package of the binary; a group, where it has one, is the engine's major version. */
  readonly module: RegExp;
  /** Releases before this one are refused. */
  readonly oldest: { readonly major: number; readonly minor: number };
}

/** Why an edit would have no effect on a node, or none that lasts. */
export interface Refusal {
  /** The file that the engine, or the system, goes by. */
  readonly path: string;
  /** What follows `Cannot change handlers on TITLE, as`, or `Cannot edit this file, as`. */
  readonly why: string;
  /** The next step where there is no document that holds handlers. */
  readonly hint?: string;
}

export interface Found {
  readonly layout: Layout;
  readonly places: Places;
  /** The daemon that was recognised as this layout's. */
  readonly daemon: Daemon | undefined;
  readonly site: Site;
  readonly evidence: readonly string[];
  /** Set where nothing may be changed. */
  readonly refusal: Refusal | undefined;
}

/** Whether a daemon runs one of these programs, by the name of its file. */
export function runs({ argv }: Daemon, ...programs: readonly string[]): boolean {
  const program = argv[0] ?? "";
  return programs.includes(program.slice(program.lastIndexOf("/") + 1));
}

/** Where a unit's file may stand, in the order of systemd.unit(5). */
export function unitFiles(unit: string): string[] {
  return [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
  ].map((folder) => `${folder}/${unit}`);
}
