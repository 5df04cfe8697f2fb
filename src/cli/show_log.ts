import { ShimctlError } from "../error.ts";
import { filesOf, handlersOf, type Operation, operationsOf, shortIds } from "../transaction/operations.ts";
import { openState } from "../transaction/state.ts";
import type { Io } from "./io.ts";
import { openRootWithState } from "./open_root.ts";
import { duration, type Parsed, shown } from "./options.ts";
import { document } from "./output.ts";
import { table } from "./table.ts";

/** `log`: every operation that the journal still has, oldest first. It takes no lock and writes nothing. */
export async function showLog(io: Io, parsed: Parsed): Promise<number> {
  const { options } = parsed;
  const since = options.since === undefined ? undefined : timeOf(parsed, options.since, io.now());
  // A variable of that name is about handler files.
  const path = options.given.get("file") === "--file" ? options.file : undefined;
  const host = await openRootWithState(options);
  const state = openState((at) => host.real(at), io.now);
  const all = operationsOf(state.journal());
  const ids = shortIds(all);
  const chosen = all.filter(
    (operation) =>
      (since === undefined || Date.parse(operation.ended ?? operation.time) >= since) &&
      (!options.given.has("owner") || operation.owner === options.owner || operation.owner === "*") &&
      (path === undefined || operation.commits.some((commit) => commit.path === path)),
  );
  const unreadable = state.unreadableLines();
  const short = (id: string) => ids.get(id) ?? id.slice(0, 8);
  if (options.json) {
    io.out(
      document("log", "ok", undefined, {
        operations: chosen.map((operation) => entryOf(operation, short)),
        unreadableLines: unreadable,
      }),
    );
    return 0;
  }
  const rows = chosen.map((operation) => rowOf(operation, short));
  const lines = [
    ...(rows.length === 0
      ? [
          all.length === 0
            ? "nothing was done yet, as far as the journal goes"
            : `nothing of that kind was done, as far as the journal goes, which has ${all.length} in all`,
        ]
      : table([
          ["TIME", "ID", "OWNER", "COMMAND", "RESULT", "HANDLERS", "FILES", "ENGINE", "NOTE"],
          ...rows,
        ])),
    ...(unreadable === 0 ? [] : [`passed over ${unreadable} lines of the journal that cannot be read`]),
  ];
  io.out(`${lines.join("\n")}\n`);
  return 0;
}

function rowOf(operation: Operation, short: (id: string) => string): string[] {
  const { added, removed, updated } = handlersOf(operation);
  const handlers = [
    ...added.map((name) => `+${name}`),
    ...removed.map((name) => `-${name}`),
    ...updated.map((name) => `~${name}`),
  ];
  const files = filesOf(operation).map(({ path }) => path);
  const { result, restart, why, reverts, mends, caller } = operation;
  const notes = [
    ...(reverts.length === 0 ? [] : [`takes back ${reverts.map(short).join(", ")}`]),
    ...(mends === undefined ? [] : [`mends what others did: ${shownLine(mends.cause)}`]),
    ...(result === "finished" ? ["cut short, and finished by the next run"] : []),
    ...(why === undefined ? [] : [shownLine(why)]),
    ...(caller === undefined ? [] : [caller.automatic ? `by ${caller.who}, automatic` : `by ${caller.who}`]),
  ];
  return [
    operation.time.replace(/\.\d+Z$/, "Z"),
    short(operation.id),
    operation.owner,
    operation.command,
    result === "finished" ? "changed" : result,
    handlers.join(" ") || "-",
    files.join(" ") || "-",
    { done: "restarted", begun: "restart begun", none: "-" }[restart],
    notes.join("; "),
  ];
}

/** An error's message may have several lines. */
function shownLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, " ");
}

function entryOf(operation: Operation, short: (id: string) => string): Record<string, unknown> {
  const { id, time, ended, owner, command, caller, engine, rootFile, result, why, reverts, mends, restart } =
    operation;
  return {
    id,
    short: short(id),
    time,
    ended: ended ?? null,
    owner,
    command,
    caller: caller ?? null,
    engine: engine ?? null,
    rootFile: rootFile ?? null,
    result,
    why: why ?? null,
    reverts,
    mends: mends ?? null,
    handlers: handlersOf(operation),
    files: filesOf(operation).map(({ path, before, after }) => ({
      path,
      action: before === null ? "create" : after === null ? "remove" : "edit",
      sha256: { before, after },
    })),
    restart,
  };
}

/** A point in time, in milliseconds since 1970. */
function timeOf({ options }: Parsed, said: string, now: Date): number {
  const called = options.given.get("since") ?? "--since";
  const isTime = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?$/.test(said);
  const time = isTime ? Date.parse(said.replace(" ", "T")) : Number.NaN;
  if (!Number.isNaN(time)) return time;
  if (/^\d+(\.\d+)?(ms|s|m|h|d)/.test(said)) return now.getTime() - duration(called, said);
  throw new ShimctlError(
    "usage",
    `Cannot read ${called}, which must be a time such as 2026-01-31T12:00:00Z, or how long ago: ${shown(said)}`,
    { hint: "write --since 2h, or --since 2026-01-31" },
  );
}
