/** What a command may touch besides the host: passed in, so that the whole command line runs inside a test. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  readonly signal: AbortSignal;
  now(): Date;
}
