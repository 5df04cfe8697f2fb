import { ExitCode, type ShimctlError } from "../error.ts";
import { type Drift, holdingsDrift } from "../transaction/drift.ts";
import { readEngine } from "../transaction/gather.ts";
import { unfinished } from "../transaction/journal.ts";
import { unexplainedTemps } from "../transaction/leftovers.ts";
import { ownersOf } from "../transaction/record.ts";
import { openState } from "../transaction/state.ts";
import type { Io } from "./io.ts";
import { explained, openNode, refuseDenied } from "./node.ts";
import type { Parsed } from "./options.ts";
import { document, errorText, problemEntry, problemText } from "./output.ts";
import { table } from "./table.ts";

/** `status`: what is on the node, who owns it, and whether it is as it was left. Writes nothing. */
export function status(io: Io, parsed: Parsed): number {
  const node = openNode(parsed.options);
  const state = openState((path) => node.host.real(path), io.now);
  const { record } = state.readRecord();
  const open = unfinished(state.lastOperation()).map(
    ({ begin }) =>
      `an ${begin.command} of owner '${begin.owner}' was cut short; the next run undoes or finishes it`,
  );
  let view: ReturnType<typeof readEngine>["view"];
  try {
    const engine = readEngine(node.host, node.backend, node.site);
    refuseDenied(engine.seen.files.values());
    ({ view } = engine);
  } catch (thrown) {
    return broken(io, parsed, explained(thrown, node.host));
  }
  const problems = view.check(node.host);
  const drift: Drift[] = holdingsDrift(ownersOf(record, node.site.rootFile), view.state);
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
  const errors = problems.filter((problem) => problem.severity === "error");
  const result = errors.length > 0 ? "broken" : drift.length > 0 || open.length > 0 ? "drifted" : "in sync";
  const code = { broken: ExitCode.broken, drifted: ExitCode.drifted, "in sync": ExitCode.done }[result];
  const { engine, schema, loaded, handlers, defaultHandler, holdings } = view.state;
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
        layout: { name: node.found.layout.name, evidence: node.found.evidence },
        handlers,
        owners: holdings,
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
    `config    version ${schema}: ${loaded.length === 0 ? `${node.site.rootFile} is not there` : loaded.join(", ")}`,
    `default   ${defaultHandler}`,
    "",
    ...table([
      ["HANDLER", "RUNTIME TYPE", "OWNER", "FILE"],
      ...handlers.map((handler) => [
        handler.name,
        handler.runtimeType,
        handler.owner ?? "-",
        handler.path ?? "(built in)",
      ]),
    ]),
    "",
    ...drift.map(
      (entry) =>
        `drifted: owner '${entry.owner}': ${entry.message}${entry.path === undefined ? "" : ` (${entry.path}${entry.line === undefined ? "" : `:${entry.line}`})`}`,
    ),
    ...open.map((text) => `drifted: ${text}`),
    ...problems.map(
      (problem) => `${problem.severity === "error" ? "broken" : "warning"}: ${problemText(problem)}`,
    ),
    `state     ${result}`,
  ];
  io.out(`${lines.join("\n")}\n`);
  return code;
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
