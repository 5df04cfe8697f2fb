import type { Problem } from "../engine/backend.ts";
import { ExitCode, ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { inWords, onNode, pathOf } from "../host/failure.ts";
import { sha256 } from "../sha256.ts";
import type { Change, Outcome, Proof } from "../transaction/outcome.ts";

/** The number of the JSON documents' format; it grows when a field changes its meaning. */
const outputFormat = 1;

interface ErrorDocument {
  readonly code: string;
  readonly message: string;
  readonly path?: string;
  readonly line?: number;
  readonly column?: number;
  readonly diff?: string;
  readonly hint?: string;
  readonly state: string;
  readonly retryable: boolean;
  readonly hold?: Readonly<Record<string, string | undefined>>;
}

const notRun: Proof = { rules: "not run", "engine-parser": "not run", served: "not run" };

/** Every document has these fields; `more` says what is known besides, or better. */
export function document(
  command: string | null,
  result: string,
  error: ShimctlError | undefined,
  more: Readonly<Record<string, unknown>> = {},
): string {
  return json({
    format: outputFormat,
    command,
    owner: null,
    result,
    changes: [],
    handlers: [],
    proof: notRun,
    warnings: [],
    notes: [],
    ...more,
    error: error === undefined ? null : errorEntry(error),
  });
}

/** The document of a command that failed before it had a result. */
export function errorDocument(command: string | null, error: ShimctlError): string {
  return document(command, refused(error) ? "refused" : "failed", error);
}

/** The document of a changing command, whatever its result. */
export function changeDocument(
  command: string,
  owner: string,
  dryRun: boolean,
  outcome: Outcome | undefined,
  error: ShimctlError | undefined,
  more: Readonly<Record<string, unknown>> = {},
): string {
  const result = outcome?.result ?? (error === undefined || refused(error) ? "refused" : "failed");
  return document(command, result, error, {
    owner,
    dryRun,
    changes: (outcome?.changes ?? []).map(changeEntry),
    handlers: (outcome?.handlers ?? []).map(handlerEntry),
    proof: outcome?.proof ?? notRun,
    recorded: outcome?.recorded ?? null,
    restart: outcome?.restart ?? { done: false, needed: false, words: "nothing was changed" },
    adopted: [],
    pendingRemoval: outcome?.pendingRemoval ?? [],
    pendingForeign: outcome?.pendingForeign ?? [],
    hold: outcome?.hold ?? null,
    node: outcome?.node === undefined ? null : { name: outcome.node.name, done: outcome.node.done },
    warnings: (outcome?.warnings ?? []).map(problemEntry),
    notes: outcome?.notes ?? [],
    ...more,
  });
}

/** What a late incarnation is told. */
export function supersededText({ restart }: Outcome): string {
  return `superseded: nothing was done, as ${restart.words}\n`;
}

/** Refused: decided before anything was written. */
function refused(error: ShimctlError): boolean {
  return error.code !== "internal" && error.code !== "interrupted" && error.facts.state === undefined;
}

export function changeEntry(change: Change): Record<string, unknown> {
  const hash = (bytes: Uint8Array | null) => (bytes === null ? null : sha256(bytes));
  return {
    path: change.path,
    action: change.action,
    sha256: { before: hash(change.before), after: hash(change.after) },
  };
}

function handlerEntry(handler: Handler): Record<string, unknown> {
  return { ...handler };
}

export function problemEntry(problem: Problem): Record<string, unknown> {
  return { ...problem };
}

function errorEntry(error: ShimctlError): ErrorDocument {
  const { path, line, column, diff, hint, state, hold } = error.facts;
  return {
    code: error.code,
    message: error.message,
    ...(path === undefined ? {} : { path }),
    ...(line === undefined ? {} : { line }),
    ...(column === undefined ? {} : { column }),
    ...(diff === undefined ? {} : { diff }),
    ...(hint === undefined ? {} : { hint }),
    state: state ?? nothingWritten,
    retryable: error.retryable,
    ...(hold === undefined ? {} : { hold }),
  };
}

const nothingWritten = "nothing was written";

/** What failed, where, the state the node is in, the next step. */
export function errorText(error: ShimctlError): string {
  const { path, line, column, excerpt, diff, hint, state } = error.facts;
  const place =
    path === undefined
      ? []
      : [`  at: ${path}${line === undefined ? "" : `:${line}${column === undefined ? "" : `:${column}`}`}`];
  const lines = [
    `shimctl: ${error.message}`,
    ...place,
    ...(excerpt === undefined ? [] : excerpt.split("\n").map((text) => `    ${text}`)),
    ...(diff === undefined
      ? []
      : diff
          .trimEnd()
          .split("\n")
          .map((text) => `    ${text}`)),
    `  state: ${state ?? nothingWritten}`,
    ...(hint === undefined ? [] : [`  next: ${hint}`]),
  ];
  // What was found on the node may hold anything, and a terminal acts on some of it.
  return `${lines.join("\n").replace(/[^\P{Cc}\n\t]/gu, "?")}\n`;
}

export function problemText(problem: Problem): string {
  return `${placed(problem.message, problem)}${problem.hint === undefined ? "" : `; ${problem.hint}`}`;
}

/** In one line, with the file that it is about. */
export function placed(
  message: string,
  { path, line }: { readonly path?: string | undefined; readonly line?: number | undefined },
): string {
  if (path === undefined) return message;
  return `${message} (${path}${line === undefined ? "" : `:${line}`})`;
}

function json(value: unknown): string {
  return `${JSON.stringify(value, (_, inner: unknown) => (typeof inner === "bigint" ? Number(inner) : inner), 2)}\n`;
}

/**
 * Whatever was thrown, as the one error that people and scripts see.
 * @param root of the node: people know its paths without it
 */
export function asShimctlError(thrown: unknown, root = "/"): ShimctlError {
  const error = inWords(thrown, "Cannot use this file", pathOf(thrown, root));
  if (error instanceof ShimctlError) return onNode(error, root);
  return new ShimctlError("internal", thrown instanceof Error ? thrown.message : String(thrown), {
    hint: "please report this with the output of the same command and --log-level debug",
    state: "every file is the complete old one or the complete new one; `shimctl status` shows which",
    cause: thrown,
  });
}

export const exitOf = (error: ShimctlError): number => error.exitCode ?? ExitCode.internal;
