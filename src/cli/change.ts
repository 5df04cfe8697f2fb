import type { EngineView } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Asked } from "../handler/asked.ts";
import type { Handler } from "../handler/model.ts";
import { OwnerName } from "../handler/model.ts";
import type { ResolveFacts } from "../handler/resolve.ts";
import { acquireLock, type LockHolder } from "../host/lock.ts";
import { complaintOf } from "../host/parser_run.ts";
import { redactLine } from "../toml/redact.ts";
import type { Intent } from "../transaction/desire.ts";
import type { Environment } from "../transaction/environment.ts";
import type { Outcome } from "../transaction/outcome.ts";
import { preview, type Request, run } from "../transaction/run.ts";
import { parseHandlerFile, type ReadFile, resolveFile, resolveNames } from "./handler_file.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import { explained, type Node, openNode } from "./node.ts";
import { type Parsed, shown } from "./options.ts";
import { asShimctlError, changeDocument, exitOf, problemText } from "./output.ts";
import { readInput } from "./read_input.ts";

export type ChangeCommand = "install" | "uninstall" | "apply";

/** `install`, `uninstall` and `apply`. */
export async function change(io: Io, log: Log, parsed: Parsed, command: ChangeCommand): Promise<number> {
  let owner = parsed.options.owner;
  let outcome: Outcome | undefined;
  let node: Node | undefined;
  try {
    const file = await handlerFile(parsed, io.signal);
    owner = ownerOf(parsed, file);
    node = openNode(parsed.options);
    const request = requestOf(parsed, command, node, owner, file);
    outcome = parsed.options.dryRun
      ? await preview(
          environment(io, log, parsed, node, () => undefined),
          request,
        )
      : await locked(io, log, parsed, node, request);
  } catch (thrown) {
    const error = node === undefined ? asShimctlError(thrown) : explained(thrown, node.host);
    if (!parsed.options.json) throw error;
    io.out(changeDocument(command, owner, parsed.options.dryRun, undefined, error));
    return exitOf(error);
  }
  if (parsed.options.json) {
    io.out(changeDocument(command, owner, parsed.options.dryRun, outcome, undefined));
    return 0;
  }
  for (const note of outcome.notes) log.warn(note);
  for (const warning of outcome.warnings) log.warn(problemText(warning));
  io.out(summary(owner, parsed.options.dryRun, node, outcome));
  return 0;
}

async function locked(io: Io, log: Log, parsed: Parsed, node: Node, request: Request): Promise<Outcome> {
  const lock = await acquireLock(node.host, {
    timeoutMs: parsed.options.lockTimeoutMs,
    owner: request.owner,
    command: [parsed.command, ...parsed.args].join(" ").slice(0, 120),
    signal: io.signal,
    onWait: (holder: LockHolder) => log.info(`waiting for the node's lock, held by ${holder.text}`),
  });
  try {
    return await run(
      environment(io, log, parsed, node, (name) => lock.step(name)),
      request,
    );
  } finally {
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
    step(name) {
      log.debug(name);
      onStep(name);
    },
    proveWith:
      proveWith === undefined
        ? undefined
        : (candidate) => proveBy(proveWith, candidate, parsed.options.given.get("prove-with")),
  };
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
): Request {
  const { options, args } = parsed;
  const facts: ResolveFacts = {
    prefix: options.prefix,
    snapshotter: options.snapshotter,
    exists: (path) => node.host.exists(path),
  };
  const handlers = (): Asked[] => {
    const fromFile = file === undefined ? [] : resolveFile(file, facts);
    const named = resolveNames(args, facts);
    const names = new Set(named.map(({ handler }) => handler.name));
    return [...fromFile.filter(({ handler }) => !names.has(handler.name)), ...named];
  };
  return {
    intent: intentOf(parsed, command, file !== undefined, handlers),
    owner,
    allowMissing: options.given.has("allow-missing")
      ? options.allowMissing
      : (file?.content.allow_missing ?? false),
    retries: options.retries,
    updatePresets: options.updatePresets,
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

function summary(owner: string, dryRun: boolean, node: Node, outcome: Outcome): string {
  const names = (handlers: readonly Handler[]) => handlers.map((handler) => handler.name).sort();
  const now = names(outcome.handlers);
  const before = names(outcome.previous);
  const wanted = dryRun ? [...outcome.expectation.present].sort() : now;
  if (outcome.result === "unchanged") {
    return `unchanged: owner '${owner}' has ${list(now)}\n`;
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
  if (!dryRun)
    lines.push(`${node.found.layout.unit} was not restarted: the change takes effect with its next start`);
  return `${lines.join("\n")}\n`;
}

function list(names: readonly string[]): string {
  return names.length === 0 ? "no handlers" : names.join(", ");
}
