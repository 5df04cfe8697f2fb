import type { Handler } from "../handler/model.ts";
import { removeEmptyFolder } from "../host/state.ts";
import type { Environment } from "./environment.ts";
import { type NodeRecord, withOwner } from "./record.ts";
import type { NodeState } from "./state.ts";

/** Writes the record, and takes away the folders that we made and that are empty again. */
export function recordOwner(
  env: Environment,
  state: NodeState,
  owner: string,
  handlers: readonly Handler[],
): NodeRecord {
  const { record: known, lost } = state.readRecord();
  const record = withOwner(
    lost ? { ...known, folders: foldersMade(state) } : known,
    owner,
    handlers,
    env.now().toISOString(),
  );
  // Innermost first: a folder is empty only after those in it are gone.
  const folders = noneLeft(record)
    ? [...record.folders]
        .reverse()
        .filter((folder) => !removeEmptyFolder(env.host.real(folder)))
        .reverse()
    : record.folders;
  const next = { ...record, folders };
  state.writeRecord(next);
  return next;
}

function noneLeft(record: NodeRecord): boolean {
  return Object.keys(record.owners).length === 0;
}

/** The folders that the journal says we made: a lost record must not leave them behind for good. */
function foldersMade(state: NodeState): string[] {
  return [...new Set(state.journal().flatMap((line) => (line.step === "begin" ? line.folders : [])))];
}
