import { ShimctlError } from "../../error.ts";
import { maxBytes } from "../../toml/decode.ts";
import { factsAt } from "../../toml/excerpt.ts";
import { readMarker } from "../../toml/marker.ts";
import { remember } from "../../toml/memo.ts";
import { parseToml } from "../../toml/parse.ts";

/**
 * A Go text/template that renders TOML, as far as blocks of ours are concerned. It is no TOML itself, and what it
 * renders depends on the node, so its own lines are carried through edits as comments that nothing looks into.
 */
export interface Template {
  /**
   * TOML with the same lines: blocks of ours as they are, empty lines, and a comment for each line of others. The
   * edits of blocks work on it as on any file; no other edit may be made.
   */
  readonly toml: string;
  /** The template that an edited `toml` stands for. */
  back(toml: string): string;
  /** Why nothing can be added to its end: a clause for people; `undefined` where it can. */
  readonly closed: string | undefined;
  /** Its lines without their ends. */
  readonly lines: readonly TemplateLine[];
}

export interface TemplateLine {
  readonly text: string;
  /** In a block of ours. */
  readonly ours: boolean;
  /** Whether it begins in plain text: in no action, comment of the template or string over several lines. */
  readonly plain: boolean;
}

/** The text of a template, every byte of it accounted for. @throws ShimctlError `invalid-config` where it is no UTF-8 */
export function decodeTemplate(bytes: Uint8Array, path: string): string {
  if (bytes.length > maxBytes) {
    throw new ShimctlError(
      "invalid-config",
      `Cannot read the file, larger than ${maxBytes} bytes: ${bytes.length}`,
      {
        path,
        hint: "Check what this file is: no engine configuration is that large.",
      },
    );
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    const facts = factsAt(text, Math.max(0, text.indexOf("\ufffd")), path, "Save the file as UTF-8.");
    throw new ShimctlError("invalid-config", "Cannot read the template, which is not UTF-8", {
      ...facts,
      cause,
    });
  }
}

/** Tells our blocks in a template from everything else. Never throws for what a template holds. */
export const readTemplate: (text: string) => Template = remember(read);

function read(text: string): Template {
  const { starts, closed } = lex(text);
  const split = text.split("\n");
  const raw = split.map((line, at) => {
    // A carriage return that no line feed follows is a character of its line.
    const eol = line.endsWith("\r") && at < split.length - 1 ? "\r" : "";
    return { text: line.slice(0, line.length - eol.length), eol, plain: starts[at] === true };
  });
  const kept = keptLines(raw);
  const prefix = unusedPrefix(text);
  const toml = raw.map((line, at) => {
    const isKept = kept[at] !== undefined || line.text === "";
    return (isKept ? line.text : `${prefix}${at}`) + line.eol;
  });
  const back = (edited: string): string =>
    edited
      .split("\n")
      .map((line) => {
        const index = new RegExp(`^${prefix}(\\d+)(\r?)$`).exec(line);
        const original = index === null ? undefined : raw[Number(index[1])];
        return original === undefined ? line : original.text + (index?.[2] ?? "");
      })
      .join("\n");
  return {
    toml: toml.join("\n"),
    back,
    closed,
    lines: raw.map(({ text: line, plain }, at) => ({
      text: line,
      plain,
      ours: kept[at] !== undefined,
    })),
  };
}

/** A comment's beginning that nothing in the text can be taken for. */
function unusedPrefix(text: string): string {
  let prefix = "#:";
  while (text.includes(prefix)) prefix += ":";
  return prefix;
}

interface RawLine {
  readonly text: string;
  readonly plain: boolean;
}

/**
 * Which lines stay as they are: markers of ours, and what they enclose. Where somebody has put into a block what is no
 * TOML, such as an action, those lines are hidden as well; the block's hash tells that it was edited.
 */
function keptLines(lines: readonly RawLine[]): ("marker" | "body" | undefined)[] {
  const kept: ("marker" | "body" | undefined)[] = lines.map(() => undefined);
  let open: { owner: string; at: number } | undefined;
  for (const [at, { text, plain }] of lines.entries()) {
    const marker = plain ? readMarker(text.replace(/^[ \t]+/, "")) : undefined;
    if (marker === undefined) continue;
    kept[at] = "marker";
    if (marker === "damaged") open = undefined;
    else if (marker.kind === "begin") open = { owner: marker.owner, at };
    else {
      if (open?.owner === marker.owner && isToml(lines.slice(open.at + 1, at)))
        kept.fill("body", open.at + 1, at);
      open = undefined;
    }
  }
  return kept;
}

function isToml(lines: readonly RawLine[]): boolean {
  try {
    parseToml(lines.map(({ text }) => `${text}\n`).join(""), "");
    return true;
  } catch (error) {
    if (error instanceof ShimctlError) return false;
    throw error;
  }
}

/** What the rest of a line, or of the text, belongs to. */
type Inside = "text" | "comment" | '"' | "'" | '"""' | "'''";

/**
 * For each line, whether it begins in plain text; and what the text ends in. Actions are found first, as Go does it
 * (text/template/parse, lex.go), then TOML's strings and comments in what is left. A string on one line ends with it,
 * so that half a string in a branch misleads nobody for longer.
 */
function lex(text: string): { starts: boolean[]; closed: string | undefined } {
  const starts = [true];
  let inside: Inside = "text";
  let depth = 0;
  let trimsAfter = false;
  for (let at = 0; at < text.length; ) {
    if (text.startsWith("{{", at)) {
      const action = actionAt(text, at);
      if (action === undefined) {
        for (let next = at; next < text.length; next++) if (text[next] === "\n") starts.push(false);
        return { starts, closed: "it ends inside a template action or comment" };
      }
      for (let next = at; next < action.end; next++) if (text[next] === "\n") starts.push(false);
      depth += action.depth;
      trimsAfter = action.trims;
      at = action.end;
      continue;
    }
    const character = text[at] ?? "";
    if (!/\s/.test(character)) trimsAfter = false;
    if (character === "\n") {
      if (inside !== '"""' && inside !== "'''") inside = "text";
      starts.push(inside === "text");
      at++;
    } else if (inside === "text") {
      const quotes = quotesAt(text, at);
      if (character === "#") inside = "comment";
      else if (quotes !== undefined) inside = quotes;
      at += quotes?.length ?? 1;
    } else if (inside === "comment") {
      at++;
    } else if (character === "\\" && inside.startsWith('"')) {
      at += text[at + 1] === "\n" || text[at + 1] === "{" ? 1 : 2;
    } else if (text.startsWith(inside, at)) {
      at += inside.length;
      // A string over several lines may end with two more quotes that belong to it.
      const quote = inside[0];
      if (inside.length === 3) for (let more = 0; more < 2 && text[at] === quote; more++) at++;
      inside = "text";
    } else {
      at++;
    }
  }
  const closed =
    inside === '"""' || inside === "'''"
      ? "it ends inside a string over several lines"
      : depth > 0
        ? "it ends inside a template action that has no {{ end }}"
        : trimsAfter
          ? "its last action takes away the line ends behind it, by -}}"
          : text.endsWith("\r")
            ? "it ends with a carriage return without line feed"
            : undefined;
  return { starts, closed };
}

function quotesAt(text: string, at: number): Exclude<Inside, "text" | "comment"> | undefined {
  if (text.startsWith('"""', at)) return '"""';
  if (text.startsWith("'''", at)) return "'''";
  const character = text[at];
  return character === '"' || character === "'" ? character : undefined;
}

/** The action that begins here; `undefined` where it does not end. */
function actionAt(text: string, start: number): { end: number; depth: number; trims: boolean } | undefined {
  const body = /^\{\{(?:-[ \t\r\n])?/.exec(text.slice(start, start + 4))?.[0].length ?? 2;
  let at = start + body;
  if (/^\s*\/\*/.test(text.slice(at, at + 64))) {
    const close = text.indexOf("*/", text.indexOf("/*", at) + 2);
    const end = close < 0 ? -1 : text.indexOf("}}", close);
    return end < 0 ? undefined : { end: end + 2, depth: 0, trims: text[end - 1] === "-" };
  }
  const word = /^\s*([a-z]+)/.exec(text.slice(at, at + 64))?.[1] ?? "";
  const depth = ["if", "range", "with", "block", "define"].includes(word) ? 1 : word === "end" ? -1 : 0;
  while (at < text.length) {
    if (text.startsWith("}}", at)) return { end: at + 2, depth, trims: text[at - 1] === "-" };
    const quote = text[at];
    if (quote === '"' || quote === "'" || quote === "`") {
      at++;
      while (at < text.length && text[at] !== quote) at += text[at] === "\\" && quote !== "`" ? 2 : 1;
    }
    at++;
  }
  return undefined;
}
