import type { Site, Snapshot } from "./backend.ts";

/** Something that is TOML and yet keeps the engine from starting, or from reading what is there; and what mends it. */
export interface Remedy {
  readonly rule: string;
  readonly message: string;
  readonly path: string;
  readonly line?: number;
  /** What is done about it. */
  readonly words: string;
  readonly edit: (text: string) => string;
}

/** What `repair` has to know of an engine besides its rules. */
export interface Mending {
  /** The engine passes over a byte order mark. */
  readonly acceptsMark: boolean;
  /** Why this file is not mended, and what to do instead: the next step, for people. */
  leaves?(site: Site, path: string): string | undefined;
  /** Where a temporary file for this path stands, when beside it is not allowed. */
  tempDir(site: Site, path: string): string | undefined;
  /**
   * Of a configuration whose files are all TOML.
   * @param cut what was cut out of the root file before that, as one line each
   */
  remedies(site: Site, seen: Snapshot, cut: readonly string[]): Remedy[];
}
