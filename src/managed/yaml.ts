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
    /[\u0080-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
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
