import packageJson from "../../package.json" with { type: "json" };
import { ExitCode, ShimctlError } from "../error.ts";
import type { Found } from "../layout/layout.ts";
import { revision } from "../revision.ts";
import { holdWords, releaseCommand, wholeNode } from "../transaction/hold.ts";
import { adoptedBy, type Contended, handlersIn, type Repair } from "../transaction/record.ts";
import { type About, factsOf, stateOf } from "./collect.ts";
import { definitionsOf } from "./definitions.ts";
import type { Io } from "./io.ts";
import { runningWords } from "./live_view.ts";
import type { Parsed } from "./options.ts";
import { document, errorText, problemEntry, problemText } from "./output.ts";
import { type Report, reportOn, type Unreadable } from "./report.ts";
import { table } from "./table.ts";

/** `status`: what is on the node, who owns it, and whether it is as it was left. Writes nothing. */
export async function status(io: Io, parsed: Parsed): Promise<number> {
  const { json, format } = parsed.options;
  if (json && format === "prometheus")
    throw new ShimctlError(
      "usage",
      `Cannot print metrics as JSON: ${parsed.options.given.get("format") ?? "--format"} prometheus`,
      { hint: "leave out one of --format prometheus and --json" },
    );
  const report = await reportOn(io, parsed);
  if (format === "prometheus") {
    const { render } = await import("../metrics/prometheus.ts");
    io.out(await render(factsOf(report, aboutOf(io, parsed))));
  }
  if ("unreadable" in report) return broken(io, parsed, report);
  const {
    node,
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
  } = report;
  const held = Object.entries(root.held ?? {});
  const restarts = record.restarts ?? [];
  const code = { broken: ExitCode.broken, drifted: ExitCode.drifted, "in sync": ExitCode.done }[result];
  const { engine, schema, loaded, defaultHandler, holdings } = view.state;
  if (format === "prometheus") return code;
  const version = node.site.version;
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
        labels: root.labels ?? [],
        held: Object.fromEntries(held),
        holds,
        restarts,
        ...countsEntry(report, io, parsed),
        epochs: Object.fromEntries(epochs),
        owners: [
          ...holdings.map((holding) => ({
            ...holding,
            marked: true,
            definitions: definitionsOf(view, holding),
            adopted: adoptedBy(record, node.site.rootFile, holding.owner),
          })),
          ...bare.map((each) => ({
            ...each,
            intact: true,
            loaded: true,
            marked: false,
            definitions: handlersIn(record, node.site.rootFile, each.owner).filter(({ name }) =>
              each.handlers.includes(name),
            ),
            adopted: adoptedBy(record, node.site.rootFile, each.owner),
          })),
        ],
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
    ...(root.pending === undefined
      ? []
      : [`pending: what was written at ${root.pending.since} awaits a start of the engine`]),
    ...Object.entries(root.contended ?? {}).map(([owner, contended]) =>
      contendedText(owner, contended, root.repairs ?? []),
    ),
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
    ...(root.labels ?? []).map(({ owner, node, key, value, pending }) =>
      pending === undefined
        ? `label: owner '${owner}' has set ${key}=${value} on node '${node}'`
        : `pending: ${key}=${value} of owner '${owner}' shall go from node '${node}' since ${pending}: the next run that reaches the API does it`,
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

/** What monitoring is told as well, for those who would rather read JSON. */
function countsEntry(report: Report | Unreadable, io: Io, parsed: Parsed): Record<string, unknown> {
  const { root } = report;
  const { restarts, undone, repaired, budget, lockWait } = factsOf(report, aboutOf(io, parsed));
  return {
    pending: root.pending ?? null,
    contended: root.contended ?? {},
    repairs: root.repairs ?? [],
    counts: { restarts, undone, repairs: repaired },
    restartBudgetLeft: budget,
    lockWaitSeconds: lockWait ?? null,
  };
}

function aboutOf(io: Io, { options }: Parsed): About {
  return { version: packageJson.version, revision, budget: options.budget, now: io.now() };
}

/** Who is met again and again, and what goes on only when somebody says so. */
function contendedText(
  owner: string,
  { since, cause, handlers }: Contended,
  repairs: readonly Repair[],
): string {
  const end = Date.parse(since);
  const mended = repairs.filter(
    (each) =>
      each.owner === owner &&
      each.handlers.some((name) => handlers.includes(name)) &&
      end - Date.parse(each.time) < dayMs,
  );
  // The last time it was not mended any more.
  const times = mended.length === 0 ? "again and again" : `${mended.length + 1} times within a day`;
  const names = handlers.map((name) => `'${name}'`).join(", ");
  return `contended: owner '${owner}': another writer took ${names} away ${times} (${cause}, at ${since}); \`${releaseCommand(owner)}\` lets repairs go on`;
}

const dayMs = 86_400_000;

/**
 * The engine would not start on this configuration either, or nobody can tell; or our markers in it were
 * damaged, which is drift.
 */
function broken(io: Io, parsed: Parsed, report: Unreadable): number {
  const { unreadable: error } = report;
  const result = stateOf(report);
  const code =
    result === "drifted"
      ? ExitCode.drifted
      : error.code === "invalid-config"
        ? ExitCode.broken
        : error.exitCode;
  if (parsed.options.json) {
    const more = countsEntry(report, io, parsed);
    io.out(document("status", error.code === "unsupported-node" ? "refused" : result, error, more));
  } else io.err(errorText(error));
  return code;
}
