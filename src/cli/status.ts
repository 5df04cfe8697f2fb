import type { EngineState, Problem } from "../engine/backend.ts";
import { leftBy } from "../engine/left_by.ts";
import { ExitCode, type ShimctlError } from "../error.ts";
import { type LiveEngine, openLive } from "../host/live.ts";
import { deniedReason } from "../host/root.ts";
import { benefitOfDoubt } from "../host/unmounted.ts";
import type { Found } from "../layout/layout.ts";
import { type Drift, holdingsDrift, unmarkedOn } from "../transaction/drift.ts";
import { readEngine } from "../transaction/gather.ts";
import { holdsOn, holdWords, wholeNode } from "../transaction/hold.ts";
import { unfinished } from "../transaction/journal.ts";
import { unexplainedTemps } from "../transaction/leftovers.ts";
import { adoptedBy, latestByOwner, ownersOf, rootOf } from "../transaction/record.ts";
import { openState } from "../transaction/state.ts";
import { stateProblems } from "../transaction/state_problems.ts";
import { definitionsOf } from "./definitions.ts";
import type { Io } from "./io.ts";
import { type LiveView, runningWords, viewLive } from "./live_view.ts";
import { explained, liveOptions, openNode, refuseDenied } from "./node.ts";
import type { Parsed } from "./options.ts";
import { document, errorText, problemEntry, problemText } from "./output.ts";
import { table } from "./table.ts";

/** `status`: what is on the node, who owns it, and whether it is as it was left. Writes nothing. */
export async function status(io: Io, parsed: Parsed): Promise<number> {
  const node = await openNode(parsed.options);
  const live = openLive(node.host, liveOptions(parsed.options, node.found));
  const state = openState((path) => node.host.real(path), io.now);
  const { record } = state.readRecord();
  const open = unfinished(state.lastOperation()).map(({ begin }) =>
    begin.command === "repair"
      ? "a repair was cut short; the next one ends it"
      : `an ${begin.command} of owner '${begin.owner}' was cut short; the next run undoes or finishes it`,
  );
  let view: ReturnType<typeof readEngine>["view"];
  try {
    const engine = readEngine(node.host, node.backend, node.site);
    refuseDenied(engine.seen.files.values());
    ({ view } = engine);
  } catch (thrown) {
    return broken(io, parsed, explained(thrown, node.host));
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
  const root = rootOf(record, node.site.rootFile);
  const held = Object.entries(root.held ?? {});
  const holds = holdsOn(record, io.now());
  const restarts = record.restarts ?? [];
  const epochs = latestByOwner(root, io.now());
  const errors = problems.filter((problem) => problem.severity === "error");
  const differs = drift.length + open.length + running.notServed.length > 0;
  const result = errors.length > 0 ? "broken" : differs ? "drifted" : "in sync";
  const code = { broken: ExitCode.broken, drifted: ExitCode.drifted, "in sync": ExitCode.done }[result];
  const { engine, schema, loaded, handlers, defaultHandler, holdings } = view.state;
  const version = node.site.version;
  const ours = unmarkedOn(ownersOf(record, node.site.rootFile), view);
  const foreign = view.state.foreign.filter(({ name, path }) => ours.get(name)?.includes(path) !== true);
  const left = leftBy({ ...view.state, foreign }, (path) => node.host.exists(path));
  if (parsed.options.json) {
    io.out(
      document("status", result, undefined, {
        engine: {
          name: engine,
          version: version ?? null,
          schema,
          rootFile: node.site.rootFile,
          loaded,
          defaultHandler,
        },
        layout: layoutEntry(node.found),
        running: running.answer,
        unit: running.unit ?? null,
        handlers: handlers.map((handler) => ({
          ...handler,
          served: running.served?.includes(handler.name) ?? null,
          inUse: running.inUse.get(handler.name) ?? 0,
        })),
        pending: root.pending ?? null,
        held: Object.fromEntries(held),
        holds,
        restarts,
        epochs: Object.fromEntries(epochs),
        owners: holdings.map((holding) => ({
          ...holding,
          definitions: definitionsOf(view, holding),
          adopted: adoptedBy(record, node.site.rootFile, holding.owner),
        })),
        leftBy: left,
        drift,
        unfinished: open,
        problems: problems.map(problemEntry),
      }),
    );
    return code;
  }
  const release =
    version === undefined
      ? ""
      : ` ${[version.major, version.minor ?? "x", ...(version.patch === undefined ? [] : [version.patch])].join(".")} (by ${version.source})`;
  const lines = [
    `engine    ${engine}${release}`,
    `layout    ${node.found.layout.name} (by ${node.found.evidence.join(", ")})`,
    ...layoutNote(node.found),
    `config    version ${schema}: ${loaded.length === 0 ? `${node.site.rootFile} is not there` : loaded.join(", ")}`,
    `default   ${defaultHandler}`,
    `running   ${runningWords(running)}`,
    "",
    ...table([
      ["HANDLER", "RUNTIME TYPE", "OWNER", "SERVED", "PODS", "FILE"],
      ...handlers.map((handler) => [
        handler.name,
        handler.runtimeType,
        handler.owner ?? "-",
        running.served === undefined ? "-" : running.served.includes(handler.name) ? "yes" : "no",
        running.served === undefined ? "-" : String(running.inUse.get(handler.name) ?? 0),
        handler.path ?? "(built in)",
      ]),
    ]),
    "",
    ...left.map(
      ({ tool, mode, path, handlers: names, backup }) =>
        `left by ${tool}: ${mode}: ${path}${names.length === 0 ? "" : ` (${names.join(", ")})`}${backup === undefined ? "" : `; its backup: ${backup}`}`,
    ),
    ...drift.map(
      (entry) =>
        `drifted: owner '${entry.owner}': ${entry.message}${entry.path === undefined ? "" : ` (${entry.path}${entry.line === undefined ? "" : `:${entry.line}`})`}`,
    ),
    ...open.map((text) => `drifted: ${text}`),
    ...running.notServed.map((name) => `drifted: '${name}' is on disk and not served`),
    ...held.map(
      ([owner, { why, until }]) => `held: the last change of owner '${owner}', until ${until}: ${why}`,
    ),
    ...epochs.map(
      ([owner, { epoch, instance, uninstalled }]) =>
        `epoch: owner '${owner}' ${uninstalled ? "was uninstalled at" : "is at"} ${epoch}${instance ? `, instance ${instance}` : ""}`,
    ),
    ...Object.entries(holds).map(
      ([owner, hold]) =>
        `on hold: automatic runs of ${owner === wholeNode ? "every owner" : `owner '${owner}'`} only report, as ${holdWords(hold)}`,
    ),
    ...(restarts.length === 0 ? [] : [`restarts: ${restarts.length} by shimctl within a day`]),
    ...problems.map(
      (problem) => `${problem.severity === "error" ? "broken" : "warning"}: ${problemText(problem)}`,
    ),
    `state     ${result}`,
  ];
  io.out(`${lines.join("\n")}\n`);
  return code;
}

function layoutEntry({ layout, evidence, refusal }: Found): Record<string, unknown> {
  const { name, title, survives, wipes = null, document = null } = layout;
  return { name, title, evidence, survives, wipes, document, refusal: refusal ?? null };
}

/** What does not last on this node, where that is so. */
function layoutNote({ layout, refusal }: Found): string[] {
  const { title, survives, wipes, document } = layout;
  const render = document === undefined ? "" : `; see shimctl render --for ${document}`;
  if (refusal !== undefined) return [`note      nothing is changed on ${title}, as ${refusal.why}${render}`];
  if (wipes === undefined) return [];
  return [`note      an edit survives ${survives}; it does not outlive ${wipes}${render}`];
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

/**
 * The engine would not start on this configuration either, or nobody can tell; or our markers in it were
 * damaged, which is drift.
 */
function broken(io: Io, parsed: Parsed, error: ShimctlError): number {
  const result = error.code === "conflict" ? "drifted" : "broken";
  const code =
    result === "drifted"
      ? ExitCode.drifted
      : error.code === "invalid-config"
        ? ExitCode.broken
        : error.exitCode;
  if (parsed.options.json)
    io.out(document("status", error.code === "unsupported-node" ? "refused" : result, error));
  else io.err(errorText(error));
  return code;
}
