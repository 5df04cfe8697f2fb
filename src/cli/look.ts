import { dirname } from "node:path/posix";
import { ExitCode, ShimctlError } from "../error.ts";
import { sleep } from "../host/sleep.ts";
import { isSame } from "../same.ts";
import { contend, contendedError, contendedOf, isNewer, isTooOften } from "../transaction/contention.ts";
import type { Drift } from "../transaction/drift.ts";
import type { Environment } from "../transaction/environment.ts";
import type { Change, Outcome } from "../transaction/outcome.ts";
import { rebuildRecord } from "../transaction/rebuild.ts";
import { entryOf, handlersIn, rootOf } from "../transaction/record.ts";
import type { Request } from "../transaction/request.ts";
import { preview, run } from "../transaction/run.ts";
import { stateFolder } from "../transaction/state.ts";
import type { Looked, Needs } from "../watch/looked.ts";
import { parentVariable, parseTally, tallyVariable } from "../watch/tally.ts";
import { environment, handlerFile, ownerOf, requestOf, underLock } from "./change.ts";
import type { Io } from "./io.ts";
import { refuseManaged } from "./lasting.ts";
import type { Log } from "./log.ts";
import { explained, type Node, openNode } from "./node.ts";
import { labelsDrift, refuseNodeAsk } from "./node_object.ts";
import type { Parsed } from "./options.ts";
import { asShimctlError, changeDocument, errorText, exitOf, placed, problemText } from "./output.ts";
import { type Report, reportOf, type Unreadable } from "./report.ts";

/** `watch --once`: one look, and what has to be done then. Nobody is taken to be watching. */
export async function watchOnce(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const automatic: Parsed = { ...parsed, options: { ...parsed.options, automatic: true } };
  // Whoever holds the node goes on with what was now at the first look.
  if (parsed.options.epoch === "now" && io.env[parentVariable] === undefined) {
    throw new ShimctlError("usage", "Cannot use --epoch now with --once, as each look would be a newer one", {
      hint: "pass the time at which this was decided: --epoch 2026-09-01T12:00:00Z",
    });
  }
  const stop = new AbortController();
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const over = new AbortController();
  void endWithParent(io.env[parentVariable], stop, over.signal);
  try {
    return await look({ ...io, out: io.out, err: io.err, now: io.now, signal }, log, automatic);
  } finally {
    over.abort();
  }
}

/** Without whoever started this look, nobody would end it. */
async function endWithParent(
  parent: string | undefined,
  stop: AbortController,
  over: AbortSignal,
): Promise<void> {
  if (parent === undefined) return;
  const { ownParent } = await import("../host/self.ts");
  while (!over.aborted) {
    if (ownParent() !== Number(parent)) return stop.abort("SIGTERM");
    await sleep(parentPollMs, over);
  }
}

const parentPollMs = 300;

/** What a look knows by now; each part is there once it was found out. */
interface Found {
  readonly owner: string;
  readonly node?: Node;
  readonly report?: Report;
  /** The same, where nothing else could be read. */
  readonly told?: Report | Unreadable;
  readonly outcome?: Outcome;
  readonly needs?: Needs;
  readonly key?: string;
  readonly repaired?: boolean;
  /** Which incarnation this look is, or was where it acted. */
  readonly epoch?: string | undefined;
  /** All that is asked for is installed, and these go once no pod uses them. */
  readonly leaving?: readonly string[];
}

/** What stands in a handler file is all that the owner has; names are added to that. Throws `usage` */
function commandOf({ args, options }: Parsed): "install" | "apply" {
  if (options.file === undefined) return "install";
  if (args.length === 0) return "apply";
  throw new ShimctlError("usage", "Cannot watch handlers by name beside a handler file", {
    hint: "write them into the file, which then is all that the owner has",
  });
}

async function look(io: Io, log: Log, parsed: Parsed): Promise<number> {
  let found: Found = { owner: parsed.options.owner };
  let error: ShimctlError | undefined;
  try {
    const file = await handlerFile(parsed, io.signal);
    const owner = ownerOf(parsed, file);
    found = { owner };
    await refuseNodeAsk(io, parsed);
    const node = await openNode(parsed.options);
    found = { owner, node };
    await refuseManaged(node, parsed);
    const request = requestOf(parsed, commandOf(parsed), node, owner, file, io.now());
    const report = await reportOf(io, parsed, node);
    found = { owner, node, told: report };
    if ("unreadable" in report) throw report.unreadable;
    found = { owner, node, report };
    const needed = await neededOn(io, log, parsed, report, request);
    found = { ...found, ...needed };
    const { needs } = needed;
    const isDrift = needs === "repair";
    const acts =
      needs !== "nothing" && !parsed.options.dryRun && !(isDrift && parsed.options.onDrift === "report");
    if (!acts) found = { ...found, epoch: needed.outcome.recorded?.epoch };
    else {
      const outcome = await underLock(io, log, parsed, node, owner, (env) =>
        isDrift ? repair(io, parsed, env, node, request) : run(env, request),
      );
      const after = await reportOf(io, parsed, node);
      if ("unreadable" in after) throw after.unreadable;
      found = {
        owner,
        node,
        report: after,
        told: after,
        outcome,
        epoch: outcome.recorded?.epoch,
        ...(outcome.pendingRemoval.length === 0
          ? { needs: "nothing", key: "" }
          : { needs: "install", key: found.key ?? "", leaving: outcome.pendingRemoval }),
        repaired: isDrift,
      };
      // The handlers are served: what is left is tried again.
      error = outcome.node?.failure;
    }
  } catch (thrown) {
    error = found.node === undefined ? asShimctlError(thrown) : explained(thrown, found.node.host);
    if (io.env[tallyVariable] !== undefined) found = await toldAnew(io, parsed, found);
  }
  return tell(io, log, parsed, found, error);
}

/** For whoever watches the node: how it stands after a failure, which may have been noted on it, or came before it was looked at. */
async function toldAnew(io: Io, parsed: Parsed, found: Found): Promise<Found> {
  if (found.told !== undefined && found.needs === undefined) return found;
  try {
    const node = found.node ?? (await openNode(parsed.options));
    return { ...found, node, told: await reportOf(io, parsed, node) };
  } catch {
    // The failure itself is told in any case.
    return found;
  }
}

/** What this look would do. Throws what keeps it from that. */
async function neededOn(
  io: Io,
  log: Log,
  parsed: Parsed,
  report: Report,
  request: Request,
): Promise<Pick<Found, "needs" | "key" | "leaving"> & { readonly outcome: Outcome }> {
  const { node, record, root, open, running } = report;
  const { owner } = request;
  const env = environment(io, log, parsed, node, () => undefined);
  // Nothing is restarted here: the running engine was asked already.
  env.activation?.live.close();
  const outcome = await preview(env, request);
  if (outcome.result === "superseded") return { outcome, needs: "nothing", key: "superseded" };
  if (open.length > 0) return { outcome, needs: "finish", key: open.join("\n") };
  const { rootFile } = node.site;
  const names = (handlers: readonly { readonly name: string }[]) =>
    [...handlers].sort((one, other) => (one.name < other.name ? -1 : 1));
  const had = names(handlersIn(record, rootFile, owner));
  const isNew =
    entryOf(root, owner) === undefined ||
    isNewer(record, rootFile, owner, request.incarnation, io.now()) ||
    !isSame(names(outcome.handlers), had);
  if (isNew) {
    // A new roll-out of what is there already costs no restart, so that nobody waits for his share of `--stagger`.
    const needs = outcome.changes.length === 0 ? "finish" : "install";
    const key = JSON.stringify([request.incarnation, outcome.handlers]);
    const leaving = had.filter(({ name }) => outcome.handlers.every((handler) => handler.name !== name));
    const isThere = outcome.handlers.every((handler) => had.some((each) => isSame(each, handler)));
    return { outcome, needs, key, ...(isThere ? { leaving: leaving.map(({ name }) => name) } : {}) };
  }
  const drift = driftOf(report, owner);
  const isActive = parsed.options.restart !== "none";
  const isUnserved =
    isActive && root.pending === undefined && drift.some(({ cause }) => cause === "not-served");
  if (outcome.changes.length > 0 || isUnserved) {
    const key = drift.map(({ cause, handlers }) => `${cause}: ${handlers.join(", ")}`).join("; ");
    return { outcome, needs: "repair", key: key === "" ? "changed" : key };
  }
  if (isActive && root.pending !== undefined && running.answer.kind === "up")
    return { outcome, needs: "finish", key: `pending since ${root.pending.since}` };
  const missing = await labelsDrift(io, parsed, node, owner);
  return missing.length > 0
    ? { outcome, needs: "finish", key: missing.join("; ") }
    : { outcome, needs: "nothing", key: "" };
}

/** What others have done to the owner's handlers, what a running engine does not serve among it. */
function driftOf({ drift, running, handlers }: Report, owner: string): Drift[] {
  const own = drift.filter((each) => each.owner === owner);
  const notServed = running.notServed.filter((name) =>
    handlers.some((handler) => handler.name === name && handler.owner === owner),
  );
  if (notServed.length === 0) return own;
  const message = `on disk and not served: ${notServed.join(", ")}`;
  return [...own, { owner, cause: "not-served", handlers: notServed, message }];
}

/** Mends drift under the lock, and counts it; what was mended too often already is left to a person. */
async function repair(
  io: Io,
  parsed: Parsed,
  env: Environment,
  node: Node,
  request: Request,
): Promise<Outcome> {
  const report = await reportOf(io, parsed, node);
  if ("unreadable" in report) throw report.unreadable;
  const { owner } = request;
  const drift = driftOf(report, owner);
  const { changes: theirs } = await preview(env, request);
  const isUnserved = drift.some(({ cause }) => cause === "not-served");
  // Another holder of this node was here first, or left this to be finished: that is no second writer.
  if (report.open.length > 0 || (theirs.length === 0 && !isUnserved)) return run(env, request);
  // Without a file to change, only a restart is left.
  const cause = theirs.length === 0 ? "not-served" : (drift[0]?.cause ?? "gone");
  const named = [...new Set(drift.flatMap(({ handlers }) => handlers))].sort();
  const asked = "handlers" in request.intent ? request.intent.handlers : [];
  const mends = {
    cause,
    handlers: named.length > 0 ? named : asked.map(({ handler }) => handler.name),
  };
  try {
    return await run(env, {
      owner,
      decide(_, state) {
        const { rootFile } = env.site;
        // What is written of another writer must not be all that there is.
        state.rebuild(() => rebuildRecord(report.view, rootFile, state.journal(), env.now()));
        const root = rootOf(state.readRecord().record, rootFile);
        if (!isTooOften(root, owner, mends.handlers, env.now())) return { ...request, mends };
        throw contendedError(owner, contendedOf(root, owner) ?? contend(env, state, owner, mends));
      },
    });
  } catch (error) {
    throw await withTheirs(error, theirs);
  }
}

/** An error that says that another writer was met, with what that did last. */
async function withTheirs(error: unknown, ours: readonly Change[]): Promise<unknown> {
  if (!(error instanceof ShimctlError) || error.facts.contended === undefined) return error;
  const { redactedPatch } = await import("./redacted_patch.ts");
  const patches = await Promise.all(
    ours.map(({ path, before, after }) => redactedPatch({ path, before: after, after: before })),
  );
  return new ShimctlError(error.code, error.message, {
    ...error.facts,
    diff: patches.join(""),
    cause: error,
  });
}

async function tell(
  io: Io,
  log: Log,
  parsed: Parsed,
  found: Found,
  error: ShimctlError | undefined,
): Promise<number> {
  const { owner, outcome, report } = found;
  const { json, dryRun } = parsed.options;
  const metrics = await metricsOf(io, parsed, found, error);
  const looked = { ...lookedOf(parsed, found, error), ...(metrics === undefined ? {} : { metrics }) };
  if (json) {
    const { result } = looked;
    const drift = report === undefined ? [] : driftOf(report, owner);
    io.out(changeDocument("watch", owner, dryRun, outcome, error, { result, drift, watch: looked }));
  } else {
    if (error !== undefined && error.facts.contended === undefined) throw error;
    for (const note of outcome?.notes ?? []) log.warn(note);
    for (const warning of outcome?.warnings ?? []) log.warn(problemText(warning));
    if (error !== undefined) io.err(errorText(error));
    else io.out(`${looked.result}: ${looked.reason}\n`);
  }
  if (error !== undefined) return exitOf(error);
  return looked.result === "drifted"
    ? ExitCode.drifted
    : looked.result === "broken"
      ? ExitCode.broken
      : ExitCode.done;
}

/** For whoever holds the node: what was found and done. */
function lookedOf(parsed: Parsed, found: Found, error: ShimctlError | undefined): Looked {
  const { node, report, outcome, epoch, needs = "nothing", key = "", repaired = false } = found;
  const changed = found.outcome !== undefined && needs === "nothing" && outcome?.result === "changed";
  const { ready, reason } = readiness(found, error);
  const isOff = report?.result === "broken";
  const result =
    error !== undefined
      ? resultOf(error)
      : outcome?.result === "superseded"
        ? "superseded"
        : needs !== "nothing"
          ? "drifted"
          : isOff
            ? "broken"
            : repaired
              ? "repaired"
              : (outcome?.result ?? "unchanged");
  return {
    result,
    needs,
    key,
    ready,
    reason,
    folders: node === undefined ? [] : foldersOf(node, report, parsed),
    ...(error === undefined ? {} : { error: errorText(error).trimEnd() }),
    failed: error !== undefined,
    hopeless: error?.code === "usage" && !error.retryable,
    changed: changed || (repaired && error === undefined),
    ...(epoch === undefined ? {} : { epoch }),
  };
}

/** For who serves them. Nothing is told of a node that could not be found. */
async function metricsOf(
  io: Io,
  parsed: Parsed,
  found: Found,
  error: ShimctlError | undefined,
): Promise<string | undefined> {
  const text = io.env[tallyVariable];
  const report = found.told ?? found.report;
  if (text === undefined || report === undefined) return undefined;
  const { checks, failures, superseded, lastSuccess } = parseTally(text);
  const failed = error === undefined ? 0 : 1;
  const isLate = found.outcome?.result === "superseded";
  const [{ factsOf }, { render }, { revision }, { default: packageJson }] = await Promise.all([
    import("./collect.ts"),
    import("../metrics/prometheus.ts"),
    import("../revision.ts"),
    import("../../package.json", { with: { type: "json" } }),
  ]);
  const now = io.now();
  return render(
    factsOf(report, {
      version: packageJson.version,
      revision,
      budget: parsed.options.budget,
      now,
      superseded: Math.max(superseded, isLate ? 1 : 0),
      lastSuccess: lastSuccess === 0 ? undefined : lastSuccess,
      failed: error !== undefined,
      watch: { checks: checks + 1, failures: failures + failed, lastCheck: now.getTime() / 1000 },
    }),
  );
}

function resultOf(error: ShimctlError): string {
  if (error.facts.contended !== undefined) return "contended";
  if (error.code === "held") return "held";
  const isRefusal =
    error.code !== "internal" && error.code !== "interrupted" && error.facts.state === undefined;
  return isRefusal ? "refused" : "failed";
}

/** Whether every handler that is asked for is proved to be served, and why not. */
function readiness(
  { owner, report, outcome, needs = "nothing", key = "", leaving }: Found,
  error: ShimctlError | undefined,
): Pick<Looked, "ready" | "reason"> {
  const not = (reason: string) => ({ ready: false, reason });
  if (error !== undefined) return not(placed(error.message, error.facts));
  if (report === undefined) return not("nothing is known of the node yet");
  const { running, root, open, problems } = report;
  const names = (outcome?.handlers ?? handlersIn(report.record, report.node.site.rootFile, owner)).map(
    ({ name }) => name,
  );
  // A late incarnation has nothing of its own to be ready for; what is there may be served all the same.
  if (outcome?.result === "superseded") return not(outcome.restart.words);
  if (open.length > 0) return not(open[0] ?? "");
  if (needs === "repair") return not(`others have changed what was installed: ${key}`);
  if (needs === "install" && leaving === undefined) return not("what is asked for is not installed yet");
  const [broken] = problems.filter(({ severity }) => severity === "error");
  if (broken !== undefined) return not(placed(broken.message, broken));
  if (running.served === undefined) return not("the engine does not answer on its CRI socket");
  const missing = names.filter((name) => !running.served?.includes(name));
  if (missing.length > 0) return not(`not served: ${missing.join(", ")}`);
  if (root.pending !== undefined) return not("what was written awaits a start of the engine");
  const also = leaving?.length ? `; still there: ${leaving.join(", ")}` : "";
  return { ready: true, reason: `${names.toSorted().join(", ") || "nothing"} served${also}` };
}

/** Where a change would make a look worth its while, as seen from here. */
function foldersOf({ host, site }: Node, report: Report | undefined, parsed: Parsed): string[] {
  const files = [site.rootFile, ...(report?.view.state.loaded ?? []), `${stateFolder}/record.json`];
  const real = (path: string): string[] => {
    try {
      return [host.real(path)];
    } catch {
      return [];
    }
  };
  const folders = [
    // Where a path leads through a link, either end may be another one soon.
    ...files.flatMap((path) => [...real(dirname(path)), ...real(path).map((at) => dirname(at))]),
    ...[...(report?.seen.folders ?? [])].flatMap(([path, names]) => (names === undefined ? [] : real(path))),
    ...(parsed.options.file === undefined ? [] : [dirname(parsed.options.file)]),
  ];
  return [...new Set(folders)];
}
