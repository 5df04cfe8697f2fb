import type { EngineState, EngineView, Problem, ServedHandler, Snapshot } from "../engine/backend.ts";
import { leftBy } from "../engine/left_by.ts";
import type { ShimctlError } from "../error.ts";
import { type LiveEngine, openLive } from "../host/live.ts";
import { deniedReason } from "../host/root.ts";
import { benefitOfDoubt } from "../host/unmounted.ts";
import { type Bare, type Drift, holdingsDrift, unmarkedOn } from "../transaction/drift.ts";
import type { Latest } from "../transaction/epoch.ts";
import { readEngine } from "../transaction/gather.ts";
import { type Holds, holdsOn } from "../transaction/hold.ts";
import { unfinished } from "../transaction/journal.ts";
import { unexplainedTemps } from "../transaction/leftovers.ts";
import { knownRecord } from "../transaction/rebuild.ts";
import { latestByOwner, type NodeRecord, ownersOf, type Root, rootOf } from "../transaction/record.ts";
import { openState } from "../transaction/state.ts";
import { stateProblems } from "../transaction/state_problems.ts";
import type { Io } from "./io.ts";
import { type LiveView, viewLive } from "./live_view.ts";
import { explained, liveOptions, type Node, openNode, refuseDenied } from "./node.ts";
import type { Parsed } from "./options.ts";

/** All that `status` and `watch` tell of a node, before it is put into words. */
export interface Report {
  readonly node: Node;
  /** The files and folders that it was read from. */
  readonly seen: Snapshot;
  readonly view: EngineView;
  /** With the owners of those that another program wrote anew without our markers. */
  readonly handlers: readonly ServedHandler[];
  /** Those, by owner and file. */
  readonly bare: readonly Bare[];
  readonly record: NodeRecord;
  /** The part of the record that is about this configuration. */
  readonly root: Root;
  readonly running: LiveView;
  readonly drift: readonly Drift[];
  /** Operations that were cut short, in words. */
  readonly open: readonly string[];
  readonly problems: readonly Problem[];
  readonly holds: Holds;
  readonly epochs: readonly (readonly [owner: string, latest: Latest])[];
  readonly left: ReturnType<typeof leftBy>;
  readonly result: "in sync" | "drifted" | "broken";
  /** How long the last change waited for the node's lock, in seconds. */
  readonly lockWait: number | undefined;
}

/** The engine would not start on this configuration either, or nobody can tell; or our markers in it were damaged. */
export interface Unreadable extends Pick<Report, "node" | "record" | "root" | "holds" | "lockWait"> {
  readonly unreadable: ShimctlError;
}

/**
 * What is on the node, who owns it, and whether it is as it was left. Writes nothing.
 * Throws ShimctlError where the node cannot be told
 */
export async function reportOn(io: Io, parsed: Parsed): Promise<Report | Unreadable> {
  return reportOf(io, parsed, await openNode(parsed.options));
}

/** The same of a node that is open already. */
export async function reportOf(io: Io, parsed: Parsed, node: Node): Promise<Report | Unreadable> {
  const live = openLive(node.host, liveOptions(parsed.options, node.found));
  const state = openState((path) => node.host.real(path), io.now);
  const record = knownRecord(state, node.site.rootFile, io.now());
  const root = rootOf(record, node.site.rootFile);
  const holds = holdsOn(record, io.now());
  const lockWait = record.lockWaitMs === undefined ? undefined : record.lockWaitMs / 1000;
  const open = unfinished(state.lastOperation()).map(({ begin }) =>
    begin.command === "repair"
      ? "a repair was cut short; the next one ends it"
      : `an ${begin.command} of owner '${begin.owner}' was cut short; the next run undoes or finishes it`,
  );
  let view: EngineView;
  let seen: Snapshot;
  try {
    const engine = readEngine(node.host, node.backend, node.site);
    refuseDenied(engine.seen.files.values());
    ({ view, seen } = engine);
  } catch (thrown) {
    return { unreadable: explained(thrown, node.host), node, record, root, holds, lockWait };
  }
  const problems = [...view.check(benefitOfDoubt(node.host)), ...stateProblems(state, view.state.holdings)];
  const drift: Drift[] = holdingsDrift(ownersOf(record, node.site.rootFile), view);
  const temps = unexplainedTemps(
    node.host,
    [node.site.rootFile, ...view.state.loaded],
    state.lastOperation(),
  );
  for (const path of temps) {
    problems.push({
      severity: "warning",
      rule: "leftover",
      message: "A temporary file that no operation explains was left behind",
      path,
      hint: "compare it with the configuration, then remove it",
    });
  }
  let running: LiveView;
  let probes: Problem[];
  try {
    running = await viewLive(live, view.state);
    probes = parsed.options.probe ? await probe(live, view.state) : [];
  } finally {
    // An open connection would keep the process from ending.
    live.close();
  }
  problems.push(...liveProblems(running, live.unitName), ...probes);
  const epochs = latestByOwner(root, io.now());
  const errors = problems.filter((problem) => problem.severity === "error");
  const differs = drift.length + open.length + running.notServed.length > 0;
  const result: Report["result"] = errors.length > 0 ? "broken" : differs ? "drifted" : "in sync";
  const bare = unmarkedOn(ownersOf(record, node.site.rootFile), view);
  const ownerOf = ({ name, path, owner }: Pick<ServedHandler, "name" | "path" | "owner">) =>
    owner ?? bare.find((each) => each.path === path && each.handlers.includes(name))?.owner;
  const foreign = view.state.foreign.filter((each) => ownerOf({ ...each, owner: undefined }) === undefined);
  const handlers = view.state.handlers.map((handler) => ({ ...handler, owner: ownerOf(handler) }));
  const left = leftBy({ ...view.state, foreign }, (path) => node.host.exists(path));
  return {
    node,
    seen,
    view,
    handlers,
    bare,
    record,
    root,
    running,
    drift,
    open,
    problems,
    holds,
    epochs,
    left,
    result,
    lockWait,
  };
}

/** An engine that has no CRI has lost its node, whatever is on disk. */
function liveProblems({ answer, unit }: LiveView, name: string): Problem[] {
  const hint = `see journalctl -u ${unit?.name ?? name}`;
  const bad = (message: string): Problem[] => [{ severity: "error", rule: "running", message, hint }];
  if (unit?.active === "failed" || unit?.sub === "auto-restart")
    return bad(`${unit.name} does not start: ${unit.result}`);
  if (answer.kind === "without CRI")
    return bad("The engine runs without its CRI: its CRI plugin did not load");
  if (answer.kind === "silent" && answer.why === deniedReason) {
    const message = "Whether the engine serves its handlers cannot be seen, as permission is denied";
    return [{ severity: "warning", rule: "running", message, hint: "run as root" }];
  }
  if (answer.kind === "silent") return bad("The engine does not answer on its CRI socket");
  return answer.kind === "up" && !answer.ready ? bad("The engine says that it is not ready") : [];
}

/** Whether a pod would run, by an empty sandbox on each handler of ours. */
async function probe(live: LiveEngine, { handlers }: EngineState): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const { name, owner } of handlers) {
    if (owner === undefined) continue;
    try {
      await live.probe(name);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      problems.push({
        severity: "error",
        rule: "probe",
        handler: name,
        message: `No sandbox runs on handler '${name}': ${why}`,
      });
    }
  }
  return problems;
}
