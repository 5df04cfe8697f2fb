import type { EngineView } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import { exactly } from "../handler/asked.ts";
import { isSame } from "../same.ts";
import { asItWas, byName } from "./as_it_was.ts";
import type { Environment } from "./environment.ts";
import { type Incarnation, latestOf } from "./epoch.ts";
import { readEngine } from "./gather.ts";
import { isEffective, type Operation, operationsOf, shortIds } from "./operations.ts";
import type { Outcome } from "./outcome.ts";
import { orderIn } from "./record.ts";
import type { Request } from "./request.ts";
import type { Deferred } from "./run.ts";
import type { NodeState } from "./state.ts";

export interface RollbackOptions {
  readonly owner: string;
  /** The beginning of an operation's ID: back to how that one left things. Else the last operation is taken back. */
  readonly to: string | undefined;
  readonly allowMissing: boolean;
  readonly retries: number;
  /** Without one it is a person's, who may always go back. */
  readonly incarnation?: Incarnation | undefined;
}

/**
 * Takes back the owner's last operation that changed a file of this configuration, with what watch put right since,
 * or all after `to`. A rollback is such an operation itself: taken back, it leads forward again.
 *
 * `decide` throws ShimctlError: `usage` for an ID that is none of these; `conflict` with the file where somebody
 * changed since what the last operation left there
 */
export function rollingBack(options: RollbackOptions): Deferred {
  return { owner: options.owner, decide: (env, state) => decide(env, state, options) };
}

function decide(env: Environment, state: NodeState, options: RollbackOptions): Request | Outcome {
  const { owner, to } = options;
  const { backend, site } = env;
  const all = operationsOf(state.journal());
  const own = all.filter(
    (operation) =>
      isEffective(operation) &&
      operation.owner === owner &&
      (operation.rootFile ?? site.rootFile) === site.rootFile &&
      (operation.engine ?? backend.name) === backend.name,
  );
  const engine = readEngine(env.host, backend, site);
  const { view } = engine;
  const target = to === undefined ? undefined : operationBy(to, all, own, owner);
  const last = own.at(-1);
  if (last === undefined)
    return nothing(env, state, view, owner, `the journal has no operation of owner '${owner}' to take back`);
  // What watch put right is no change of what is asked for: taken back alone, others' damage would come back.
  const change = own.findLast(({ mends }) => mends === undefined) ?? last;
  const taken = own.slice(target === undefined ? own.indexOf(change) : own.indexOf(target) + 1);
  if (taken.length === 0)
    return nothing(env, state, view, owner, `that is how owner '${owner}' is now: nothing was done since`);
  const ids = shortIds(all);
  if (!isElsewhere(env, view, owner, last)) refuseChanged(engine, owner, last, ids.get(last.id) ?? last.id);
  const handlers = target === undefined ? change.previous : target.desired;
  const bases = target === undefined ? change.previousBases : target.bases;
  if (isSame(byName(handlers), byName(last.desired))) {
    // Beside the same handlers of ours, what was taken out would be drift again.
    refuseAdopted(taken, ids);
    if (isSame(bases, last.bases)) {
      const which = taken.map(({ id }) => ids.get(id) ?? id).join(", ");
      const why = `${which} changed no handler of owner '${owner}'; --to goes further back, to an ID that \`shimctl log\` shows`;
      return nothing(env, state, view, owner, why);
    }
  }
  const commits = taken.flatMap((operation) => operation.commits);
  return {
    intent: {
      command: "rollback",
      handlers: handlers.map(exactly),
      bases,
      reverts: taken.map(({ id }) => id).toReversed(),
      asItWas: (seen, now, planned) => {
        const edits = asItWas(env, state, { owner, handlers, commits }, seen, now, planned);
        if (edits === planned && planned.length > 0) refuseAdopted(taken, ids);
        return edits;
      },
    },
    owner,
    allowMissing: options.allowMissing,
    retries: options.retries,
    updatePresets: false,
    incarnation: options.incarnation,
    outOfOrder: options.incarnation === undefined && env.caller?.automatic !== true,
  };
}

/** The operation whose ID begins so, among those that can be gone back to. */
function operationBy(
  to: string,
  all: readonly Operation[],
  own: readonly Operation[],
  owner: string,
): Operation {
  const hint = `\`shimctl log --owner ${owner}\` lists them`;
  const found = all.filter(({ id }) => id.startsWith(to.toLowerCase()));
  const [first] = found;
  if (first === undefined || to.length < shortest)
    throw new ShimctlError(
      "usage",
      first === undefined
        ? `Cannot roll back, as no operation has an ID that begins with '${to}'`
        : `Cannot roll back by so short a part of an ID: ${to}`,
      { hint },
    );
  if (found.length > 1)
    throw new ShimctlError("usage", `Cannot roll back, as ${found.length} operations begin with '${to}'`, {
      hint,
    });
  if (own.includes(first)) return first;
  const why =
    first.owner !== owner
      ? `it is one of owner '${first.owner}'`
      : isEffective(first)
        ? "it was about another configuration"
        : `it left nothing: ${first.result}`;
  throw new ShimctlError("usage", `Cannot roll back to operation ${to}, as ${why}`, {
    hint: first.owner !== owner ? `pass --owner ${first.owner}, or choose another: ${hint}` : hint,
  });
}

/** Fewer characters are a typing error rather than a name. */
const shortest = 4;

/** A new release of what renders the configuration has another place for the same handlers: nobody changed them. */
function isElsewhere({ site }: Environment, view: EngineView, owner: string, last: Operation): boolean {
  if (site.source?.kind !== "rendered") return false;
  const isWhole = view.state.holdings.every((holding) => holding.owner !== owner || holding.intact);
  return isWhole && isSame(byName(view.handlersOf(owner)), byName(last.desired));
}

type Engine = ReturnType<typeof readEngine>;

/** What somebody has changed since is theirs: it is neither taken back nor written over. */
function refuseChanged(engine: Engine, owner: string, last: Operation, id: string): void {
  const path = changedSince(engine, owner, last);
  if (path === undefined) return;
  throw new ShimctlError(
    "conflict",
    `Cannot roll back, as somebody changed what operation ${id} of owner '${owner}' left in this file`,
    {
      path,
      hint: `see \`shimctl status\` and \`shimctl diff --owner ${owner}\`; then say what shall be there by install, apply or uninstall`,
    },
  );
}

/**
 * The first file in which what an operation left is not there any more, or could not even be written again. What
 * keeps a file from being read at all is no change of somebody's: that is thrown.
 */
function changedSince({ seen, view }: Engine, owner: string, last: Operation): string | undefined {
  try {
    // That others define it too by now is not what is asked here.
    return view.plan(owner, last.desired, { mode: "leave", before: new Map(), unmarked: new Map() })[0]?.path;
  } catch (error) {
    const path = error instanceof ShimctlError ? error.facts.path : undefined;
    if (path === undefined || seen.files.get(path)?.kind === "unreadable") throw error;
    return path;
  }
}

/** Without the old bytes of their files, or beside ours, others would not get back what was taken over from them. */
function refuseAdopted(taken: readonly Operation[], ids: ReadonlyMap<string, string>): void {
  const operation = taken.findLast(({ adoptedFrom }) => adoptedFrom.length > 0);
  const place = operation?.adoptedFrom[0];
  if (operation === undefined || place === undefined) return;
  const id = ids.get(operation.id) ?? operation.id;
  const { path, owner: from } = place;
  if (from !== undefined)
    throw new ShimctlError(
      "conflict",
      `Cannot roll back, as operation ${id} took handlers over from owner '${from}'`,
      {
        path,
        hint: `install them for that owner: \`shimctl install NAME --adopt --owner ${from}\` takes them back`,
      },
    );
  throw new ShimctlError(
    "conflict",
    `Cannot roll back, as operation ${id} took handlers over from this file, and they cannot be given back to it as they were`,
    {
      path,
      hint: "uninstall them, and put their old definition back by hand: the old file is kept under /var/lib/shimctl/store by its SHA-256, which `shimctl log --json` has",
    },
  );
}

function nothing(env: Environment, state: NodeState, view: EngineView, owner: string, why: string): Outcome {
  const { record } = state.readRecord();
  const handlers = view.handlersOf(owner);
  return {
    result: "unchanged",
    changes: [],
    handlers,
    previous: handlers,
    adopted: [],
    warnings: [],
    notes: [why],
    proof: { rules: "not run", "engine-parser": "not run", served: "not run" },
    expectation: view.expect(owner, handlers),
    restart: { done: false, needed: false, words: "nothing to restart for" },
    recorded: latestOf(orderIn(record, env.site.rootFile, owner, env.now())),
    pendingRemoval: [],
    pendingForeign: [],
  };
}
