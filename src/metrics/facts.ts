/** All that is told of a node to a monitoring system: plain values, whoever collected them. */
export interface Facts {
  readonly version: string;
  readonly revision: string | undefined;
  readonly engine: string;
  /** As it is known; absent where nobody can tell. */
  readonly engineVersion: string | undefined;
  readonly layout: string;
  /** The format that this release writes its record in. */
  readonly recordFormat: number;
  readonly state: "in sync" | "drifted" | "broken";
  /** Ours; `served` is `undefined` where no engine could be asked. */
  readonly handlers: readonly {
    readonly name: string;
    readonly owner: string;
    readonly served: boolean | undefined;
  }[];
  /** Since the record was begun, over all processes, by reason. */
  readonly restarts: Readonly<Record<string, number>>;
  /** Changes undone, and late incarnations that did nothing: since the record was begun. */
  readonly undone: number;
  readonly superseded: number;
  /** Owners whose last change was undone and is not tried again yet. */
  readonly held: readonly string[];
  /** Owners whose automatic runs only report; `*`: all. */
  readonly holds: readonly string[];
  /** Owners whose handlers another writer takes away again and again. */
  readonly contended: readonly string[];
  /** Something written awaits a start of the engine. */
  readonly pending: boolean;
  /** How many restarts shimctl has left without a person. */
  readonly budget: { readonly hour: number; readonly day: number };
  /** What is amiss now, by cause. */
  readonly drift: Readonly<Record<string, number>>;
  /** What was repaired since the record was begun, by cause. */
  readonly repaired: Readonly<Record<string, number>>;
  /** Of the last operation that had to take the lock. Seconds. */
  readonly lockWait: number | undefined;
  /** When an owner's handlers were last changed. Seconds of Unix time. */
  readonly changed: Readonly<Record<string, number>>;
  /** When everything was last found in order. Seconds of Unix time. */
  readonly lastSuccess: number | undefined;
  /** Only in `watch`: how often it has looked, and when. */
  readonly watch?: {
    readonly checks: number;
    readonly failures: number;
    /** Seconds of Unix time. */
    readonly lastCheck: number;
  };
}
