import type { FileEdit } from "../engine/backend.ts";
import { redactText } from "../toml/redact.ts";

/**
 * A unified diff of an edit in which no secret is shown. The lines are compared as they are and redacted then: a
 * file that cannot be parsed is redacted more broadly, and would differ from itself otherwise.
 */
export async function redactedPatch({
  path,
  before,
  after,
}: Pick<FileEdit, "path" | "before" | "after">): Promise<string> {
  const { structuredPatch } = await import("diff");
  const [old, next] = [textOf(before), textOf(after)];
  const [oldShown, nextShown] = [linesOf(old), linesOf(next)];
  const { hunks } = structuredPatch(path, path, old, next, "", "", { context: 3 });
  const lines = hunks.flatMap((hunk) => {
    let [oldAt, nextAt] = [hunk.oldStart - 1, hunk.newStart - 1];
    // In an empty range the first line is counted from 0.
    if (hunk.oldLines === 0) oldAt += 1;
    if (hunk.newLines === 0) nextAt += 1;
    const shown = hunk.lines.map((line) => {
      const sign = line[0];
      if (sign === "-") return `-${oldShown[oldAt++] ?? ""}`;
      if (sign === "+") return `+${nextShown[nextAt++] ?? ""}`;
      if (sign !== " ") return line;
      oldAt += 1;
      return ` ${nextShown[nextAt++] ?? ""}`;
    });
    return [
      `@@ -${hunk.oldStart},${hunk.oldLines} +${hunk.newStart},${hunk.newLines} @@`,
      ...shown.map(printable),
    ];
  });
  const [from, to] = [before === null ? "/dev/null" : path, after === null ? "/dev/null" : path];
  return lines.length === 0 ? "" : `${[`--- ${from}`, `+++ ${to}`, ...lines].join("\n")}\n`;
}

function textOf(bytes: Uint8Array | null): string {
  return bytes === null ? "" : new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function linesOf(text: string): string[] {
  return redactText(text)
    .split("\n")
    .map((line) => line.replace(/\r$/, ""));
}

/** A damaged file may hold anything, and thousands of it on one line. */
function printable(line: string): string {
  const text = line.replace(/[^\P{Cc}\t]|[\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}
