import { parse } from "smol-toml";
import { isOurComment } from "./marker.ts";
import { redactLines } from "./redact-line.ts";
import {
  type Comment,
  decodeString,
  type KeyValue,
  maxDepth,
  type Scan,
  type Span,
  scan,
  type Value,
} from "./scan.ts";
import {
  commentedHeader,
  isSecretKey,
  isSecretTable,
  mask,
  maskAfterSecretName,
  maskUrlCredentials,
} from "./secret.ts";

export { redactLine } from "./redact-line.ts";

/**
 * The text without its secrets, for diffs and logs: values of secret keys, credentials in URLs, and
 * commented-out secrets become `<redacted>`. Lines keep their numbers, equal texts stay equal. A text that
 * is not valid TOML is redacted line by line instead, more broadly.
 */
export function redactText(text: string): string {
  const scanned = scanValid(text);
  if (scanned === undefined) return redactLines(text);
  const edits: Edit[] = [];
  let secretTable = false;
  for (const item of scanned.items) {
    redactKey(scanned, item.keySpan, item.kind === "key-value" ? item.key : item.path, edits);
    if (item.kind === "key-value") redactKeyValue(scanned, item, secretTable, edits);
    else secretTable = isSecretTable(item.path);
  }
  const covered = edits.length;
  redactComments(scanned, edits, covered);
  return apply(text, edits);
}

interface Edit extends Span {
  readonly text: string;
}

function scanValid(text: string): Scan | undefined {
  try {
    parse(text, { integersAsBigInt: true, maxDepth });
    return scan(text);
  } catch {
    return undefined;
  }
}

function redactKey(scanned: Scan, span: Span, key: readonly string[], edits: Edit[]): void {
  const raw = scanned.text.slice(span.start, span.end);
  const masked = maskUrlCredentials(raw);
  if (masked !== raw) edits.push({ ...span, text: masked });
  else if (key.some((part) => maskUrlCredentials(part) !== part)) edits.push({ ...span, text: `"${mask}"` });
}

function redactKeyValue(scanned: Scan, item: KeyValue, secretTable: boolean, edits: Edit[]): void {
  if (secretTable || isSecretKey(item.key)) redactSpan(scanned, item.value, edits);
  else redactValue(scanned, item.value, edits);
}

function redactSpan(scanned: Scan, value: Value, edits: Edit[]): void {
  const raw = scanned.text.slice(value.span.start, value.span.end);
  // A switch is not a secret, and a diff that hides it would hide what changed.
  if (raw === "true" || raw === "false") return;
  // The line ends stay, so that line numbers of a diff are those of the file.
  edits.push({ ...value.span, text: `"${mask}"${raw.replace(/[^\r\n]/g, "")}` });
}

function redactValue(scanned: Scan, value: Value, edits: Edit[]): void {
  if (value.kind === "string") redactString(scanned, value.span, edits);
  else if (value.kind === "array")
    for (const element of value.elements) redactValue(scanned, element.value, edits);
  else if (value.kind === "inline-table") {
    for (const entry of value.entries) {
      redactKey(scanned, entry.keySpan, entry.key, edits);
      redactKeyValue(scanned, entry, isSecretTable(entry.table), edits);
    }
  }
}

function redactString(scanned: Scan, span: Span, edits: Edit[]): void {
  const raw = scanned.text.slice(span.start, span.end);
  const quotes = raw.startsWith('"""') || raw.startsWith("'''") ? 3 : 1;
  const inner = raw.slice(quotes, -quotes);
  const shown = maskString(inner);
  const decoded = decodeString(raw);
  // An escape can hide what the spelling does not show (`\u0040` is an @), so both are looked at.
  if (inner.includes("\\") && maskString(decoded) !== decoded) {
    edits.push({ ...span, text: `"${mask}"${raw.replace(/[^\r\n]/g, "")}` });
  } else if (shown !== inner) {
    edits.push({ ...span, text: raw.slice(0, quotes) + shown + raw.slice(-quotes) });
  }
}

function maskString(content: string): string {
  return content
    .split("\n")
    .map((line) => maskUrlCredentials(maskAfterSecretName(line)))
    .join("\n");
}

/** Comments outside replaced values; those in or beside a secret, or under a commented-out secret table, hide more. */
function redactComments(scanned: Scan, edits: Edit[], covered: number): void {
  let edit = 0;
  let item = 0;
  let secretTable = false;
  let commentedTable = false;
  let lastEdit: Edit | undefined;
  for (const comment of scanned.comments) {
    for (; edit < covered && (edits[edit]?.start ?? 0) < comment.span.start; edit++) lastEdit = edits[edit];
    for (let next = scanned.items[item]; next !== undefined && next.span.start < comment.span.start; ) {
      if (next.kind !== "key-value") secretTable = isSecretTable(next.path);
      commentedTable = false;
      next = scanned.items[++item];
    }
    const text = scanned.text.slice(comment.span.start, comment.span.end);
    if (lastEdit !== undefined && comment.span.end <= lastEdit.end) continue;
    if (comment.place === "line" && isOurComment(text)) continue;
    const header = commentedHeader(text);
    if (header !== undefined) commentedTable = isSecretTable(header);
    const besideSecret =
      lastEdit?.text.startsWith(`"${mask}"`) === true && isBeside(scanned, lastEdit, comment);
    const shown = besideSecret
      ? `# ${mask}`
      : maskUrlCredentials(maskAfterSecretName(text, secretTable || commentedTable));
    if (shown !== text) edits.push({ ...comment.span, text: shown });
  }
}

function isBeside(scanned: Scan, edit: Span, comment: Comment): boolean {
  return !scanned.text.slice(edit.end, comment.span.start).includes("\n");
}

function apply(text: string, edits: Edit[]): string {
  const sorted = edits.toSorted((a, b) => a.start - b.start);
  const out: string[] = [];
  let done = 0;
  for (const edit of sorted) {
    out.push(text.slice(done, edit.start), edit.text);
    done = edit.end;
  }
  out.push(text.slice(done));
  return out.join("");
}
