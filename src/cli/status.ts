import { ExitCode, type ShimctlError } from "../error.ts";
import type { Found } from "../layout/layout.ts";
import { holdWords, wholeNode } from "../transaction/hold.ts";
import { adoptedBy, handlersIn } from "../transaction/record.ts";
import { definitionsOf } from "./definitions.ts";
import type { Io } from "./io.ts";
import { runningWords } from "./live_view.ts";
import type { Parsed } from "./options.ts";
import { document, errorText, problemEntry, problemText } from "./output.ts";
import { reportOn } from "./report.ts";
import { table } from "./table.ts";

/** `status`: what is on the node, who owns it, and whether it is as it was left. Writes nothing. */
export async function status(io: Io, parsed: Parsed): Promise<number> {
  const report = await reportOn(io, parsed);
  if ("unreadable" in report) return broken(io, parsed, report.unreadable);
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
        pending: root.pending ?? null,
        labels: root.labels ?? [],
        held: Object.fromEntries(held),
        holds,
        restarts,
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
