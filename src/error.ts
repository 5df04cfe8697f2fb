/** Exit codes are API: see the table in `shimctl --help` and the README. */
export const ExitCode = {
  done: 0,
  internal: 1,
  usage: 2,
  invalid: 3,
  lockTimeout: 4,
  conflict: 5,
  unsupported: 6,
  undone: 7,
  undoFailed: 8,
  cannotVerify: 9,
  drifted: 10,
  broken: 11,
  held: 12,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** What kind of failure this is; each kind has one exit code, so scripts can rely on either. */
export type ErrorCode =
  | "internal"
  | "usage"
  | "invalid-config"
  | "unsupported-config"
  | "missing-on-host"
  | "engine-broken"
  | "engine-failed"
  | "undo-failed"
  | "cannot-verify"
  | "cannot-label"
  | "held"
  | "lock-timeout"
  | "conflict"
  | "in-use"
  | "unsupported-node"
  | "interrupted";

const exitCodes: Record<ErrorCode, ExitCode> = {
  internal: ExitCode.internal,
  usage: ExitCode.usage,
  "invalid-config": ExitCode.invalid,
  "unsupported-config": ExitCode.invalid,
  "missing-on-host": ExitCode.invalid,
  "engine-broken": ExitCode.invalid,
  "engine-failed": ExitCode.undone,
  "undo-failed": ExitCode.undoFailed,
  "cannot-verify": ExitCode.cannotVerify,
  "cannot-label": ExitCode.cannotVerify,
  held: ExitCode.held,
  "lock-timeout": ExitCode.lockTimeout,
  conflict: ExitCode.conflict,
  "in-use": ExitCode.conflict,
  "unsupported-node": ExitCode.unsupported,
  interrupted: ExitCode.internal,
};

export interface ErrorFacts {
  /** The file the error is about, as the node names it (without `--root`). */
  readonly path?: string;
  /** 1-based. */
  readonly line?: number;
  /** 1-based, in characters. */
  readonly column?: number;
  /** The offending line itself, secrets redacted, with a caret line below it. */
  readonly excerpt?: string;
  /** Two definitions that differ, one key a line, secrets redacted. */
  readonly difference?: { readonly theirs: string; readonly ours: string };
  /** The same as a unified diff. */
  readonly diff?: string;
  /** The next step, a sentence in the imperative. */
  readonly hint?: string;
  /** The state the node is in now; the default says that nothing was written. */
  readonly state?: string;
  /** What lets automatic runs only report. */
  readonly hold?: Readonly<Record<string, string | undefined>>;
  /** What another writer takes away again and again, so that automatic runs leave it alone. */
  readonly contended?: {
    readonly since: string;
    readonly cause: string;
    readonly handlers: readonly string[];
  };
  /** Whether the same command may succeed later without anyone changing anything. */
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/**
 * The one error class. The message is one sentence: what cannot be done, why, the value found after a
 * colon. Everything else a reader needs is in the facts.
 */
export class ShimctlError extends Error {
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = "ShimctlError";
    this.code = code;
    this.facts = facts;
  }

  get exitCode(): ExitCode {
    return exitCodes[this.code];
  }

  get retryable(): boolean {
    return this.facts.retryable ?? (this.code === "lock-timeout" || this.code === "cannot-verify");
  }
}
