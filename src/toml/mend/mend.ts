import { ShimctlError } from "../../error.ts";
import { factsOf } from "../excerpt.ts";
import { parseToml } from "../parse.ts";
import { mendBlocks, type Owners } from "./blocks.ts";
import { mendDoubles } from "./doubles.ts";
import { bytesOf, type Damage, type Draft, isBlank, isSilent, type Line, linesOf, textOf } from "./lines.ts";
import { mendSyntax } from "./syntax.ts";

export type { Owners } from "./blocks.ts";

/** Something in a file that its engine refuses, as people are shown it. */
export interface FileDamage {
  readonly rule: string;
  readonly message: string;
  /** 1-based, in the file as it was read; columns in characters. */
  readonly line: number;
  readonly column: number;
  /** The redacted line with a caret below it. */
  readonly excerpt: string;
  /** What is done about it; `undefined` where nobody can say what was meant. */
  readonly remedy: string | undefined;
}

export interface Mended {
  /** In the order in which they were found. */
  readonly damages: readonly FileDamage[];
  /** The file with every cut made; `undefined` where something is left about which nothing can be done. */
  readonly bytes: Uint8Array | undefined;
  /** Owners whose block is empty in it, and has to be written anew. */
  readonly anew: readonly string[];
  /** Owners of whose blocks something went, as others define it by now. */
  readonly gaveWay: readonly string[];
}

export interface MendOptions {
  /** The file's name, for errors. */
  readonly path: string;
  readonly owners: Owners;
  /** The engine passes over a byte order mark. */
  readonly acceptsMark: boolean;
}

/**
 * Finds what makes a TOML file unreadable, and the smallest cut that leaves it whole: of lines that are no
 * TOML, of tables and keys that are there twice and say the same, of bytes that no text has; our own damaged blocks
 * are emptied, to be written anew. Every other byte stays. A pure function of the bytes, linear in them but for one
 * more pass for each cut, of which there are at most a few hundred. Never throws for what a file holds.
 */
export function mend(bytes: Uint8Array, { path, owners, acceptsMark }: MendOptions): Mended {
  const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  const body = hasMark ? bytes.subarray(3) : bytes;
  const original = linesOf(body);
  const shown = textOf(original);
  const describe = (damage: Damage): FileDamage => {
    const { line, column, excerpt } = factsOf(shown, damage, path);
    const { rule, message, remedy } = damage;
    return { rule, message, line: line ?? damage.line, column: column ?? 1, excerpt: excerpt ?? "", remedy };
  };
  const stuck = (damages: readonly Damage[]): Mended => ({
    damages: damages.map(describe),
    bytes: undefined,
    anew: [],
    gaveWay: [],
  });
  if (!holdsAnything(body))
    return stuck([{ rule: "empty", message: emptyMessage, line: 1, column: 1, remedy: undefined }]);
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff))
    return stuck([{ rule: "utf-16", message: "the file is UTF-16", line: 1, column: 1, remedy: undefined }]);

  const marked: Damage[] =
    hasMark && !acceptsMark
      ? [
          {
            rule: "mark",
            message: "it starts with a byte order mark",
            line: 1,
            column: 1,
            remedy: "cut the mark",
          },
        ]
      : [];
  const ended = withoutNulTail({ lines: original, damages: marked, stuck: false });
  const blocks = mendBlocks(ended, owners);
  const read = mendSyntax(blocks);
  const single = read.stuck ? { ...read, gaveWay: [], anew: [] } : mendDoubles(read, owners);
  if (single.stuck) return stuck(single.damages);
  const left = unreadable(single, path) ?? tooMuch(blocks.lines, single);
  if (left !== undefined) return stuck([...single.damages, left]);
  const whole = bytesOf(single.lines);
  return {
    damages: single.damages.map(describe),
    bytes: hasMark && acceptsMark ? new Uint8Array(Buffer.concat([bytes.subarray(0, 3), whole])) : whole,
    anew: [...blocks.anew, ...single.anew],
    gaveWay: single.gaveWay,
  };
}

const emptyMessage = "the file is empty";

/** Whether there is anything in it but white space and NUL bytes. */
export function holdsAnything(bytes: Uint8Array): boolean {
  return bytes.some((byte) => byte !== 0 && byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d);
}

/** What a file system leaves of a file that grew when power failed. */
function withoutNulTail(draft: Draft): Draft {
  const last = draft.lines.at(-1);
  if (last === undefined || last.bytes.at(-1) !== 0) return draft;
  let end = last.bytes.length;
  while (last.bytes[end - 1] === 0) end -= 1;
  const count = last.bytes.length - end;
  const [rest] = linesOf(last.bytes.subarray(0, end));
  const lines = [
    ...draft.lines.slice(0, -1),
    ...(rest === undefined ? [] : [{ ...rest, number: last.number }]),
  ];
  const damage: Damage = {
    rule: "nul-tail",
    message: `it ends in ${count} NUL byte${count === 1 ? "" : "s"}`,
    line: last.number,
    column: last.text.search(/\0+$/) + 1,
    remedy: "cut the NUL bytes",
  };
  return { ...draft, lines, damages: [...draft.damages, damage] };
}

/** What is TOML and still not for this program's engines: whether it can go, nobody can tell. */
function unreadable({ lines }: Draft, path: string): Damage | undefined {
  try {
    parseToml(textOf(lines), path);
    return undefined;
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    const { line = 1, column = 1 } = error.facts;
    const at = lines[line - 1]?.number ?? line;
    return { rule: "syntax", message: error.message, line: at, column, remedy: undefined };
  }
}

/** A file of which more is damaged than whole is better taken from a copy. */
function tooMuch(before: readonly Line[], { lines, damages }: Draft): Damage | undefined {
  const speaking = (of: readonly Line[]) => of.filter((line) => !isSilent(line)).length;
  const [had, has] = [speaking(before), speaking(lines)];
  const gone = had - has;
  if (gone <= 10 ? has > 0 || gone === 0 : gone * 2 <= had) return undefined;
  const line = damages[0]?.line ?? before.find((each) => !isBlank(each))?.number ?? 1;
  const message = `more of it is damaged than is whole: ${gone} of ${had} lines`;
  return { rule: "damaged", message, line, column: 1, remedy: undefined };
}
