import type { FileEdit } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import {
  type Between,
  type Bytes,
  type CommitPoint,
  type Displaced,
  type Exchanged,
  exchangeFile,
  giveBack,
  type Held,
  type Look,
  lookAt,
} from "../host/exchange.ts";
import { type Libc, loadLibc } from "../host/libc/libc.ts";
import { flushFolders, locate, type Target } from "../host/pending.ts";
import { preflight } from "../host/preflight.ts";
import type { Host } from "../host/root.ts";
import { sleep } from "../host/sleep.ts";
import { sha256 } from "../sha256.ts";
import { lost, mergeForeign } from "./merge.ts";

/**
 * How long a program may take between reading a version of ours and renaming its own over it, in ms. Only
 * counts after a version was visible that lacked lines of others.
 */
const lingerMs = 2_000;
const pollMs = 5;
/** How long other programs may keep us from putting their lines back, in ms. */
const mergeMs = 30_000;
/** How long to wait for a program that has the file open for writing before it is merged with, in ms. */
const quietMs = 10_000;

/** What is about to happen, journalled before it does: enough to tell later whose bytes are whose. */
export interface CommitIntent {
  /** Host paths: as planned, behind its links, and where the new and then the displaced file stands. */
  readonly path: string;
  readonly target: string;
  readonly temp: string;
  /** SHA-256 in hex of what is expected, and of what is written; `null`: no file. */
  readonly before: string | null;
  readonly after: string | null;
}

export interface CommitOptions {
  /** Durable when it returns, or its promise resolves; awaited before every exchange. */
  readonly journal: (intent: CommitIntent) => unknown;
  /** How many further exchanges may be made to put back what somebody wrote in between. */
  readonly retries: number;
  /** Keeps somebody's bytes, durably; returns where, in words for people. */
  readonly onKept: (bytes: Uint8Array, why: string) => string | Promise<string>;
  /** How often the edit may be made again on a file that moved, before the caller has to plan anew. */
  readonly again?: number;
  /** Takes what watches a displaced file until the caller closes it; without it, nobody does. */
  readonly onHeld?: (late: Late) => void;
  /** Throws where the engine could not work with what a late merge makes: nobody looks at the file again after it. */
  readonly prove?: (current: Bytes, merged: Bytes) => void;
  /** For tests: called at named points. */
  readonly failpoint?: (point: CommitPoint) => void;
}

export interface CommitResult {
  /** Somebody wrote in between, and everything of theirs is in the file. */
  readonly contended: boolean;
  /** The file was not `edit.before` any more, nothing was written: plan again. */
  readonly stale: boolean;
  /** The edit that was carried out, where it had to be made again on another base. */
  readonly made?: FileEdit;
}

/** An exchange that may be asked later whether somebody came to write what it displaced, and again after that. */
export interface Late {
  readonly path: string;
  /**
   * Merges what a program wrote that came late. Throws as `commitFile` does.
   *
   * @param isUndone whether the edit was taken back since: then it is not made again
   * @returns whether one came
   */
  merge(isUndone?: boolean): Promise<boolean>;
  /** Harmless when repeated. */
  close(): void;
}

/**
 * Carries out one edit among programs that take no lock. Whatever they do and whenever: their lines are in
 * the file at the end, or kept aside and named in the error. They may overwrite our edit, which one more
 * run mends.
 *
 * The exchange hands us the very file that it took away. If that is what the edit was made for, nothing
 * happened in between. If not, its bytes are the truth, and ours was a short-lived version that lacked some
 * of them: the edit is made again on the truth; and, as somebody may have read the short-lived version and
 * write what they make of it later, we stay for 2 s and merge back what such a version lacks.
 *
 * Throws ShimctlError: `unsupported-node` from preflight, before any write; `conflict`, retryable, when
 * edits cannot be merged, with what was kept aside and what the file holds
 */
export async function commitFile(host: Host, edit: FileEdit, options: CommitOptions): Promise<CommitResult> {
  if (edit.before === null && edit.after === null) return { contended: false, stale: false };
  const libc = await loadLibc();
  preflight(host, edit.path, edit.tempDir);
  const target = locate(host, edit.path, edit.tempDir);
  let commit: Commit = { libc, host, edit, options, target };
  for (let again = 0; ; again++) {
    const first = await exchange(commit, commit.edit.before, commit.edit.after);
    if (first.kind === "clean") {
      if (first.held !== undefined) options.onHeld?.(lateOf(commit, first.held));
      return result(commit, edit, false);
    }
    if (first.kind !== "moved") {
      await mergeBack(commit, first);
      return result(commit, edit, true);
    }
    // Planning anew reads and judges the whole node; by then a busy writer has moved the file again.
    const next = again < (options.again ?? 0) ? await editAgain(commit) : undefined;
    if (next === undefined) return { contended: false, stale: true };
    commit = { ...commit, edit: next };
  }
}

function lateOf(commit: Commit, held: Held): Late {
  const { edit, options } = commit;
  return {
    path: edit.path,
    async merge(isUndone = false) {
      const between = await held.late();
      if (between === undefined) return false;
      await mergeBack({ ...commit, edit: isUndone ? undone(edit) : edit, prove: options.prove }, between);
      return true;
    },
    close: held.close,
  };
}

/** What is left of an edit that was taken back: others' lines are merged on what it was made for, and nothing is ours. */
function undone(edit: FileEdit): FileEdit {
  const asIs = (bytes: Bytes) => bytes;
  return { ...edit, after: edit.before, edit: asIs, bare: asIs };
}

function result(commit: Commit, asked: FileEdit, contended: boolean): CommitResult {
  return { contended, stale: false, ...(commit.edit === asked ? {} : { made: commit.edit }) };
}

/** The same edit on what the file holds now; `undefined` where that needs a new plan. */
async function editAgain({ libc, edit, target }: Commit): Promise<FileEdit | undefined> {
  const look = await lookAt(libc, target.real, quietMs);
  look.close();
  if (look.bytes === null || edit.before === null || edit.after === null) return undefined;
  try {
    return { ...edit, before: look.bytes, after: edit.edit(look.bytes) };
  } catch {
    return undefined;
  }
}

interface Commit {
  readonly libc: Libc;
  readonly host: Host;
  readonly edit: FileEdit;
  readonly options: CommitOptions;
  readonly target: Target;
  /** For what is merged late. */
  readonly prove?: CommitOptions["prove"];
}

function exchange(commit: Commit, expected: Bytes, next: Bytes): Promise<Exchanged> {
  const { libc, host, edit, options, target } = commit;
  const { mode, labelFrom } = edit;
  const hash = (bytes: Bytes) => (bytes === null ? null : sha256(bytes));
  return exchangeFile(libc, target, {
    expected,
    next,
    mode,
    hold: options.onHeld !== undefined,
    labelFrom: labelFrom === undefined ? undefined : host.real(labelFrom),
    announce: async (temp) => {
      const { path, resolved } = target;
      await options.journal({ path, target: resolved, temp, before: hash(expected), after: hash(next) });
    },
    failpoint: options.failpoint ?? (() => {}),
  });
}

/** A version that we made visible, and what should have stood there instead; both without anything of ours. */
interface Hidden {
  readonly short: string;
  readonly truth: string;
  /** Whether the truth has been in the file since. Before that, all that is seen derives from `short`. */
  shown: boolean;
}

interface Contention {
  readonly hidden: Hidden[];
  /** Displaced files that stay on disk until what they hold is in the file for good. */
  readonly displaced: Displaced[];
  /** Versions whose part of ours is ours indeed: nobody else's edit is lost with it. */
  readonly known: Bytes[];
  /** What watches the displaced files. */
  readonly late: Late[];
  /** What we put into the file last. */
  installed: Bytes;
}

async function mergeBack(commit: Commit, first: Between): Promise<void> {
  const { edit, options, target } = commit;
  const state: Contention = {
    hidden: [],
    displaced: [first.displaced],
    known: [edit.before, edit.after],
    late: [],
    installed: edit.after,
  };
  try {
    watch(commit, state, first);
    await learn(commit, state, first, edit.before);
    // A version of ours that hid nothing can mislead nobody.
    if (state.hidden.length > 0) await untilQuiet(commit, state);
  } catch (cause) {
    // What is displaced may be the file again.
    for (const late of state.late) late.close();
    throw await giveUp(commit, state, cause);
  }
  for (const late of state.late) options.onHeld?.(late);
  for (const displaced of state.displaced) displaced.remove();
  flushRemoved(state, target);
  options.failpoint?.("cleaned");
}

/** Whoever comes late to what an exchange displaced is merged on what it was made for. */
function watch(commit: Commit, state: Contention, result: Exchanged): void {
  if ("held" in result && result.held !== undefined) state.late.push(lateOf(commit, result.held));
}

/** Puts lines back until no version that lacks any of them can still come. */
async function untilQuiet(commit: Commit, state: Contention): Promise<void> {
  const { libc, edit, options, target } = commit;
  const end = performance.now() + mergeMs;
  let quietSince = performance.now();
  for (let exchanges = 0; ; ) {
    const look = await lookAt(libc, target.real, quietMs);
    try {
      if (look.quiet === "no") throw new Giving("a program keeps it open for writing");
      const current = bareText(edit, look.bytes);
      const whole = heal(state.hidden, current);
      if (whole === current) {
        for (const hidden of state.hidden) hidden.shown = true;
        look.release();
        if (!(await changes(look, quietSince + lingerMs))) return;
        continue;
      }
      if (exchanges >= options.retries)
        throw new Giving("other programs write it faster than they can be merged");
      if (performance.now() >= end) throw new Giving("other programs keep writing it");
      const base = whole === "" && look.bytes === null ? null : fromText(whole);
      const next = edit.edit(base);
      prove(commit, look.bytes, next);
      // Writers may go on while the temporary file is written.
      look.close();
      const result = await exchange(commit, look.bytes, next);
      if (result.kind === "moved") continue;
      exchanges += 1;
      quietSince = performance.now();
      state.installed = next;
      state.known.push(next);
      for (const hidden of state.hidden) hidden.shown = true;
      watch({ ...commit, edit: { ...edit, before: look.bytes, after: next } }, state, result);
      if (result.kind === "clean") continue;
      state.displaced.push(result.displaced);
      await learn(commit, state, result, look.bytes);
    } finally {
      look.close();
    }
  }
}

/** Notes what our latest exchange hid: somebody's version, made of `expected` or of an earlier version. */
async function learn(commit: Commit, state: Contention, result: Between, expected: Bytes): Promise<void> {
  const { edit, options } = commit;
  if (result.kind === "open") throw new Giving("a program keeps it open for writing");
  const { bytes } = result.displaced;
  const short = bareText(edit, state.installed);
  const theirs = bareText(edit, bytes);
  const truth = heal(state.hidden, mergeOrGive(bareText(edit, expected), short, theirs));
  if (!isOurPartKnown(text(bytes), theirs, edit, state.known)) {
    await options.onKept(bytes, "somebody edited inside our part while it was replaced");
  }
  if (truth !== short) state.hidden.push({ short, truth, shown: false });
}

/** Whether what is ours in a version is as we wrote it once: our part of it, put on a known version's rest, gives that version. */
function isOurPartKnown(version: string, bare: string, edit: FileEdit, known: readonly Bytes[]): boolean {
  if (version === bare) return true;
  return known.some((bytes) => {
    const merge = mergeForeign(bare, version, bareText(edit, bytes));
    return "merged" in merge && merge.merged === text(bytes);
  });
}

/** A version with every line put back that it lacks because it was made of a short-lived one. */
function heal(hidden: readonly Hidden[], version: string): string {
  let healed = version;
  for (const { short, truth, shown } of hidden) {
    if (shown && lost(short, truth, healed).length === 0) continue;
    healed = mergeOrGive(short, truth, healed);
  }
  return healed;
}

function mergeOrGive(base: string, ours: string, theirs: string): string {
  const merge = mergeForeign(base, ours, theirs);
  if ("merged" in merge) return merge.merged;
  throw new Giving("two programs changed the same lines");
}

function prove(commit: Commit, current: Bytes, merged: Bytes): void {
  try {
    commit.prove?.(current, merged);
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    throw new Giving("the engine could not work with both", { cause: error });
  }
}

/** Waits for a change of the file; false when there was none until `deadline`. */
async function changes(look: Look, deadline: number): Promise<boolean> {
  while (performance.now() < deadline) {
    await sleep(pollMs);
    if (look.changed()) return true;
  }
  return false;
}

/** Why merging ends; told to the user in one sentence. */
class Giving extends Error {}

/**
 * Ends without having merged. What our first exchange took away goes back, if ours still stands in its
 * place; after a merge it stays, as the merge may hold lines that are nowhere else. Everything displaced
 * that is not in the file is kept aside, and only then removed.
 */
async function giveUp(commit: Commit, state: Contention, cause: unknown): Promise<ShimctlError> {
  const { libc, options, target, edit } = commit;
  const why = cause instanceof Giving ? cause.message : "our edit cannot be made on the other version";
  const keep = [...state.displaced];
  const [first] = state.displaced;
  let holds = first?.temp === undefined ? "what was written last" : "the latest version of the other program";
  if (first !== undefined && state.installed === edit.after) {
    const { back, left } = await giveBack(libc, target, first, edit.after);
    if (back) {
      keep.shift();
      holds = "the other program's version";
    }
    if (left !== undefined) keep.push(left);
  }
  const kept: string[] = [];
  for (const displaced of keep) {
    kept.push(await options.onKept(displaced.bytes, why));
    displaced.remove();
  }
  flushRemoved(state, target);
  return new ShimctlError(
    "conflict",
    `Cannot edit this file, as it was changed at the same moment and ${why}`,
    {
      path: edit.path,
      state: `the file holds ${holds}${kept.length === 0 ? "" : `; kept aside: ${kept.join(", ")}`}`,
      hint:
        kept.length === 0
          ? "run the same command again"
          : "compare the file with what was kept aside, then run the same command again",
      retryable: true,
      cause,
    },
  );
}

/** For what has no name nothing is removed; the folder of a file that went may be gone as well by then. */
function flushRemoved({ displaced }: Contention, target: Target): void {
  if (displaced.some(({ temp }) => temp !== undefined)) flushFolders(target);
}

function bareText(edit: FileEdit, bytes: Bytes): string {
  return text(edit.bare(bytes));
}

/** One character for each byte, so that no byte is lost on the way through the merge. */
function text(bytes: Bytes): string {
  return bytes === null ? "" : Buffer.from(bytes).toString("latin1");
}

function fromText(latin1: string): Uint8Array {
  return new Uint8Array(Buffer.from(latin1, "latin1"));
}
