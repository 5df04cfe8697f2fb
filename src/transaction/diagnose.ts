import type { EngineView, FileEdit, Snapshot } from "../engine/backend.ts";
import { mendingOf } from "../engine/mending.ts";
import type { Remedy } from "../engine/remedy.ts";
import { renderedBy } from "../engine/rendered.ts";
import { ShimctlError } from "../error.ts";
import { sameBytes } from "../host/exchange.ts";
import type { HostFiles, Read } from "../host/host.ts";
import { sha256 } from "../sha256.ts";
import { decodeToml, encodeToml } from "../toml/decode.ts";
import { holdsAnything, mend, type Owners } from "../toml/mend/mend.ts";
import { hasCopy } from "./copies.ts";
import type { Environment } from "./environment.ts";
import { gather, readEngine, withEdits } from "./gather.ts";
import { handlersIn, ownersOf } from "./record.ts";
import type { NodeState } from "./state.ts";

/** Something that the engine refuses, or with which it would lose what is there. */
export interface Finding {
  readonly rule: string;
  readonly message: string;
  readonly path: string;
  readonly line?: number;
  readonly column?: number;
  /** The redacted line with a caret below it. */
  readonly excerpt?: string;
  /** What is done about it; `undefined` where nobody can say what was meant, and it is left. */
  readonly remedy?: string;
  readonly hint?: string;
}

export interface Diagnosis {
  readonly findings: readonly Finding[];
  /** What mends all that can be mended; the root file last. */
  readonly edits: readonly FileEdit[];
  /** The configuration with that; `undefined` where it still cannot be read, or not by this program. */
  readonly view: EngineView | undefined;
  /** Whether every file could be read. */
  readonly readable: boolean;
  /** Owners of which something goes, as others define it by now. */
  readonly gaveWay: readonly string[];
}

export interface DiagnoseOptions {
  /** The one file to look at. */
  readonly only?: string | undefined;
  /** Bytes that shall be in that file, whatever is in it. */
  readonly restored?: Uint8Array | undefined;
  /** What this program does not work with is no damage, and no reason to end. */
  readonly tolerant?: boolean;
}

/** More files than any configuration has. */
const mostSteps = 100;

/**
 * What is broken in the configuration that the engine would read, and the edits that mend it: each file by itself,
 * then what the files say together. Nothing is written. Our own damaged blocks come back from the record.
 * Throws ShimctlError for what is no damage, as where nobody can tell the engine's version
 */
export function diagnose(
  env: Pick<Environment, "host" | "backend" | "site">,
  state: NodeState,
  { only, restored, tolerant = false }: DiagnoseOptions = {},
): Diagnosis {
  const work = new Map<string, Uint8Array | null>();
  const it: Case = {
    env,
    state,
    only,
    tolerant,
    work,
    findings: [],
    anew: new Set(),
    emptied: new Set(),
    gaveWay: new Set(),
    mended: new Set(),
  };
  if (only !== undefined && restored !== undefined) {
    work.set(only, restored);
    it.mended.add(only);
  }
  const { site } = env;
  const root = overlaid(env.host, work).read(site.rootFile);
  if (isLost(it, root))
    return {
      findings: [lostFinding(it, site.rootFile)],
      edits: [],
      view: undefined,
      readable: false,
      gaveWay: [],
    };
  const read = untilReadable(it);
  if (typeof read === "boolean") {
    // Nothing is written anew now: a block that was emptied for it stays as it is.
    for (const path of it.emptied) takeBack(it, path);
    return {
      findings: it.findings,
      edits: editsOf(it),
      view: undefined,
      readable: read,
      gaveWay: [...it.gaveWay],
    };
  }
  for (const [path, file] of read.seen.files) if (isLost(it, file)) findEmpty(it, path);
  const hasGone = [...work.values()].includes(null);
  const readable = hasGone ? readEngine(overlaid(env.host, work), env.backend, site) : read;
  const { view, edits } = writeAnew(it, readable);
  for (const problem of view.check(env.host)) {
    if (problem.severity !== "error") continue;
    const { rule, message, path = site.rootFile, line, hint } = problem;
    const place = line === undefined ? {} : { line };
    it.findings.push({ rule, message, path, ...place, ...(hint === undefined ? {} : { hint }) });
  }
  return { findings: it.findings, edits: editsOf(it, edits), view, readable: true, gaveWay: [...it.gaveWay] };
}

interface Case {
  readonly env: Pick<Environment, "host" | "backend" | "site">;
  readonly state: NodeState;
  readonly only: string | undefined;
  readonly tolerant: boolean;
  /** What files are to hold, by path; `null` for one that is made anew from nothing. */
  readonly work: Map<string, Uint8Array | null>;
  readonly findings: Finding[];
  /** Owners whose blocks have to be written anew. */
  readonly anew: Set<string>;
  /** Files in which such a block stands empty meanwhile. */
  readonly emptied: Set<string>;
  /** Owners of which something went, as others define it by now: it is not written again. */
  readonly gaveWay: Set<string>;
  /** Files that were mended already: what is wrong with them still, stays. */
  readonly mended: Set<string>;
}

interface Readable {
  readonly seen: Snapshot;
  readonly view: EngineView;
}

/**
 * Mends one file after the other until the engine could read them all. `false` where one stays unreadable, `true`
 * where the engine can read what was mended and this program does not work with it.
 */
function untilReadable(it: Case): Readable | boolean {
  const { env, work } = it;
  const { backend, site } = env;
  const files = overlaid(env.host, work);
  const known = new Set<string>();
  for (let step = 0; step < mostSteps; step++) {
    let seen: Snapshot | undefined;
    try {
      const read = readEngine(files, backend, site);
      const remedies = remediesFor(it, read.seen, known);
      if (remedies.length === 0) return read;
      for (const remedy of remedies) applyRemedy(it, files, remedy);
    } catch (error) {
      if (!(error instanceof ShimctlError)) throw error;
      seen = snapshotOf(files, it);
      const remedies =
        error.code === "unsupported-config" && seen !== undefined ? remediesFor(it, seen, known) : [];
      if (remedies.length > 0) {
        for (const remedy of remedies) applyRemedy(it, files, remedy);
        continue;
      }
      if (error.code === "unsupported-config" && (work.size > 0 || it.tolerant)) return true;
      if (error.code !== "invalid-config" && error.code !== "conflict") throw error;
      if (!mendFile(it, files, error)) return false;
    }
  }
  return false;
}

/** What is on disk, where that much can be read. */
function snapshotOf(files: HostFiles, { env }: Case): Snapshot | undefined {
  try {
    return gather(files, env.backend, env.site);
  } catch (error) {
    if (error instanceof ShimctlError) return undefined;
    throw error;
  }
}

function remediesFor({ env, only, findings }: Case, seen: Snapshot, known: Set<string>): Remedy[] {
  const { site } = env;
  const cut = findings.flatMap(({ path, remedy, excerpt = "" }) =>
    path === site.rootFile && remedy?.startsWith("cut ") ? [excerpt.split("\n", 1)[0] ?? ""] : [],
  );
  return mendingOf(env.backend.name)
    .remedies(site, seen, cut)
    .filter((remedy) => {
      const key = `${remedy.path}\0${remedy.message}`;
      if (known.has(key) || (only !== undefined && remedy.path !== only)) return false;
      known.add(key);
      return true;
    });
}

function applyRemedy({ work, findings }: Case, files: HostFiles, remedy: Remedy): void {
  const { rule, message, path, line, words, edit } = remedy;
  const read = files.read(path);
  if (read.kind !== "file") return;
  work.set(path, encodeToml(edit(decodeToml(read.bytes, path))));
  findings.push({ rule, message, path, ...(line === undefined ? {} : { line }), remedy: words });
}

/** @returns whether the file that the error is about can be read now */
function mendFile(it: Case, files: HostFiles, error: ShimctlError): boolean {
  const { env, state, work, findings, only } = it;
  const { path, line, column, excerpt, hint } = error.facts;
  if (path === undefined) throw error;
  const read = files.read(path);
  const isOther = only !== undefined && path !== only;
  const by =
    read.kind === "file" ? renderedBy(env.site, path, Buffer.from(read.bytes).toString("latin1")) : undefined;
  if (read.kind !== "file" || isOther || by !== undefined || it.mended.has(path)) {
    if (it.mended.has(path)) takeBack(it, path);
    findings.push({
      rule: "unreadable",
      message: error.message,
      path,
      ...(line === undefined ? {} : { line }),
      ...(column === undefined ? {} : { column }),
      ...(excerpt === undefined ? {} : { excerpt }),
      hint:
        by !== undefined
          ? `restart ${by}, which writes this file anew`
          : (hintFor(it, path) ?? hint ?? "mend it by hand"),
    });
    return false;
  }
  it.mended.add(path);
  const { acceptsMark } = mendingOf(env.backend.name);
  const { damages, bytes, anew, gaveWay } = mend(read.bytes, {
    path,
    owners: recorded(env, state),
    acceptsMark,
  });
  for (const { remedy, ...damage } of damages) {
    const left = { hint: hintFor(it, path) ?? "mend this line by hand" };
    findings.push({ ...damage, path, ...(remedy === undefined ? left : { remedy }) });
  }
  if (bytes === undefined) return false;
  // What is wrong with it is no damage of its bytes: the error itself is what there is to say.
  if (sameBytes(bytes, read.bytes)) return mendFile(it, files, error);
  for (const owner of anew) it.anew.add(owner);
  if (anew.length > 0) it.emptied.add(path);
  for (const owner of gaveWay) it.gaveWay.add(owner);
  work.set(path, bytes);
  return true;
}

/** What did not make a file whole is not written: it stays as it is, and everything in it is said. */
function takeBack(it: Case, path: string): void {
  if (!it.work.delete(path)) return;
  it.anew.clear();
  for (const [index, finding] of it.findings.entries()) {
    if (finding.path !== path) continue;
    const { remedy: _, ...left } = finding;
    it.findings[index] = { hint: hintFor(it, path) ?? "mend it by hand", ...left };
  }
}

/** Handlers by owner, as the record has them. */
function recorded({ site }: Pick<Environment, "site">, state: NodeState): Owners {
  const owners = ownersOf(state.readRecord().record, site.rootFile);
  return new Map(Object.entries(owners).map(([owner, { handlers }]) => [owner, Object.keys(handlers)]));
}

function hintFor({ env, state }: Case, path: string): string | undefined {
  const { host } = env;
  const sources = (["store", "bak"] as const).filter((source) => hasCopy(source, host, state, path));
  if (sources.length === 0) return undefined;
  const commands = sources.map((source) => `\`shimctl repair --from ${source} ${path}\``);
  return `mend it by hand, or restore an older version: ${commands.join(" or ")}`;
}

/** A file in which nothing is left, while it is known that something was. */
function isLost({ env, state }: Case, read: Read): boolean {
  if (read.kind !== "file" || holdsAnything(read.bytes)) return false;
  const { host } = env;
  const last = state.journal().findLast((line) => line.step === "committed" && line.path === read.path);
  // It was left so by us, as where somebody's link leads to what was ours alone.
  if (last?.step === "committed" && last.after === sha256(read.bytes)) return false;
  return (
    hasCopy("store", host, state, read.path) ||
    hasCopy("bak", host, state, read.path) ||
    ownerOfFile(state, read.path) !== undefined
  );
}

function lostFinding(it: Case, path: string): Finding {
  const hint = hintFor(it, path) ?? "put back what was in it";
  return { rule: "empty", message: "the file is empty, and was not before", path, line: 1, hint };
}

/** A drop-in of ours is written anew; anybody else's content only they know. */
function findEmpty(it: Case, path: string): void {
  const owner = ownerOfFile(it.state, path);
  const isOurs =
    owner !== undefined && recorded(it.env, it.state).has(owner) && path !== it.env.site.rootFile;
  const hasFinding = it.findings.some((finding) => finding.path === path && finding.rule === "empty");
  if (hasFinding || (it.only !== undefined && it.only !== path)) return;
  if (!isOurs) {
    it.findings.push(lostFinding(it, path));
    return;
  }
  it.anew.add(owner);
  // Empty, it would be somebody else's, to which a block of ours was added.
  it.work.set(path, null);
  const remedy = `write the block of owner '${owner}' anew, from the record`;
  it.findings.push({ ...lostFinding(it, path), remedy });
}

/** For whom a file was written last, by the journal; `undefined` where it was removed, or is none of ours. */
function ownerOfFile(state: NodeState, path: string): string | undefined {
  const lines = state.journal();
  const last = lines.findLast((line) => line.step === "committed" && line.path === path);
  if (last?.step !== "committed" || last.after === null) return undefined;
  const begin = lines.find((line) => line.step === "begin" && line.operation === last.operation);
  return begin?.step === "begin" ? begin.owner : undefined;
}

/** Gives owners back what the record says they have, where a damage took it out of the files. */
function writeAnew(it: Case, read: Readable): { view: EngineView; edits: FileEdit[] } {
  const { env, state, findings } = it;
  const { backend, site } = env;
  const files = overlaid(env.host, it.work);
  const { record } = state.readRecord();
  const isTouched = findings.some(
    ({ path, remedy }) => remedy !== undefined && ownerOfFile(state, path) !== undefined,
  );
  const lost = [...recorded(env, state).keys()].filter(
    (owner) =>
      !it.gaveWay.has(owner) &&
      !read.view.state.holdings.some((holding) => holding.owner === owner && holding.loaded),
  );
  let { seen, view } = read;
  const edits: FileEdit[] = [];
  for (const owner of new Set([...it.anew, ...(isTouched ? lost : [])])) {
    try {
      const planned = view.plan(owner, handlersIn(record, site.rootFile, owner));
      const next = withEdits(files, backend, site, seen, planned);
      view = backend.read(site, next);
      seen = next;
      edits.push(...planned);
      const isSaid = findings.some(({ remedy }) => remedy?.includes(`owner '${owner}'`) === true);
      const [first] = planned;
      if (isSaid || first === undefined) continue;
      findings.push({
        rule: "block",
        message: `what owner '${owner}' has installed is not in it any more`,
        path: first.path,
        remedy: `write the block of owner '${owner}' anew, from the record`,
      });
    } catch (error) {
      if (!(error instanceof ShimctlError)) throw error;
      findings.push({
        rule: "block",
        message: `what owner '${owner}' has installed cannot be written anew: ${error.message}`,
        path: error.facts.path ?? site.rootFile,
        hint: error.facts.hint ?? "install it again",
      });
      // An empty block says less than the damaged one: that stays as it is.
      if (!it.anew.has(owner) || it.emptied.size === 0) continue;
      for (const path of it.emptied) takeBack(it, path);
      return { view: read.view, edits: [] };
    }
  }
  return { view, edits };
}

/** The host with files as they are to be. */
function overlaid(host: HostFiles, work: ReadonlyMap<string, Uint8Array | null>): HostFiles {
  return {
    ...host,
    read(path) {
      const read = host.read(path);
      const bytes = work.get(path);
      if (bytes === undefined) return read;
      if (bytes === null) return { kind: "absent", path, resolved: path, dangling: false };
      if (read.kind === "file") return { ...read, bytes };
      return { kind: "file", path, resolved: path, bytes, mode: 0o644, uid: 0, gid: 0, nlink: 1 };
    },
  };
}

/** One edit for each file: from what it holds now to what it shall hold, whatever was planned in between. */
function editsOf({ env, work }: Case, planned: readonly FileEdit[] = []): FileEdit[] {
  const { host, backend, site } = env;
  const mending = mendingOf(backend.name);
  const isKept = ([path, bytes]: [string, Uint8Array | null]) =>
    bytes !== null || planned.some((edit) => edit.path === path);
  const last = new Map<string, FileEdit | undefined>(
    [...work].filter(isKept).map(([path]) => [path, undefined]),
  );
  for (const edit of planned) last.set(edit.path, edit);
  const edits = [...last].flatMap(([path, plan]): FileEdit[] => {
    const read = host.read(path);
    const before = read.kind === "file" ? read.bytes : null;
    const after = plan === undefined ? (work.get(path) ?? null) : plan.after;
    if (sameBytes(before, after)) return [];
    const tempDir = mending.tempDir(site, path);
    return [
      {
        ...(plan ?? {}),
        path,
        before,
        after,
        // A damage that has changed is looked at anew.
        edit(base) {
          if (sameBytes(base, before)) return after;
          throw new ShimctlError("conflict", "Cannot mend a file that changes at the same moment", { path });
        },
        bare: (bytes) => bytes,
        ...(tempDir === undefined ? {} : { tempDir }),
      },
    ];
  });
  return edits.sort((a, b) => Number(a.path === site.rootFile) - Number(b.path === site.rootFile));
}
