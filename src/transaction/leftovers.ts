import type { HostFiles } from "../host/host.ts";
import { partOf, tempName } from "../host/temp_name.ts";
import type { JournalLine } from "./journal.ts";

/**
 * Temporary files of ours beside the configuration that the last operation does not explain. Nobody can say
 * whose bytes they hold, so they are reported and never removed.
 */
export function unexplainedTemps(
  host: HostFiles,
  files: readonly string[],
  lastOperation: readonly JournalLine[],
): string[] {
  // What an operation that has ended left behind was left alone on purpose, and no run will look at it again.
  const open = lastOperation.some((line) => line.step === "end") ? [] : lastOperation;
  const explained = new Set(
    open.flatMap((line) => (line.step === "intent" ? [line.temp, partOf(line.temp)] : [])),
  );
  const folders = new Set(files.map((path) => path.slice(0, path.lastIndexOf("/"))));
  return [...folders].flatMap((folder) =>
    (host.list(folder) ?? [])
      .filter((name) => tempName.test(name))
      .map((name) => `${folder}/${name}`)
      .filter((path) => !explained.has(path)),
  );
}
