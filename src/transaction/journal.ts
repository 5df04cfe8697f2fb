import "../jitless.ts";
import * as z from "zod/mini";
import { Basis } from "../handler/asked.ts";
import { Handler, HostPath, OwnerName } from "../handler/model.ts";
import { Order } from "./epoch.ts";
import { AdoptedFrom } from "./record.ts";

/** The format that is written. 1 had no epochs; its lines are read as they are. */
export const journalFormat = 2;

/** Whose repairs are: nobody's. */
export const noOwner = "shared";

/** What a damaged time counts as: everything else in its line is as good as ever. */
const longAgo = "1970-01-01T00:00:00.000Z";
const isTime = (text: string) => !Number.isNaN(Date.parse(text));
const base = {
  format: z.number(),
  time: z.catch(z.string().check(z.refine(isTime)), longAgo),
  operation: z.string(),
};
const Hash = z.nullable(z.string());

/** Who runs a command: a person, or a program that nobody watches. */
export const Caller = z.lazy(() => z.strictObject({ automatic: z.boolean(), who: z.string() }));

export type Caller = z.infer<typeof Caller>;

/**
 * One line of the journal. Lines hold names, paths and hashes only: no byte of a configuration, so no
 * secret either. The old bytes are in the store, by their hash.
 */
export const JournalLine = z.lazy(() =>
  z.union([
    z
      .object({
        ...base,
        step: z.literal("begin"),
        command: z.string(),
        // Undoing writes for this owner below this path: a damaged one is none of them.
        owner: z.union([OwnerName, z.literal(noOwner)]),
        /** Whose files these are: what is unfinished is undone or finished there, whatever the next run is about. */
        engine: z.optional(z.string()),
        rootFile: z.optional(HostPath),
        /** What the owner had, and shall have: enough to undo or to finish without any other file. */
        previous: z.array(Handler),
        desired: z.array(Handler),
        bases: z.optional(z.record(z.string(), Basis)),
        /** Whose change it is, where its owner's epochs are kept. */
        order: z.optional(Order),
        /** By handler: what others define and ours take the place of. There only where anything may be taken over. */
        adopted: z.optional(z.record(z.string(), z.array(AdoptedFrom))),
        /** Folders that will be made. */
        folders: z.array(z.string()),
        /** What the presets of `previous` were. */
        previousBases: z.optional(z.record(z.string(), Basis)),
        /** The operations that this one takes back, the latest first. */
        reverts: z.optional(z.array(z.string())),
        caller: z.optional(Caller),
        /** What others had done to the owner's handlers, where that is mended. */
        mends: z.optional(z.object({ cause: z.string(), handlers: z.array(z.string()) })),
      })
      .check(z.refine(({ command, owner }) => owner !== noOwner || command === "repair")),
    z.object({
      ...base,
      step: z.literal("intent"),
      path: z.string(),
      target: z.string(),
      temp: z.string(),
      before: Hash,
      after: Hash,
    }),
    z.object({ ...base, step: z.literal("committed"), path: z.string(), before: Hash, after: Hash }),
    z.object({ ...base, step: z.literal("kept"), path: z.string(), store: z.string(), why: z.string() }),
    /** Every file is in place; the engine is about to be restarted. From here on it may run with the change. */
    z.object({
      ...base,
      step: z.literal("restart"),
      unit: z.string(),
      way: z.string(),
      /** The run of the unit that does not have the change. */
      invocation: z.string(),
      present: z.array(z.string()),
      absent: z.array(z.string()),
      kept: z.array(z.string()),
      /** What the plan depended on: the same is not tried again by itself once it was undone. */
      inputs: z.string(),
      /** The engine did not work before: that it does not afterwards is no evidence against the change. */
      broken: z.optional(z.boolean()),
    }),
    /** The restart is through, as far as anybody can tell where the unit itself does not say it. */
    z.object({ ...base, step: z.literal("restarted") }),
    /** The old files are back; the engine is about to be restarted with them. */
    z.object({ ...base, step: z.literal("restore"), invocation: z.string() }),
    /** There is evidence that the engine does not work with the change: it is undone. */
    z.object({ ...base, step: z.literal("failed"), why: z.string() }),
    /** Every file is in place; only the record is still to be written. */
    z.object({ ...base, step: z.literal("complete") }),
    z.object({
      ...base,
      step: z.literal("end"),
      result: z.string(),
      code: z.optional(z.string()),
      /** Why it was undone, where no `failed` line says so. */
      why: z.optional(z.string()),
    }),
    /** Of an owner, or of the whole node: automatic runs only report from here on, or do again. */
    z.object({
      ...base,
      step: z.literal("hold"),
      owner: z.string(),
      until: z.optional(z.string()),
      reason: z.optional(z.string()),
      who: z.string(),
      /** That nobody asked for: another writer was met. A release that knows no such thing takes it for a hold. */
      contended: z.optional(
        z.object({ rootFile: z.string(), cause: z.string(), handlers: z.array(z.string()) }),
      ),
    }),
    z.object({
      ...base,
      step: z.literal("release"),
      owner: z.string(),
      who: z.string(),
      /** Only that one, and no hold. */
      contended: z.optional(z.boolean()),
    }),
  ]),
);

export type JournalLine = z.infer<typeof JournalLine>;

type WithoutBase<Line> = Line extends unknown ? Omit<Line, keyof typeof base> : never;
export type JournalEntry = WithoutBase<JournalLine>;

export function renderLine(operation: string, time: string, entry: JournalEntry): string {
  return JSON.stringify({ format: journalFormat, time, operation, ...entry });
}

/** The lines that can be read; a line cut short by a crash, or of a newer release, is passed over. */
export function parseJournal(text: string): JournalLine[] {
  return text.split("\n").flatMap((line) => readLine(line) ?? []);
}

/** How many lines `parseJournal` passes over. */
export function unreadableLines(text: string): number {
  return text.split("\n").filter((line) => line !== "" && readLine(line) === undefined).length;
}

function readLine(line: string): JournalLine | undefined {
  // What a crash or a power cut left of a line, zeros included, may stand in front of the next one.
  const start = line.lastIndexOf(lineStart);
  if (start < 0) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(line.slice(start));
  } catch {
    return undefined;
  }
  const parsed = JournalLine.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/** Every line begins so; inside of a line its quotes would be escaped. */
const lineStart = '{"format":';

/** Whether the lines of one operation are those of one that ended: then nothing in them matters any more. */
export function hasEnded(text: string): boolean {
  // A hold may be made or released between operations; it is nothing that has to be finished.
  const lines = text
    .trimEnd()
    .split("\n")
    .filter((line) => !/"step":"(hold|release)"/.test(line));
  const [first, last] = [lines[0], lines.at(-1)].map((line) => {
    try {
      const value: unknown = JSON.parse(line ?? "");
      return typeof value === "object" && value !== null ? value : {};
    } catch {
      return {};
    }
  }) as { readonly step?: unknown; readonly operation?: unknown }[];
  return first?.step === "begin" && last?.step === "end" && first.operation === last.operation;
}

/** The format of the newest line; 0 where there is none. */
export function newestFormat(text: string): number {
  return [...text.matchAll(/\{"format":(\d{1,9})/g)].reduce(
    (most, [, digits]) => Math.max(most, Number(digits)),
    0,
  );
}

export interface Unfinished {
  readonly begin: Extract<JournalLine, { step: "begin" }>;
  readonly intents: readonly Extract<JournalLine, { step: "intent" }>[];
  /** Exchanges of its own that were seen through: what others wrote meanwhile is not in them. */
  readonly commits: readonly Extract<JournalLine, { step: "committed" }>[];
  readonly complete: boolean;
  /** The last one, where the engine was to be restarted. */
  readonly restart: Extract<JournalLine, { step: "restart" }> | undefined;
  /** How often that was begun, and whether one is known to have been carried out. */
  readonly restarts: number;
  readonly restarted: boolean;
  readonly failed: Extract<JournalLine, { step: "failed" }> | undefined;
  /** Restarts that were begun to undo it. */
  readonly restores: readonly Extract<JournalLine, { step: "restore" }>[];
}

/** Operations that began and did not end, oldest first. */
export function unfinished(lines: readonly JournalLine[]): Unfinished[] {
  return lines
    .filter((line) => line.step === "begin")
    .filter((begin) => !lines.some((line) => line.step === "end" && line.operation === begin.operation))
    .map((begin) => {
      const own = lines.filter((line) => line.operation === begin.operation);
      return {
        begin,
        intents: own.filter((line) => line.step === "intent"),
        commits: own.filter((line) => line.step === "committed"),
        complete: own.some((line) => line.step === "complete"),
        restart: own.findLast((line) => line.step === "restart"),
        restarts: own.filter((line) => line.step === "restart").length,
        restarted: own.some((line) => line.step === "restarted"),
        failed: own.findLast((line) => line.step === "failed"),
        restores: own.filter((line) => line.step === "restore"),
      };
    });
}
