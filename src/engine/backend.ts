import type { Handler, Need } from "../handler/model.ts";
import type { Read } from "../host/host.ts";
import type { TomlTable } from "../toml/parse.ts";

export type EngineName = "containerd" | "crio";

/** A release of an engine; parts that nobody could tell are absent. */
export interface EngineVersion {
  readonly major: number;
  readonly minor?: number;
  readonly patch?: number;
  /** How it is known, for people: `--engine-version`, a binary's path, the configuration itself. */
  readonly source: string;
}

/** Where one engine lives on this node, as a layout found it. */
export interface Site {
  readonly layout: string;
  readonly rootFile: string;
  /** `undefined` when nobody could tell. */
  readonly version: EngineVersion | undefined;
  /** Where edits go, when something else writes the root file anew. */
  readonly source?: Source;
  /** Who restarts the engine by itself when it sees a change, for people: `k0s`. */
  readonly restartedBy?: string;
  /** A folder that its own package lets a group write to. */
  readonly sharedWith?: SharedFolder;
}

/** A folder in which a group may write by the design of whoever made it. */
export interface SharedFolder {
  readonly path: string;
  /** The group's names, in /etc/group of the node. */
  readonly groups: readonly string[];
}

/** What a file that is written anew at each start is made from. No edit of ours goes to the file itself. */
export type Source =
  /** Whole files beside it, which it imports (k3s 1.34 and later, k0s 1.36 and later); else a template, if any. */
  | {
      readonly kind: "rendered";
      /** Who writes it, for people: `k3s`. */
      readonly by: string;
      /** Its first line while it is so; without it, the file is the administrator's. */
      readonly mark?: string;
      /** Drop-in folders that outlive a start: the one that the root file imports is used. */
      readonly dropIns: readonly string[];
      /** The files that it is rendered from, by the version that they render; the newest first. */
      readonly templates: readonly { readonly path: string; readonly schema: number }[];
      /** The text of a template that does no more than what happens without one. */
      readonly base: string;
      /** Handlers that it renders by itself once it finds their binary: a template must not define them too. */
      readonly makes?: readonly string[];
    }
  /** Files that are merged into one that the root imports (k0s up to 1.35). */
  | {
      readonly kind: "merged";
      readonly by: string;
      readonly mark?: string;
      /** Whose files are merged in the order of their names. */
      readonly folder: string;
      /** What they are merged into. */
      readonly into: string;
    }
  /** The root file is itself the template, and takes blocks (MicroK8s). */
  | {
      readonly kind: "template";
      readonly by: string;
      /** What its variables may become. */
      readonly values?: Readonly<Record<string, readonly string[]>>;
    };

/** The part of the machine that a decision is based on: files and folders by host path, as they were read. */
export interface Snapshot {
  readonly files: ReadonlyMap<string, Read>;
  readonly folders: ReadonlyMap<string, readonly string[] | undefined>;
}

/** What a backend has to see before it can go on. */
export interface Wanted {
  readonly files: readonly string[];
  readonly folders: readonly string[];
}

export interface Problem {
  readonly severity: "error" | "warning";
  /** A short stable name of the rule, for scripts. */
  readonly rule: string;
  readonly message: string;
  readonly path?: string;
  readonly line?: number;
  readonly handler?: string;
  readonly hint?: string;
}

/** One handler as the engine would serve it, with the file that wins for it. */
export interface ServedHandler {
  readonly name: string;
  /** `undefined` for one that is built into the engine. */
  readonly path: string | undefined;
  /** The owner whose block defines it; `undefined` for the administrator's and other tools'. */
  readonly owner: string | undefined;
  readonly runtimeType: string;
}

/** A handler as others define it, in one file; several files may define one. */
export interface ForeignDefinition {
  readonly name: string;
  readonly path: string;
  readonly line?: number;
  readonly runtimeType: string;
  /** The programs that it names. */
  readonly programs: readonly string[];
}

/** What one owner has on this node. */
export interface Holding {
  readonly owner: string;
  readonly path: string;
  readonly line: number;
  readonly handlers: readonly string[];
  /** False when somebody edited inside the block since we wrote it. */
  readonly intact: boolean;
  /** False when the engine does not read the file that the block stands in. */
  readonly loaded: boolean;
}

export interface EngineState {
  readonly engine: EngineName;
  readonly schema: number;
  /** Every file that the engine loads, in its order. */
  readonly loaded: readonly string[];
  readonly handlers: readonly ServedHandler[];
  readonly defaultHandler: string;
  /** What a template names as that from its next start on, where it is known by now. */
  readonly nextDefault?: string;
  /** The configuration's key that names it. */
  readonly defaultKey: string;
  readonly holdings: readonly Holding[];
  /** Every definition that is not in a block of ours, nor in a file that is rendered anew. */
  readonly foreign: readonly ForeignDefinition[];
  /** Files and patterns that a list in the configuration names, resolved. */
  readonly imports: readonly { readonly path: string; readonly from: string }[];
}

/** Which definitions of others a plan may take out, so that ours stand instead. */
export interface Adopting {
  /** `undefined`: none but those that were taken out before; `leave`: none, and what stands beside ours may. */
  readonly mode: "identical" | "replace" | "leave" | undefined;
  /** By handler, the files that it was taken out of before: what stands there again goes again. */
  readonly before: ReadonlyMap<string, readonly string[]>;
  /** What `unmarked` found: these go without being asked for, and what is desired of them gets its markers back. */
  readonly unmarked: Unmarked;
}

/** By handler, the files in which what we wrote stands without our markers. */
export type Unmarked = ReadonlyMap<string, readonly string[]>;

/** A definition that an edit takes out of a file. */
export interface Adopted {
  readonly handler: string;
  readonly path: string;
  readonly line?: number;
  /** The owner in whose block it stands; `undefined` for the administrator's and other tools'. */
  readonly owner: string | undefined;
  /** It is what we wrote ourselves, without its markers: nothing of anybody else's. */
  readonly isOurs?: true;
  /** Where ours means something else to the engine: both, one key a line, secrets redacted. */
  readonly difference?: Difference;
}

export interface Difference {
  readonly theirs: string;
  readonly ours: string;
}

/** A pure edit of one file; `transaction/commit.ts` carries it out. */
export interface FileEdit {
  readonly path: string;
  readonly before: Uint8Array | null;
  /** `null`: the file goes. */
  readonly after: Uint8Array | null;
  /** The same edit on other bytes of the same file; throws where it cannot be made. */
  readonly edit: (base: Uint8Array | null) => Uint8Array | null;
  /** The bytes without anything of ours that this edit is about. */
  readonly bare: (bytes: Uint8Array | null) => Uint8Array | null;
  /** A folder on the same file system in which the temporary file may stand, when beside is not allowed. */
  readonly tempDir?: string;
  /** For a new file: its permission bits. */
  readonly mode?: number;
  /** For a new file: whose security label it takes. */
  readonly labelFrom?: string;
  /** The definitions of others that it takes out. */
  readonly adopts?: readonly Adopted[];
}

/** What the live engine must report after a restart. */
export interface Expectation {
  readonly present: readonly string[];
  readonly absent: readonly string[];
}

/** What the rules may ask of the machine. */
export interface HostFacts {
  readonly exists: (path: string) => boolean;
  readonly isExecutable: (path: string) => boolean;
}

/** One engine's configuration, understood. Everything here is a function of the snapshot. */
export interface EngineView {
  readonly state: EngineState;
  /**
   * The smallest set of edits that makes `owner` have exactly `desired`, in an order that is safe at every
   * prefix. Empty when the meaning is already right, whatever the bytes.
   * Throws ShimctlError `conflict` for a handler that somebody else defines and `adopting` does not take over
   */
  plan(owner: string, desired: readonly Handler[], adopting?: Adopting): FileEdit[];
  /** The engine's own rules on the merged configuration, and the binaries and files that handlers name. */
  check(facts: HostFacts): Problem[];
  /**
   * Which of these handlers, all that an owner is known to have installed, stand in no block of ours with the same
   * meaning: another program wrote a file anew without its comments, our markers among them, or copied it. All of
   * them or none. Where files merge, what stands beside a block of ours is somebody else's.
   */
  unmarked(installed: readonly Handler[]): Unmarked;
  /** What must be on the host for these handlers to run a pod. */
  needs(handlers: readonly Handler[]): Need[];
  /** What `owner` has now, resolved; kept verbatim when other handlers are added to it. */
  handlersOf(owner: string): Handler[];
  expect(owner: string, desired: readonly Handler[]): Expectation;
  /** The loaded files as copies that stand side by side in `folder`, for the engine's own parser. */
  stage(folder: string): Staged;
}

export interface Staged {
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[];
  /** What to call the engine's binary with. */
  readonly args: readonly string[];
}

/** What is known of the node that a text is rendered for, where there is none to read. */
export interface RenderTarget {
  /** The version of the configuration that the text becomes part of. */
  readonly schema?: number;
  /** The table of its default handler: handlers of the same kind take over what it sets. */
  readonly base?: TomlTable;
}

/** An engine. Adding one means one new folder and one line in `registry.ts`. */
export interface Backend {
  readonly name: EngineName;
  /** Paths and folders to read next; empty when `read` can be called. Called until it asks for nothing more. */
  want(site: Site, seen: Snapshot): Wanted;
  /**
   * Understands what was read, by the engine's own rules.
   * Throws a ShimctlError for a configuration that the engine, or this release, cannot work with
   */
  read(site: Site, seen: Snapshot): EngineView;
  /** The tables that define a handler, wherever they stand in a file. */
  tablesOf(handler: string): readonly (readonly string[])[];
  /** What would be written for a handler, on a node with the newest schema where nothing says otherwise; `undefined` where it has no part for this engine. */
  render(handler: Handler, target?: RenderTarget): string | undefined;
}
