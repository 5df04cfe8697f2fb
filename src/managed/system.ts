import type { EngineName, EngineVersion, RenderTarget } from "../engine/backend.ts";

/**
 * A system on which an edit of the engine's configuration does not last, and whose own kind of document makes it
 * last. Adding one means one file here and one line in `registry.ts`.
 */
export interface ManagedSystem {
  /** What `--for` calls it. */
  readonly name: string;
  /** What people call it. */
  readonly title: string;
  readonly engine: EngineName;
  /** Handlers that its nodes define by themselves: a second definition would change the default one. */
  readonly defines: readonly string[];
  /**
   * How its document is made, for nodes whose engine has this version; `undefined` where nobody said.
   * Throws `unsupported-node` where no document of this system can define a handler
   */
  rendering(version: EngineVersion | undefined): Rendering;
}

export interface Rendering {
  /** The releases that read the document, for people. */
  readonly engines: string;
  /** What its nodes have, for the engine's text. */
  readonly target: RenderTarget & { readonly schema: number };
  /** What an operator has to know. */
  readonly notes: Notes;
  /** The document around the engine's text; comments go above it. */
  wrap(toml: string): string;
}

/** Paragraphs; a line that starts with two spaces stands as it is. */
export interface Notes {
  readonly wiped: string;
  readonly apply: readonly string[];
  readonly takeBack: readonly string[];
  /** Where the operator has to look, as this program cannot. */
  readonly check: readonly string[];
}
