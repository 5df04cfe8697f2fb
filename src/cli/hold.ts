import type { EngineView } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import { acquireLock } from "../host/lock.ts";
import { releaseContended } from "../transaction/contention.ts";
import { type Holds, holdsOn, holdWords, releaseCommand, wholeNode } from "../transaction/hold.ts";
import type { Hold } from "../transaction/record.ts";
import { changeHolds } from "../transaction/set_hold.ts";
import { type NodeState, openState } from "../transaction/state.ts";
import { ownerOf } from "./change.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import { openRootWithState } from "./open_root.ts";
import { type Parsed, shown } from "./options.ts";
import { otherOwners } from "./other_owners.ts";
import { document } from "./output.ts";
import { whoRuns } from "./who.ts";

/** `hold` and `release`: whether automatic runs of an owner, or of all, only report. */
export async function hold(io: Io, log: Log, parsed: Parsed, command: "hold" | "release"): Promise<number> {
  const { options } = parsed;
  const owner = ownerOf(parsed, undefined);
  const reason = reasonIn(parsed);
  const untilFrom = (now: Date) =>
    options.forMs === undefined ? {} : { until: untilOf(parsed, options.forMs, now) };
  // Refused before anything is made, the lock included.
  untilFrom(io.now());
  const host = await openRootWithState(options);
  const lock = await acquireLock(host, {
    timeoutMs: options.lockTimeoutMs,
    owner,
    command,
    signal: io.signal,
    onWait: (holder) => log.info(`waiting for the node's lock, held by ${holder.text}`),
  });
  let before: Holds;
  let after: Holds;
  let wasContended = false;
  let note: string | undefined;
  try {
    const state = openState((path) => host.real(path), io.now);
    state.refuseNewer();
    await rebuildLost(parsed, state, io.now());
    const who = whoRuns(io);
    const now = io.now();
    before = holdsOn(state.readRecord().record, now);
    const made: Hold = {
      since: now.toISOString(),
      ...untilFrom(now),
      ...(reason === undefined ? {} : { reason }),
      who,
      by: "hold",
    };
    const key = options.all ? wholeNode : owner;
    const { [key]: _, ...others } = before;
    const none: Holds = {};
    after = command === "hold" ? { ...others, [key]: made } : options.all ? none : others;
    changeHolds(state, after, who, now);
    if (command === "release")
      wasContended = releaseContended(state, options.all ? undefined : owner, who, now);
    if (!options.all) note = otherOwners(parsed, owner, state.readRecord().record);
  } finally {
    lock.release();
  }
  const isChanged = wasContended || JSON.stringify(before) !== JSON.stringify(after);
  if (options.json) {
    const more = {
      owner: options.all ? null : owner,
      holds: after,
      notes: note === undefined ? [] : [note],
    };
    io.out(document(command, isChanged ? "changed" : "unchanged", undefined, more));
    return 0;
  }
  if (note !== undefined) log.warn(note);
  io.out(`${sentence(command, owner, options.all, isChanged, after)}\n`);
  return 0;
}

/** What is written in place of a lost or damaged record must know what the files say of every owner. */
async function rebuildLost(parsed: Parsed, state: NodeState, now: Date): Promise<void> {
  const { lost, damaged } = state.readRecord();
  if (!lost && damaged === undefined) return;
  const [{ openNode }, { readEngine }, { rebuildRecord }] = await Promise.all([
    import("./node.ts"),
    import("../transaction/gather.ts"),
    import("../transaction/rebuild.ts"),
  ]);
  let rootFile = "";
  let view: EngineView | undefined;
  try {
    const node = await openNode(parsed.options);
    rootFile = node.site.rootFile;
    ({ view } = readEngine(node.host, node.backend, node.site));
  } catch (error) {
    // A node can be put on hold before its engine is there, or while that is broken.
    if (!(error instanceof ShimctlError)) throw error;
  }
  state.rebuild(() => rebuildRecord(view, rootFile, state.journal(), now));
}

function sentence(
  command: "hold" | "release",
  owner: string,
  all: boolean,
  isChanged: boolean,
  after: Holds,
): string {
  const whose = all ? "automatic runs of every owner" : `automatic runs of owner '${owner}'`;
  const on = Object.hasOwn(after, all ? wholeNode : owner) ? after[all ? wholeNode : owner] : undefined;
  if (command === "hold" && on !== undefined) {
    return `${whose} only report, as ${holdWords(on)}\n\`${releaseCommand(all ? wholeNode : owner)}\` lets them go on`;
  }
  const rest = after[wholeNode];
  const node = rest === undefined ? "" : `; the whole node is on hold still, as ${holdWords(rest)}`;
  return isChanged ? `released: ${whose} go on${node}` : `unchanged: there was no hold to release${node}`;
}

function untilOf({ options }: Parsed, forMs: number, now: Date): string {
  const until = new Date(now.getTime() + forMs);
  if (forMs > 0 && !Number.isNaN(until.getTime())) return until.toISOString();
  const called = options.given.get("for") ?? "--for";
  throw new ShimctlError("usage", `Cannot hold for so long: ${called} ${shown(String(forMs / 1000))} s`, {
    hint: "write --for 2h, or leave it out to hold until `shimctl release`",
  });
}

function reasonIn({ options }: Parsed): string | undefined {
  const { reason } = options;
  if (reason === undefined || (!/\p{Cc}/u.test(reason) && reason.length <= 200)) return reason;
  throw new ShimctlError(
    "usage",
    `Cannot use ${options.given.get("reason") ?? "--reason"}, which must be one line of at most 200 characters: ${shown(reason)}`,
  );
}
