/**
 * A text as a YAML block scalar, each line indented by so many spaces: what follows `key: |`. The text ends
 * with a line feed and does not start with a space, as everything that we render does.
 */
export function blockScalar(text: string, indent: number): string {
  return text.replaceAll(/^(?=.)/gm, " ".repeat(indent));
}

/**
 * TOML that means the same and holds no character that YAML 1.1 or 1.2 takes for a line break or does not allow:
 * such a character can only stand in a quoted string, where TOML has an escape for it.
 */
export function printable(toml: string): string {
  return toml.replace(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A text that others wrote, as it may stand in a comment: it begins no line of its own. */
export function inComment(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\ufeff\ufffe\uffff]/gu, "?");
}

/** A paragraph as comment lines of at most 100 characters; a line that starts with two spaces stands as it is. */
export function comment(paragraph: string): string {
  return paragraph
    .split("\n")
    .flatMap((line) => (line.startsWith("  ") ? [line] : wrapped(line)))
    .map((line) => `# ${line}`.trimEnd())
    .join("\n");
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length > 97) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** What YAML and JSON can both say. */
export type Value = string | number | boolean | readonly Value[] | { readonly [key: string]: Value };

/** Documents in block style, each after the first behind a line `---`. */
export function yamlOf(documents: readonly Value[]): string {
  return documents.map((value) => `${block(value, "")}\n`.replace(/^\n/, "")).join("---\n");
}

/** What follows `key:` or `-`, or stands alone: on the same line where it is short, else on lines of its own. */
function block(value: Value, indent: string): string {
  if (typeof value === "string" && canBeBlock(value))
    return ` |${value.endsWith("\n") ? "" : "-"}\n${blockScalar(value.replace(/\n$/, ""), indent.length + 2)}`;
  if (typeof value !== "object") return ` ${scalar(value)}`;
  const entries = Array.isArray(value)
    ? value.map((each: Value) => `${indent}-${hung(each, `${indent}  `)}`)
    : Object.entries(value).map(
        ([key, each]) => `${indent}${scalar(key)}:${block(each, isList(each) ? indent : `${indent}  `)}`,
      );
  if (entries.length === 0) return Array.isArray(value) ? " []" : " {}";
  return `\n${entries.join("\n")}`;
}

/** An entry of a list: its first line stands behind the dash. */
function hung(value: Value, indent: string): string {
  const text = block(value, indent);
  return typeof value === "object" && text.startsWith("\n") ? ` ${text.slice(1 + indent.length)}` : text;
}

/** A list stands below its key without an indent of its own, as kubectl writes it. */
function isList(value: Value): boolean {
  return Array.isArray(value) && value.length > 0;
}

/** Several lines of which none would lose anything as a block scalar. */
function canBeBlock(text: string): boolean {
  return /^[!-~].*\n[\s\S]*[^\n]\n?$/.test(text) && /^[\n -~\u00a1-\u2027\u2030-\ud7ff]*$/.test(text);
}

function scalar(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  // Nothing that YAML 1.1 or 1.2 takes for a number, a time, a truth or nothing.
  const isPlain =
    /^[A-Za-z/][A-Za-z0-9._/-]*$/.test(value) && !/^(y|yes|n|no|on|off|true|false|null)$/i.test(value);
  return isPlain ? value : printable(JSON.stringify(value));
}
