import { ShimctlError } from "../error.ts";
import { inWords } from "../host/failure.ts";
import {
  appendDurable,
  ensureFolder,
  isErrno,
  kindOf,
  listOldest,
  makePrivate,
  moveState,
  readState,
  refuseForeign,
  removeState,
  writeDurable,
} from "../host/state.ts";
import { sha256 } from "../sha256.ts";
import {
  hasEnded,
  type JournalEntry,
  type JournalLine,
  journalFormat,
  newestFormat,
  parseJournal,
  renderLine,
  unfinished,
  unreadableLines,
} from "./journal.ts";
import {
  type AdoptedFrom,
  isIdle,
  type NodeRecord,
  parseRecord,
  type ReadRecord,
  recordFormat,
  renderRecord,
  withMissing,
} from "./record.ts";

/** Old bytes are kept until there are more than this many, or they take more than this many bytes. */
const storeFiles = 64;
const storeBytes = 32 << 20;
const journalBytes = 1 << 20;

export const stateFolder = "/var/lib/shimctl";

/** The state folder of one node: record, journal, store of old bytes, and what was kept aside. */
export interface NodeState {
  readRecord(): ReadRecord;
  /**
   * What stands for a lost record, or for what is missing in a damaged one, from now on until one is written:
   * whoever changes it must not write an empty one.
   */
  rebuild(make: () => NodeRecord): void;
  /** Keeps the old one as `record.FORMAT.json` where that was of an older format. Throws as `refuseNewer`. */
  writeRecord(record: NodeRecord): void;
  /** What a newer release has written, in words that follow "Cannot use"; `undefined` where there is nothing. */
  newer(): { readonly path: string; readonly message: string; readonly hint: string } | undefined;
  /**
   * Throws ShimctlError `unsupported-node` where a newer release has written here, which is read and never
   * changed, or where another user could have.
   */
  refuseNewer(): void;
  journal(): JournalLine[];
  /** How many lines of the journal nobody can read. */
  unreadableLines(): number;
  /**
   * The lines of the last operation; none where it ended. Only that one can be unfinished: operations follow one another under the
   * lock, and each begins by finishing or undoing the one before.
   */
  lastOperation(): JournalLine[];
  /** Throws as `refuseNewer`. */
  append(operation: string, entry: JournalEntry): void;
  /** Keeps bytes durably; returns their hash. */
  store(bytes: Uint8Array): string;
  stored(hash: string): Uint8Array | undefined;
  /** Keeps somebody's bytes that could not be merged; returns the path, as the node names it. */
  keepAside(bytes: Uint8Array): string;
  /**
   * Drops the oldest bytes beyond the bound, but none that what is open or the last operation of an owner may
   * need; all of them once nothing of ours is on the node. Starts a new journal when the old one is long.
   */
  prune(): void;
}

/** @param real turns a host path into the path outside the host root */
export function openState(real: (path: string) => string, now: () => Date): NodeState {
  const folder = real(stateFolder);
  const at = (name: string) => (name === "" ? folder : `${folder}/${name}`);
  const guard = <Result>(name: string, work: () => Result): Result => guarded(at(name), name, work);
  const checked = new Set<string>();
  const ensure = (...names: string[]) => {
    // The first write of a run finds out for all others that follow it under the same lock.
    if (!touched) state.refuseNewer();
    touched = true;
    for (const name of ["", ...names]) {
      if (checked.has(name)) continue;
      guard(name, () => {
        ensureFolder(at(name), 0o700);
        makePrivate(at(name));
      });
      checked.add(name);
    }
  };
  const read = (name: string) => guard(name, () => readState(at(name)));
  const write = (name: string, bytes: Uint8Array) => guard(name, () => writeDurable(at(name), bytes));
  const text = (name: string) => new TextDecoder().decode(read(name) ?? new Uint8Array());
  const older = () => {
    try {
      return text("journal.1");
    } catch {
      // It only adds to what is known: a run must not fail over it.
      return "";
    }
  };
  let touched = false;
  let parsed: { readonly bytes: Uint8Array; readonly answer: ReadRecord } | undefined;
  const lastLines = () => {
    const lines = text("journal");
    const begin = lines.lastIndexOf('"step":"begin"');
    // A newer release may call its steps by other names.
    return begin < 0 ? lines : lines.slice(lines.lastIndexOf("\n", begin) + 1);
  };
  const pruneStore = () => {
    const files = listOldest(at("store"));
    if (files.length === 0) return;
    const { record, lost } = state.readRecord();
    const owned = !isIdle(record);
    const excessive = excessOf(files);
    // Nearly every run ends here, and has no use for the whole journal.
    if (excessive.length === 0 && (lost || owned)) return;
    const journal = state.journal();
    // What could not be undone is left to a person, who may look for the old bytes.
    const failed = journal.findLast((line) => line.step === "end")?.result === "undo failed";
    const isOver = !lost && !owned && !failed && unfinished(journal).length === 0;
    const excess = isOver ? files : excessive;
    const needed = new Set([
      ...(isOver ? adoptedBytes(journal) : neededBytes(journal)),
      // Also where the journal that told of it is gone.
      ...Object.values(record.roots).flatMap(({ owners }) =>
        Object.values(owners).flatMap(({ adopted = {} }) => Object.values(adopted).flatMap(storesOf)),
      ),
    ]);
    for (const { name } of excess) if (!needed.has(name)) removeState(at(`store/${name}`));
  };
  let rebuilt: NodeRecord | undefined;
  const readNow = (): ReadRecord => {
    const bytes = read("record.json");
    // One run asks for it several times; to read it is nothing beside checking it.
    if (bytes !== undefined && parsed !== undefined && Buffer.compare(bytes, parsed.bytes) === 0)
      return parsed.answer;
    const answer = parseRecord(bytes);
    parsed = bytes === undefined ? undefined : { bytes, answer };
    return answer;
  };
  const state: NodeState = {
    readRecord() {
      const answer = readNow();
      const lacks = answer.lost || answer.damaged !== undefined;
      return lacks && rebuilt !== undefined ? { ...answer, record: rebuilt } : answer;
    },
    rebuild(make) {
      if (rebuilt !== undefined) return;
      const { record, lost, damaged } = readNow();
      if (lost) rebuilt = make();
      else if (damaged !== undefined) rebuilt = withMissing(record, make());
    },
    writeRecord(record) {
      ensure();
      const { format = recordFormat } = this.readRecord();
      const old = format < recordFormat ? read("record.json") : undefined;
      if (old !== undefined) write(`record.${format}.json`, old);
      write("record.json", renderRecord(record));
    },
    newer() {
      const { format = 0 } = this.readRecord();
      if (format > recordFormat) return newerThan("record.json", "record", format);
      const line = newestFormat(lastLines());
      return line > journalFormat ? newerThan("journal", "journal", line) : undefined;
    },
    refuseNewer() {
      for (const name of ["", "record.json", "journal"]) guard(name, () => refuseForeign(at(name)));
      const newer = this.newer();
      if (newer === undefined) return;
      const { message, ...facts } = newer;
      throw new ShimctlError("unsupported-node", `Cannot use ${message}`, facts);
    },
    journal: () => [...parseJournal(older()), ...parseJournal(text("journal"))],
    unreadableLines: () => unreadableLines(older()) + unreadableLines(text("journal")),
    lastOperation() {
      const last = lastLines();
      return hasEnded(last) ? [] : parseJournal(last);
    },
    append(operation, entry) {
      ensure();
      const line = renderLine(operation, now().toISOString(), entry);
      guard("journal", () => appendDurable(at("journal"), line));
    },
    store(bytes) {
      const hash = sha256(bytes);
      ensure("store");
      if (storedAs(at(`store/${hash}`), hash) === undefined) write(`store/${hash}`, bytes);
      return hash;
    },
    stored: (hash) => (/^[0-9a-f]{64}$/.test(hash) ? storedAs(at(`store/${hash}`), hash) : undefined),
    keepAside(bytes) {
      const name = `${now().toISOString().replaceAll(":", "-")}-${sha256(bytes).slice(0, 16)}`;
      ensure("conflict");
      write(`conflict/${name}`, bytes);
      return `${stateFolder}/conflict/${name}`;
    },
    prune() {
      // A run that wrote nothing has made nothing more, and is short.
      if (!touched) return;
      // Under the lock nobody else writes here: what a crash left half-written is nobody's.
      for (const part of ["", "store/", "conflict/"]) {
        for (const { name } of listOldest(at(part))) if (name.endsWith(".tmp")) removeState(at(part + name));
      }
      pruneStore();
      const current = readState(at("journal"));
      if (current === undefined || current.length < journalBytes) return;
      // What is open is found in this one.
      if (unfinished(this.lastOperation()).length > 0) return;
      // One step: a copy would leave every line twice where a run is cut short in between.
      guard("journal", () => moveState(at("journal"), at("journal.1")));
    },
  };
  return state;
}

function newerThan(name: string, what: string, format: number) {
  return {
    path: `${stateFolder}/${name}`,
    message: `the ${what} of a newer shimctl: format ${format}`,
    hint: `run a release that writes format ${format} of the ${what}, such as the one that was here before`,
  };
}

/** The oldest ones beyond the bound. */
function excessOf(files: readonly { readonly name: string; readonly size: number }[]) {
  let bytes = files.reduce((sum, file) => sum + file.size, 0);
  const isKept = (index: number) => files.length - index <= storeFiles && bytes <= storeBytes;
  const first = files.findIndex(({ size }, index) => {
    if (isKept(index)) return true;
    bytes -= size;
    return false;
  });
  return first < 0 ? files : files.slice(0, first);
}

/**
 * What an undo would look for: the bytes of each owner's last operation in each configuration, and of an open one;
 * and the files from which something was adopted, which nothing else on the node holds.
 */
function neededBytes(journal: readonly JournalLine[]): ReadonlySet<string> {
  const last = new Map<string, string>();
  for (const line of journal)
    if (line.step === "begin") last.set(`${line.rootFile}\0${line.owner}`, line.operation);
  const operations = new Set([...last.values(), ...unfinished(journal).map(({ begin }) => begin.operation)]);
  return new Set(
    journal.flatMap((line) => {
      if (line.step === "begin") return Object.values(line.adopted ?? {}).flatMap(storesOf);
      return (line.step === "intent" || line.step === "committed") && operations.has(line.operation)
        ? [line.before ?? "", line.after ?? ""]
        : [];
    }),
  );
}

/** The files from which something was adopted: no uninstall brings it back, and nothing else on the node holds it. */
function adoptedBytes(journal: readonly JournalLine[]): ReadonlySet<string> {
  return new Set(
    journal.flatMap((line) =>
      line.step === "begin"
        ? storesOf(
            Object.values(line.adopted ?? {})
              .flat()
              .filter(({ owner }) => owner === undefined),
          )
        : [],
    ),
  );
}

function storesOf(places: readonly AdoptedFrom[]): string[] {
  return places.map(({ store }) => store);
}

/** Stored bytes, if they are what their name says. A damaged copy is as good as none: a merge on it would lose lines. */
function storedAs(path: string, hash: string): Uint8Array | undefined {
  let bytes: Uint8Array | undefined;
  try {
    bytes = readState(path);
  } catch {
    return undefined;
  }
  return bytes !== undefined && sha256(bytes) === hash ? bytes : undefined;
}

/** Failed system calls on our own files, in words, and with the path as the node names it. */
function guarded<Result>(real: string, name: string, work: () => Result): Result {
  try {
    return work();
  } catch (cause) {
    throw describe(cause, real, name);
  }
}

const ownFiles: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  "record.json": ["shimctl's record", "move it away; the record is rebuilt from the markers in the files"],
  journal: [
    "shimctl's journal",
    "move it away, then see `shimctl status`: the journal tells what is unfinished",
  ],
};

const hints: Readonly<Record<string, string>> = {
  EROFS: "mount the node's /var/lib/shimctl writable",
  ENOTDIR: "move that file away",
};

function describe(cause: unknown, real: string, name: string): unknown {
  const path = name === "" ? stateFolder : `${stateFolder}/${name}`;
  const kind = kindOf(real);
  const [what, hint] = ownFiles[name] ?? ["a file of shimctl's own", "move it away"];
  if (kind !== undefined && (kind !== "a folder" || name in ownFiles)) {
    return new ShimctlError("unsupported-node", `Cannot read ${what}, as it is ${kind}`, {
      path,
      hint,
      cause,
    });
  }
  if (cause instanceof ShimctlError)
    return new ShimctlError(cause.code, cause.message, { ...cause.facts, path });
  const code = Object.keys(hints).find((each) => isErrno(cause, each));
  return inWords(cause, "Cannot use shimctl's own files", path, code === undefined ? undefined : hints[code]);
}
