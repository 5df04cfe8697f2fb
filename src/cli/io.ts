/** What a command may touch besides the host: passed in, so that the whole command line runs inside a test. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  readonly signal: AbortSignal;
  now(): Date;
  /** Where the last words of `watch` go, and what its looks keep between them, instead of the usual. Milliseconds. */
  readonly watching?: { readonly terminationLog?: string; readonly distanceMs?: number };
  /** Where the pod's service account is, and how patient we are, instead of the usual. Milliseconds. */
  readonly cluster?: {
    readonly folder?: string;
    readonly overallMs?: number;
    readonly pauseMs?: number;
    readonly settleMs?: number;
  };
}
