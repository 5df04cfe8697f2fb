/** A daemon as its unit starts it, or as it was seen running. */
export interface Daemon {
  /** `undefined` for a process that was only seen in /proc, and that no unit is known of. */
  readonly unit: string | undefined;
  /** Its program and arguments, the unit's variables put in. One that nobody could tell stands as `${NAME}`. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Whether it runs; `undefined` where nobody can tell. */
  readonly active: boolean | undefined;
  /** How this is known, for people: `k3s.service, over D-Bus`, or the path of a unit file. */
  readonly source: string;
  /** Its files of variables that were read. */
  readonly variables?: readonly string[];
  /** Those that could not be read here, which may set any. */
  readonly unseen?: readonly string[];
  /** The program and arguments of another daemon that it has started, where that was seen. */
  readonly startedOne?: readonly string[];
  /** The unit's file and drop-ins, where they are known. */
  readonly files?: readonly string[];
}
