import { dirname } from "node:path/posix";
import type {
  Adopting,
  EngineState,
  EngineView,
  Expectation,
  FileEdit,
  Problem,
  Snapshot,
  Unmarked,
} from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Bases } from "../handler/asked.ts";
import type { Handler, Need } from "../handler/model.ts";
import { preflight } from "../host/preflight.ts";
import { type Room, refuseFull } from "../host/room.ts";
import type { Host } from "../host/root.ts";
import { refuseShared } from "../host/trust.ts";
import { benefitOfDoubt } from "../host/unmounted.ts";
import { isSame } from "../same.ts";
import { sha256 } from "../sha256.ts";
import { desired, type Intent } from "./desire.ts";
import { unmarkedOf } from "./drift.ts";
import type { Effect } from "./effect.ts";
import type { Environment } from "./environment.ts";
import { type Incarnation, type Known, type Order, orderAfter, staying } from "./epoch.ts";
import { withEdits } from "./gather.ts";
import type { Proof } from "./outcome.ts";
import {
  type AdoptedFrom,
  type AdoptedHandlers,
  adoptedBy,
  basesIn,
  handlersIn,
  orderIn,
  ownersOf,
  recordedByOthers,
} from "./record.ts";
import type { Request } from "./request.ts";
import { basesAfter, settle } from "./settle.ts";
import { type NodeState, stateFolder } from "./state.ts";

export interface Planned {
  readonly effect: Effect;
  readonly seen: Snapshot;
  /** What `seen` becomes by the edits: what was checked. */
  readonly candidate: Snapshot;
  readonly edits: readonly FileEdit[];
  /** What the record said when this was planned. */
  readonly recorded: Recorded;
  readonly previous: readonly Handler[];
  readonly handlers: readonly Handler[];
  readonly bases: Bases;
  /** What the record shall say of the owner's incarnations; `undefined`: what it says now. */
  readonly order: Order | undefined;
  readonly notes: readonly string[];
  readonly warnings: readonly Problem[];
  readonly proof: Proof;
  readonly expectation: Expectation;
}

/**
 * Refuses before anything is written what could not be written whole, or what others than root may write as well.
 * @returns a warning where others may by the engine's own design
 */
export function refuseUnwritable(
  { host, site }: Pick<Environment, "host" | "site">,
  edits: readonly FileEdit[],
): Problem[] {
  if (edits.length === 0) return [];
  const record = `${stateFolder}/record.json`;
  for (const edit of edits) preflight(host, edit.path, edit.tempDir);
  preflight(host, record);
  const sharers = [...edits.map((edit) => edit.path), record].flatMap(
    (path) => refuseShared(host, path, site.sharedWith) ?? [],
  );
  refuseFull(host, edits.flatMap(roomFor));
  const [group] = sharers;
  if (group === undefined || site.sharedWith === undefined) return [];
  return [
    {
      severity: "warning",
      rule: "shared-by-design",
      message: `Members of group '${group}' may write to this folder, as ${site.source?.by ?? site.layout} lets them: on this node they are as good as root`,
      path: site.sharedWith.path,
    },
  ];
}

/** Refuses to edit what the node's system keeps as it is. A file that is not there yet is ours. */
export function refuseKept({ refuseKept: refuse }: Environment, edits: readonly FileEdit[]): void {
  for (const { path, before } of edits) if (before !== null) refuse?.(path);
}

/** The new file beside the old one; the old bytes in the store; journal and record. */
function roomFor({ path, before, after, tempDir }: FileEdit): Room[] {
  const folder = tempDir ?? dirname(path);
  return [
    { folder, bytes: after?.length ?? 0, files: 1 },
    { folder: stateFolder, bytes: (before?.length ?? 0) + ownBytes, files: 2 },
  ];
}

/** What a few journal lines and a record take, with what a handler says of itself. */
const ownBytes = 16 << 10;

/** What the record says that the owner has. */
export interface Recorded {
  readonly handlers: readonly Handler[];
  readonly bases: Bases;
  /** Of the owner's incarnations. */
  readonly known: Known;
  readonly adopted: AdoptedHandlers;
  /** By handler: which other owner installed it, and whether after this one's last change. */
  readonly others: ReadonlyMap<string, { readonly owner: string; readonly isLater: boolean }>;
}

export function recordedOf(env: Environment, state: NodeState, request: Request): Recorded {
  const { record } = state.readRecord();
  const { rootFile } = env.site;
  return {
    handlers: handlersIn(record, rootFile, request.owner),
    bases: basesIn(record, rootFile, request.owner),
    known: orderIn(record, rootFile, request.owner, env.now()),
    adopted: adoptedBy(record, rootFile, request.owner),
    others: recordedByOthers(ownersOf(record, rootFile), request.owner),
  };
}

/** What an edit takes over, as the record keeps it. */
export function adoptedIn(edits: readonly FileEdit[]): Record<string, AdoptedFrom[]> {
  const found: Record<string, AdoptedFrom[]> = Object.create(null);
  for (const { before, adopts = [] } of edits) {
    const store = before === null ? "" : sha256(before);
    for (const { handler, path, owner } of adopts)
      found[handler] = [
        ...(found[handler] ?? []),
        { path, ...(owner === undefined ? {} : { owner }), store },
      ];
  }
  return found;
}

/** What may be taken out of others' files; `undefined` for the usual run, which takes nothing. */
function adoptingOf(request: Request, { adopted }: Recorded, unmarked: Unmarked): Adopting | undefined {
  if (!adoptsAny(request, { adopted }) && unmarked.size === 0) return undefined;
  const paths = (places: readonly AdoptedFrom[]) => places.map(({ path }) => path);
  const before = new Map(Object.entries(adopted).map(([name, places]) => [name, paths(places)]));
  return { mode: request.adopt, before, unmarked };
}

/** Whether a run may take anything out of others' files. */
export function adoptsAny(request: Request, { adopted }: Pick<Recorded, "adopted">): boolean {
  return request.adopt !== undefined || Object.keys(adopted).length > 0;
}

export function prepare(
  env: Environment,
  request: Request,
  seen: Snapshot,
  view: EngineView,
  recorded: Recorded,
  inUse: ReadonlySet<string> = new Set(),
): Planned {
  const { host, backend, site } = env;
  const { intent, notes } = settle(
    request.intent,
    request.updatePresets ? {} : recorded.bases,
    (handler) => missingFrom(host, view.needs([handler])).length === 0,
  );
  const others = othersHandlers(intent, recorded.known, request.incarnation);
  const kept = new Set([...inUse, ...others.keys()]);
  const marked = view.handlersOf(request.owner);
  const unmarked = unmarkedOf(
    view,
    recorded.handlers.filter(({ name }) => recorded.others.get(name)?.isLater !== true),
    recorded.adopted,
  );
  const isMarked = new Set(marked.map(({ name }) => name));
  const previous = [
    ...marked,
    ...recorded.handlers.filter(({ name }) => unmarked.has(name) && !isMarked.has(name)),
  ];
  const handlers = desired(intent, request.owner, view.state, { ...recorded, found: previous }, kept);
  const planned = view.plan(request.owner, handlers, adoptingOf(request, recorded, unmarked));
  const edits = intent.command === "rollback" ? intent.asItWas(seen, view, planned) : planned;
  refuseDangling(host, site.rootFile, edits);
  refuseKept(env, edits);
  const missing = missingOnHost(host, view.needs(brought(intent, previous)), request.allowMissing);
  const candidateSeen = edits.length === 0 ? seen : withEdits(host, backend, site, seen, edits);
  const candidate = edits.length === 0 ? view : backend.read(site, candidateSeen);
  refuseLosingDefault(view.state, candidate.state, handlers, previous);
  // What uninstall leaves is what others wrote. Where that was broken before us, it is theirs to mend.
  const removing =
    intent.command === "uninstall" ||
    (intent.command === "rollback" && brought(intent, previous).length === 0);
  const problems = candidate
    .check(benefitOfDoubt(host))
    .map((problem): Problem => (removing ? { ...problem, severity: "warning" } : problem));
  const [broken] = problems.filter((problem) => problem.severity === "error");
  if (broken !== undefined && edits.length > 0) {
    const before = view
      .check(benefitOfDoubt(host))
      .some((problem) => problem.rule === broken.rule && problem.path === broken.path);
    throw new ShimctlError(
      "invalid-config",
      before ? `The engine's configuration is broken already: ${broken.message}` : broken.message,
      placeOf(broken),
    );
  }
  const proves = env.proveWith !== undefined && edits.length > 0;
  if (proves) env.proveWith?.(candidate);
  const found = candidate.handlersOf(request.owner);
  // A rollback to bytes that had lost their markers: these are the owner's all the same.
  const bare = intent.command === "rollback" ? candidate.unmarked(handlers) : unmarkedNone;
  const left = [
    ...found,
    ...handlers.filter(({ name }) => bare.has(name) && !found.some((handler) => handler.name === name)),
  ];
  const expected = view.expect(request.owner, handlers);
  const stays = new Set([...handlers.map(({ name }) => name), ...expected.absent]);
  const gone = [...unmarked.keys()].filter((name) => !stays.has(name));
  const expectation = { ...expected, absent: [...expected.absent, ...gone] };
  return {
    edits,
    seen,
    candidate: candidateSeen,
    recorded,
    effect: {
      removing,
      owner: request.owner,
      desired: left,
      needs: view.needs(left),
      expectation,
      onDisk: candidate.state.handlers,
    },
    previous,
    handlers: left,
    bases: basesAfter(intent, recorded.bases, left),
    order: orderOf(request, recorded.known, left),
    notes: [
      ...notes,
      ...[...others].map(
        ([name, instance]) =>
          `handler '${name}' stays, as ${instance === "" ? "another instance" : `instance ${instance}`} of the same epoch asked for it`,
      ),
    ],
    warnings: [...missing, ...problems.filter((problem) => problem.severity === "warning")],
    proof: { rules: "passed", "engine-parser": proves ? "passed" : "not run", served: "not run" },
    expectation,
  };
}

const unmarkedNone: Unmarked = new Map();

/** Whom an uninstall leaves its handlers, by handler: of those that it would remove. */
function othersHandlers(
  intent: Intent,
  known: Known,
  incarnation: Incarnation | undefined,
): ReadonlyMap<string, string> {
  if (intent.command !== "uninstall") return new Map();
  const { names } = intent;
  return new Map(
    [...staying(known, incarnation)].filter(([name]) => names === "all" || names.includes(name)),
  );
}

function orderOf(
  { intent, incarnation, outOfOrder = false }: Request,
  known: Known,
  left: readonly Handler[],
): Order | undefined {
  if (outOfOrder) return undefined;
  const asked = intent.command === "uninstall" ? [] : intent.handlers.map(({ handler }) => handler.name);
  const names = left.map(({ name }) => name);
  return orderAfter(known, intent.command, incarnation, new Set(asked), names);
}

/** The handlers that a command brings, which must be able to run a pod. */
function brought(intent: Intent, previous: readonly Handler[]): Handler[] {
  if (intent.command === "uninstall") return [];
  const asked = intent.handlers.map(({ handler }) => handler);
  if (intent.command !== "rollback") return asked;
  return asked.filter((handler) => !previous.some((before) => isSame(before, handler)));
}

/** Nobody can say what a link that leads nowhere is meant to lead to; a file made there may be in the wrong place. */
function refuseDangling(host: Host, rootFile: string, edits: readonly FileEdit[]): void {
  if (edits.length === 0) return;
  for (const path of new Set([rootFile, ...edits.map((edit) => edit.path)])) {
    const read = host.read(path);
    if (read.kind !== "absent" || !read.dangling) continue;
    throw new ShimctlError(
      "unsupported-node",
      `Cannot write this file, as its path is a symbolic link that leads nowhere: ${read.resolved}`,
      { path, hint: "put a file where the link leads, or remove the link" },
    );
  }
}

/** Without its default handler the engine does not load its CRI plugin, and the node is lost. */
function refuseLosingDefault(
  { defaultHandler, nextDefault, defaultKey }: EngineState,
  after: EngineState,
  wanted: readonly Handler[],
  previous: readonly Handler[],
): void {
  for (const name of [defaultHandler, nextDefault]) {
    const had = previous.some((handler) => handler.name === name);
    if (name === undefined || !had || wanted.some((handler) => handler.name === name)) continue;
    // Another's definition of it, or the engine's own, is in effect again.
    if (after.handlers.some((handler) => handler.name === name)) continue;
    throw new ShimctlError("in-use", `Cannot remove handler '${name}', as ${defaultKey} names it`, {
      hint: `set ${defaultKey} to another handler first`,
    });
  }
}

function placeOf(problem: Problem): { path?: string; line?: number; hint?: string } {
  const { path, line, hint } = problem;
  return {
    ...(path === undefined ? {} : { path }),
    ...(line === undefined ? {} : { line }),
    ...(hint === undefined ? {} : { hint }),
  };
}

/** A handler whose binary or configuration is not there would be served and fail at its first pod. */
function missingOnHost(host: Host, needed: readonly Need[], allow: boolean): Problem[] {
  const unseen = (need: Need) => need.paths.find((path) => host.unmounted?.(path) !== undefined);
  const notThere = missingFrom(host, needed);
  const missing = notThere.filter((need) => unseen(need) === undefined);
  const [first] = missing;
  if (first !== undefined && !allow) {
    const places =
      first.paths.length === 1
        ? first.paths[0]
        : `${first.paths.at(-1)?.slice((first.paths.at(-1)?.lastIndexOf("/") ?? -1) + 1)} in ${first.paths.map((path) => path.slice(0, path.lastIndexOf("/"))).join(":")}`;
    throw new ShimctlError(
      "missing-on-host",
      `Cannot install handler '${first.handler}', as its ${first.what} is not on the host: ${places}`,
      {
        hint: "put it there first, pass --prefix when it is elsewhere, or --allow-missing when it comes later",
      },
    );
  }
  return notThere.map((need): Problem => {
    const path = unseen(need);
    return {
      severity: "warning",
      rule: path === undefined ? "missing-on-host" : "not-mounted",
      message:
        path === undefined
          ? `Pods of handler '${need.handler}' fail until its ${need.what} is on the host: ${need.paths[0]}`
          : `Whether the ${need.what} of handler '${need.handler}' is on the host cannot be seen, as its folder is not mounted below ${host.root}: ${path}`,
      handler: need.handler,
    };
  });
}

function missingFrom(host: Host, needed: readonly Need[]): Need[] {
  return needed.filter(
    (need) =>
      !need.paths.some((path) => (need.what === "binary" ? host.isExecutable(path) : host.exists(path))),
  );
}
