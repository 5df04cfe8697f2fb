import type { Difference, EngineView } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Asked } from "../handler/asked.ts";
import type { Handler } from "../handler/model.ts";
import { OwnerName } from "../handler/model.ts";
import type { ResolveFacts } from "../handler/resolve.ts";
import { openLive } from "../host/live.ts";
import { acquireLock, type LockHolder } from "../host/lock.ts";
import { complaintOf } from "../host/parser_run.ts";
import { redactLine } from "../toml/redact.ts";
import type { Activation } from "../transaction/activation.ts";
import type { Intent } from "../transaction/desire.ts";
import { handlersInUse } from "../transaction/effect.ts";
import type { Environment } from "../transaction/environment.ts";
import { type Incarnation, instanceRule, isInstance, parseEpoch, refuseAhead } from "../transaction/epoch.ts";
import { releaseCommand } from "../transaction/hold.ts";
import type { Adoption, Outcome } from "../transaction/outcome.ts";
import type { Request } from "../transaction/request.ts";
import { type Deferred, preview, run } from "../transaction/run.ts";
import { openState, stateFolder } from "../transaction/state.ts";
import { parseHandlerFile, type ReadFile, resolveAll } from "./handler_file.ts";
import type { Io } from "./io.ts";
import { lastingNote, refuseKept, refuseManaged } from "./lasting.ts";
import type { Log } from "./log.ts";
import { explained, liveOptions, type Node, openNode } from "./node.ts";
import { clusterOf, refuseNodeAsk } from "./node_object.ts";
import { type Parsed, shown } from "./options.ts";
import { otherOwners } from "./other_owners.ts";
import { asShimctlError, changeDocument, exitOf, problemText, supersededText } from "./output.ts";
import { readInput } from "./read_input.ts";
import { whoRuns } from "./who.ts";

export type ChangeCommand = "install" | "uninstall" | "apply";

/** `install`, `uninstall` and `apply`. */
export function change(io: Io, log: Log, parsed: Parsed, command: ChangeCommand): Promise<number> {
  return carryOut(io, log, parsed, command, (node, owner, file) =>
    requestOf(parsed, command, node, owner, file, io.now()),
  );
}

/** One changing command from its options to its exit code. */
export async function carryOut(
  io: Io,
  log: Log,
  parsed: Parsed,
  command: string,
  requested: (node: Node, owner: string, file: ReadFile | undefined) => Request | Deferred,
): Promise<number> {
  let owner = parsed.options.owner;
  let outcome: Outcome | undefined;
  let node: Node | undefined;
  try {
    const file = await handlerFile(parsed, io.signal);
    owner = ownerOf(parsed, file);
    await refuseNodeAsk(io, parsed);
    node = await openNode(parsed.options);
    await refuseManaged(node, parsed);
    const request = requested(node, owner, file);
    outcome = parsed.options.dryRun
      ? await preview(
          environment(io, log, parsed, node, () => undefined),
          request,
        )
      : await untilUnused(io, log, parsed, node, request);
    const note = lastingNote(node, parsed, outcome);
    const { nodeLabel, removeTaint } = parsed.options;
    if (parsed.options.dryRun && (nodeLabel ?? removeTaint) !== undefined)
      outcome = { ...outcome, notes: [...outcome.notes, "a dry run does not ask the Kubernetes API"] };
    if (note !== undefined) outcome = { ...outcome, notes: [...outcome.notes, note] };
    if (outcome.result === "unchanged" && outcome.handlers.length === 0) {
      const { host, site } = node;
      const { record } = openState((path) => host.real(path), io.now).readRecord();
      const others = otherOwners(parsed, owner, record, site.rootFile);
      if (others !== undefined) outcome = { ...outcome, notes: [...outcome.notes, others] };
    }
  } catch (thrown) {
    const error = await withDiff(node === undefined ? asShimctlError(thrown) : explained(thrown, node.host));
    if (!parsed.options.json) throw error;
    io.out(changeDocument(command, owner, parsed.options.dryRun, undefined, error));
    return exitOf(error);
  }
  if (parsed.options.json) {
    const adopted = await adoptedEntries(outcome.adopted);
    const failure = outcome.node?.failure;
    io.out(changeDocument(command, owner, parsed.options.dryRun, outcome, failure, { adopted }));
    return failure === undefined ? 0 : exitOf(failure);
  }
  for (const note of outcome.notes) log.warn(note);
  for (const warning of outcome.warnings) log.warn(problemText(warning));
  io.out(summary(owner, parsed.options.dryRun, outcome));
  for (const { diff } of await adoptedEntries(outcome.adopted)) if (diff !== null) io.out(diff);
  if (outcome.node?.failure !== undefined) throw outcome.node.failure;
  return 0;
}

/** What was taken over, with what it was where that is not what ours is. */
export async function adoptedEntries(adopted: readonly Adoption[]) {
  return Promise.all(
    adopted.map(async ({ difference, ...entry }) => ({
      ...entry,
      owner: entry.owner ?? null,
      diff: difference === undefined ? null : await diffOf(entry.handler, difference),
    })),
  );
}

/** An error that holds two definitions, with what differs between them for people to read. */
export async function withDiff<Thrown>(error: Thrown): Promise<Thrown | ShimctlError> {
  if (!(error instanceof ShimctlError) || error.facts.difference === undefined) return error;
  const { difference } = error.facts;
  const diff = await diffOf("the handler", difference);
  return new ShimctlError(error.code, error.message, { ...error.facts, diff, cause: error });
}

async function diffOf(name: string, { theirs, ours }: Difference): Promise<string> {
  const { patchOf } = await import("./patch.ts");
  return patchOf(`${name}, as it is defined there`, `${name}, as shimctl defines it`, theirs, ours);
}

/** Waits for pods without the lock, and looks again under it. */
async function untilUnused(
  io: Io,
  log: Log,
  parsed: Parsed,
  node: Node,
  request: Request | Deferred,
): Promise<Outcome> {
  const deadline = Date.now() + parsed.options.waitUnusedMs;
  for (let told = false; ; told = true) {
    try {
      return await underLock(io, log, parsed, node, request.owner, (env) => run(env, request));
    } catch (error) {
      if (handlersInUse(error).length === 0 || Date.now() >= deadline || io.signal.aborted) throw error;
      if (!told && error instanceof Error) log.info(`waiting: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, usePollMs));
    }
  }
}

/** How often to look whether pods still use what shall go. */
const usePollMs = 1_000;

/** Does some work while it holds the node's lock. @param owner whom those who wait are told */
export async function underLock<Result>(
  io: Io,
  log: Log,
  parsed: Parsed,
  node: Node,
  owner: string,
  work: (env: Environment) => Promise<Result>,
): Promise<Result> {
  const lock = await acquireLock(node.host, {
    timeoutMs: parsed.options.lockTimeoutMs,
    owner,
    command: [parsed.command, ...parsed.args].join(" ").slice(0, 120),
    signal: io.signal,
    onWait: (holder: LockHolder) => log.info(`waiting for the node's lock, held by ${holder.text}`),
  });
  const env = {
    ...environment(io, log, parsed, node, (name) => lock.step(name)),
    lockWaitMs: lock.waitedMs,
  };
  try {
    return await work(env);
  } finally {
    env.activation?.live.close();
    lock.release();
  }
}

export function environment(
  io: Io,
  log: Log,
  parsed: Parsed,
  node: Node,
  onStep: (name: string) => void,
): Environment {
  const { host, backend, site } = node;
  const { proveWith } = parsed.options;
  return {
    host,
    backend,
    site,
    now: io.now,
    signal: io.signal,
    refuseKept: (path) => refuseKept(node, path),
    step(name) {
      log.debug(name);
      onStep(name);
    },
    activation: activationOf(io, log, parsed, node),
    cluster: clusterOf(io, parsed),
    caller: { automatic: isAutomatic(io, parsed), who: whoRuns(io) },
    proveWith:
      proveWith === undefined
        ? undefined
        : (candidate) => proveBy(proveWith, candidate, parsed.options.given.get("prove-with")),
  };
}

/** How the change comes into effect: what the options say, and whether anybody is watching. */
function activationOf(io: Io, log: Log, parsed: Parsed, { host, found }: Node): Activation | undefined {
  const { options } = parsed;
  if (options.restart === "none") return undefined;
  const live = openLive(host, liveOptions(options, found));
  return {
    live,
    verifyTimeoutMs: options.verifyTimeoutMs,
    undoOnTimeout: options.undoOnTimeout,
    allowKill: options.allowKill,
    killModes: found.layout.killModes,
    restartServer: options.restartServer,
    isServer: found.layout.isServer === true,
    onlyOurs: options.onlyOurs,
    automatic: isAutomatic(io, parsed),
    retry: options.retry,
    force: options.force,
    budget: options.budget,
    progress: (words) => log.info(words),
  };
}

/** A pod restarts by itself, and would try again and again; somebody at its terminal would not. */
function isAutomatic(io: Io, { options }: Parsed): boolean {
  return options.automatic || (io.env["KUBERNETES_SERVICE_HOST"] !== undefined && !io.errIsTerminal);
}

/** The engine's own parser has the last word where somebody names it. */
function proveBy(binary: string, candidate: EngineView, option: string | undefined): void {
  const complaint = complaintOf(binary, (folder) => candidate.stage(folder), option);
  if (complaint === undefined) return;
  throw new ShimctlError(
    "invalid-config",
    `The engine's own parser refuses the result: ${redactLine(complaint)}`,
    {
      path: binary,
      hint: "please report this together with the configuration, secrets removed",
    },
  );
}

export async function handlerFile(parsed: Parsed, signal: AbortSignal): Promise<ReadFile | undefined> {
  const { file } = parsed.options;
  if (file === undefined) return undefined;
  return parseHandlerFile(await readInput(file, parsed.options.given.get("file") ?? "-f", signal), file);
}

export function ownerOf(parsed: Parsed, file: ReadFile | undefined): string {
  const owner = parsed.options.given.has("owner")
    ? parsed.options.owner
    : (file?.content.owner ?? parsed.options.owner);
  const valid = OwnerName.safeParse(owner);
  if (!valid.success)
    throw new ShimctlError(
      "usage",
      `Cannot use ${parsed.options.given.get("owner") ?? "the owner"}, which ${valid.error.issues[0]?.message ?? "is invalid"}: ${shown(owner)}`,
    );
  return owner;
}

/** What the command line asks for; nothing in it depends on what the node holds yet. */
export function requestOf(
  parsed: Parsed,
  command: ChangeCommand,
  node: Node,
  owner: string,
  file: ReadFile | undefined,
  now: Date,
): Request {
  const { options, args } = parsed;
  const facts: ResolveFacts = {
    prefix: options.prefix,
    snapshotter: options.snapshotter,
    exists: once((path) => node.host.exists(path)),
  };
  const handlers = (): Asked[] => resolveAll(file, args, facts);
  return {
    intent: intentOf(parsed, command, file !== undefined, handlers),
    owner,
    allowMissing: options.given.has("allow-missing")
      ? options.allowMissing
      : (file?.content.allow_missing ?? false),
    retries: options.retries,
    updatePresets: options.updatePresets,
    incarnation: incarnationOf(parsed, now),
    adopt: options.adopt,
  };
}

/** Which incarnation of the owner asks, where it is said. Throws `usage` */
export function incarnationOf({ options }: Parsed, now: Date): Incarnation | undefined {
  const { epoch: text, instance = "", given } = options;
  const called = (name: string) => given.get(name) ?? `--${name}`;
  if (text === undefined) {
    if (instance === "") return undefined;
    throw new ShimctlError("usage", `Cannot use ${called("instance")} without --epoch`, {
      hint: "pass --epoch now, or the epoch of this instance",
    });
  }
  const epoch = text === "now" ? text : parseEpoch(text);
  if (epoch === undefined) {
    throw new ShimctlError(
      "usage",
      `Cannot read ${called("epoch")}, which must be a whole number of up to 18 digits, a time such as 2026-09-01T12:00:00.5Z, or now: ${shown(text)}`,
      // What stands in deploy/ until somebody stamps it.
      text.startsWith("UNSTAMPED")
        ? {
            hint: "write the time of the roll-out into the annotation shimctl/epoch of the pod's template, as `shimctl render --for daemonset` does",
          }
        : {},
    );
  }
  if (instance !== "" && !isInstance(instance)) {
    throw new ShimctlError(
      "usage",
      `Cannot use ${called("instance")}, which ${instanceRule}: ${shown(instance)}`,
    );
  }
  refuseAhead(epoch, now, called("epoch"));
  return { epoch, instance };
}

/** The same handler for two engines, and twenty handlers of one runtime, ask for the same few paths. */
function once(ask: (path: string) => boolean): (path: string) => boolean {
  const known = new Map<string, boolean>();
  return (path) => {
    const answer = known.get(path) ?? ask(path);
    known.set(path, answer);
    return answer;
  };
}

function intentOf(parsed: Parsed, command: ChangeCommand, hasFile: boolean, handlers: () => Asked[]): Intent {
  const { args, options } = parsed;
  if (command === "uninstall") {
    if (options.all === args.length > 0) {
      throw new ShimctlError(
        "usage",
        options.all
          ? "Cannot uninstall handlers by name and --all at once"
          : "Cannot uninstall, as no handler is named",
        { hint: "name the handlers, or pass --all for every handler of this owner" },
      );
    }
    return { command, names: options.all ? "all" : args };
  }
  if (args.length === 0 && !hasFile) {
    throw new ShimctlError("usage", `Cannot ${command}, as no handler is named`, {
      hint:
        command === "apply"
          ? "pass a handler file: apply -f FILE"
          : "name the handlers (`shimctl presets` lists them), or pass -f FILE",
    });
  }
  if (command === "apply" && args.length > 0) {
    throw new ShimctlError("usage", "Cannot apply handlers by name", {
      hint: "write them into a handler file: apply -f FILE",
    });
  }
  return { command, handlers: handlers() };
}

function summary(owner: string, dryRun: boolean, outcome: Outcome): string {
  if (outcome.result === "superseded") return supersededText(outcome);
  const names = (handlers: readonly Handler[]) => handlers.map((handler) => handler.name).sort();
  const now = names(outcome.handlers);
  const before = names(outcome.previous);
  const wanted = dryRun ? [...outcome.expectation.present].sort() : now;
  const later = [
    ...outcome.pendingRemoval.map((name) => `'${name}' is kept while pods use it: a later apply removes it`),
    ...outcome.pendingForeign.map((path) => `not in effect yet: ${path}, which somebody else changed`),
  ];
  if (outcome.node !== undefined && outcome.node.done.length > 0)
    later.push(`node '${outcome.node.name}': ${outcome.node.done.join(", ")}`);
  if (outcome.hold !== undefined) {
    later.push(
      `automatic runs of owner '${owner}' only report from now on: \`${releaseCommand(owner)}\` lets them go on`,
    );
  }
  if (outcome.result === "unchanged") {
    const restarted = outcome.restart.done ? [outcome.restart.words] : [];
    return `${[`unchanged: owner '${owner}' has ${list(now)}`, ...restarted, ...later].join("\n")}\n`;
  }
  const added = wanted.filter((name) => !before.includes(name));
  const removed = before.filter((name) => !wanted.includes(name));
  const done = [
    ...(added.length > 0 ? [`installed ${list(added)}`] : []),
    ...(removed.length > 0 ? [`removed ${list(removed)}`] : []),
  ];
  const lines = [
    `${dryRun ? "would have " : ""}${done.length > 0 ? done.join(", ") : `updated ${list(wanted)}`}`,
    ...outcome.changes.map((file) => `  ${file.action.padEnd(6)} ${file.path}`),
  ];
  for (const { handler, path, line, owner: whose, store } of outcome.adopted) {
    const place = `${path}${line === undefined ? "" : `:${line}`}`;
    const from = whose === undefined ? place : `owner '${whose}' (${place})`;
    lines.push(
      `${dryRun ? "would adopt" : "adopted"} ${handler} from ${from}`,
      ...(dryRun
        ? []
        : [`  that file as it was: ${stateFolder}/store/${store}; uninstall does not bring it back`]),
    );
  }
  if (!dryRun) lines.push(outcome.restart.words);
  return `${[...lines, ...later].join("\n")}\n`;
}

function list(names: readonly string[]): string {
  return names.length === 0 ? "no handlers" : names.join(", ");
}
