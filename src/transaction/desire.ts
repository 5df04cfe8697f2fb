import type { EngineState, EngineView, FileEdit, Snapshot } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Asked, Basis } from "../handler/asked.ts";
import type { Handler } from "../handler/model.ts";
import type { AdoptedHandlers } from "./record.ts";

/** What a command asks for; the owner's set that it leads to is decided under the lock. */
export type Intent =
  | { readonly command: "install"; readonly handlers: readonly Asked[] }
  | { readonly command: "uninstall"; readonly names: readonly string[] | "all" }
  | { readonly command: "apply"; readonly handlers: readonly Asked[] }
  | Rollback;

/** The owner's handlers exactly as an earlier operation left them. */
export interface Rollback {
  readonly command: "rollback";
  readonly handlers: readonly Asked[];
  readonly bases: Readonly<Record<string, Basis>>;
  /** The operations that are taken back, the latest first. */
  readonly reverts: readonly string[];
  /** The planned edits, or what gives the files their very bytes back where that means the same. */
  readonly asItWas: (seen: Snapshot, view: EngineView, planned: readonly FileEdit[]) => readonly FileEdit[];
}

/**
 * The handlers that `owner` shall have afterwards, given what is on the node now and what was recorded. What
 * another program has overwritten since is the owner's still, and comes back with its next change.
 */
export function desired(
  intent: Intent,
  owner: string,
  state: EngineState,
  recorded: {
    readonly handlers: readonly Handler[];
    readonly adopted: AdoptedHandlers;
    /** What the files hold of the owner. */
    readonly found: readonly Handler[];
    /** By handler: which other owner installed it. */
    readonly others: ReadonlyMap<string, { readonly owner: string }>;
  },
  /** In use by pods, or another instance's: `apply` and `uninstall` leave these. */
  kept: ReadonlySet<string> = new Set(),
): Handler[] {
  if (intent.command === "rollback") return intent.handlers.map(({ handler }) => handler);
  const { found } = recorded;
  // What a tool wrote again where we had taken it out is no decision against ours.
  const isAdopted = (name: string, path: string | undefined) =>
    Object.hasOwn(recorded.adopted, name) &&
    recorded.adopted[name]?.some((from) => from.path === path) === true;
  const takenSince = (name: string) =>
    state.handlers.some(
      (handler) =>
        handler.name === name &&
        handler.path !== undefined &&
        handler.owner !== owner &&
        (handler.owner !== undefined || !isAdopted(name, handler.path)),
    );
  const lost = recorded.handlers.filter(
    ({ name }) => !found.some((handler) => handler.name === name) && !takenSince(name),
  );
  const current = [...found, ...lost];
  if (intent.command !== "uninstall") {
    const asked = intent.handlers.map(({ handler }) => handler);
    if (intent.command === "apply") {
      const left = current.filter(
        ({ name }) => kept.has(name) && !asked.some((other) => other.name === name),
      );
      return [...left, ...asked];
    }
    const names = new Set(asked.map((handler) => handler.name));
    return [...current.filter((handler) => !names.has(handler.name)), ...asked];
  }
  const { names } = intent;
  if (names === "all") return current.filter(({ name }) => kept.has(name));
  for (const name of names) {
    if (current.some((handler) => handler.name === name)) continue;
    const other = state.handlers.find((handler) => handler.name === name);
    // Never installed, or removed already: done. Somebody else's: theirs to remove.
    if (other?.path === undefined) continue;
    const whose = other.owner ?? recorded.others.get(name)?.owner;
    throw new ShimctlError(
      "conflict",
      `Cannot uninstall handler '${name}', as ${whose === undefined ? "it was not installed by shimctl" : `it belongs to owner '${whose}'`}`,
      {
        path: other.path,
        hint: whose === undefined ? "remove it where it is defined" : `use --owner ${whose}`,
      },
    );
  }
  return current.filter(({ name }) => kept.has(name) || !names.includes(name));
}
