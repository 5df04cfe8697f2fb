import {
  appendDurable,
  ensureFolder,
  listOldest,
  readState,
  removeState,
  sha256,
  writeDurable,
} from "../host/state.ts";
import { type JournalEntry, type JournalLine, parseJournal, refuseNewer, renderLine } from "./journal.ts";
import { type NodeRecord, parseRecord, renderRecord } from "./record.ts";

/** Old bytes are kept until there are more than this many, or they take more than this many bytes. */
const storeFiles = 64;
const storeBytes = 32 << 20;
const journalBytes = 1 << 20;

export const stateFolder = "/var/lib/shimctl";

/** The state folder of one node: record, journal, store of old bytes, and what was kept aside. */
export interface NodeState {
  readRecord(): { record: NodeRecord; lost: boolean };
  writeRecord(record: NodeRecord): void;
  journal(): JournalLine[];
  /**
   * The lines of the last operation. Only that one can be unfinished: operations follow one another under the
   * lock, and each begins by finishing or undoing the one before.
   */
  lastOperation(): JournalLine[];
  append(operation: string, entry: JournalEntry): void;
  /** Keeps bytes durably; returns their hash. */
  store(bytes: Uint8Array): string;
  stored(hash: string): Uint8Array | undefined;
  /** Keeps somebody's bytes that could not be merged; returns the path, as the node names it. */
  keepAside(bytes: Uint8Array): string;
  /** Drops the oldest bytes beyond the bound, and starts a new journal when the old one is long. */
  prune(): void;
}

/** @param real turns a host path into the path outside the host root */
export function openState(real: (path: string) => string, now: () => Date): NodeState {
  const folder = real(stateFolder);
  const at = (name: string) => `${folder}/${name}`;
  const journalFiles = [at("journal.1"), at("journal")];
  const ensure = (...names: string[]) => {
    for (const name of ["", ...names]) ensureFolder(name === "" ? folder : at(name), 0o700);
  };
  return {
    readRecord: () => parseRecord(readState(at("record.json")), `${stateFolder}/record.json`),
    writeRecord(record) {
      ensure();
      writeDurable(at("record.json"), renderRecord(record));
    },
    journal: () =>
      journalFiles.flatMap((path) =>
        parseJournal(new TextDecoder().decode(readState(path) ?? new Uint8Array())),
      ),
    lastOperation() {
      const text = new TextDecoder().decode(readState(at("journal")) ?? new Uint8Array());
      const begin = text.lastIndexOf('"step":"begin"');
      const last = begin < 0 ? "" : text.slice(text.lastIndexOf("\n", begin) + 1);
      refuseNewer(last, `${stateFolder}/journal`);
      return parseJournal(last);
    },
    append(operation, entry) {
      ensure();
      appendDurable(at("journal"), renderLine(operation, now().toISOString(), entry));
    },
    store(bytes) {
      const hash = sha256(bytes);
      ensure("store");
      if (readState(at(`store/${hash}`)) === undefined) writeDurable(at(`store/${hash}`), bytes);
      return hash;
    },
    stored: (hash) => readState(at(`store/${hash}`)),
    keepAside(bytes) {
      const name = `${now().toISOString().replaceAll(":", "-")}-${sha256(bytes).slice(0, 16)}`;
      ensure("conflict");
      writeDurable(at(`conflict/${name}`), bytes);
      return `${stateFolder}/conflict/${name}`;
    },
    prune() {
      // Under the lock nobody else writes here: what a crash left half-written is nobody's.
      for (const part of ["", "store/", "conflict/"]) {
        for (const { name } of listOldest(at(part))) if (name.endsWith(".tmp")) removeState(at(part + name));
      }
      const files = listOldest(at("store"));
      let bytes = files.reduce((sum, file) => sum + file.size, 0);
      for (
        let index = 0;
        index < files.length && (files.length - index > storeFiles || bytes > storeBytes);
        index++
      ) {
        const file = files[index];
        if (file === undefined) break;
        bytes -= file.size;
        removeState(at(`store/${file.name}`));
      }
      const current = readState(at("journal"));
      if (current === undefined || current.length < journalBytes) return;
      writeDurable(at("journal.1"), current);
      removeState(at("journal"));
    },
  };
}
