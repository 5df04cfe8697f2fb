import { redactText } from "../toml/redact.ts";
import type { Change } from "../transaction/outcome.ts";

/** A unified diff with secrets redacted on both sides. */
export async function unified(change: Change): Promise<string> {
  const text = (bytes: Uint8Array | null) =>
    bytes === null ? "" : redactText(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  const from = change.before === null ? "/dev/null" : change.path;
  const to = change.after === null ? "/dev/null" : change.path;
  return patchOf(from, to, text(change.before), text(change.after));
}

/** A unified diff of two texts, which hold no secret. */
export async function patchOf(from: string, to: string, before: string, after: string): Promise<string> {
  const { createTwoFilesPatch } = await import("diff");
  const patch = createTwoFilesPatch(from, to, before, after, "", "", { context: 3 });
  // The library's headings are for people who mail patches: git and patch(1) want neither of them.
  return patch
    .split("\n")
    .filter((line) => !/^(Index: |=+$)/.test(line))
    .map((line) => (/^(---|\+\+\+) /.test(line) ? line.trimEnd() : line))
    .join("\n");
}
