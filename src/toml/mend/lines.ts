/** One line of a file that may be no text at all. */
export interface Line {
  /** As it stands in the file, its line end included. */
  readonly bytes: Uint8Array;
  /** The same as text; lossy where `bad` is set. */
  readonly text: string;
  /** 1-based, in the file as it was read; that of the line before for a line of ours that was put in. */
  readonly number: number;
  /** Why no TOML reader takes this line, whatever stands around it. */
  readonly bad?: { readonly why: string; readonly column: number } | undefined;
}

/** Something in a file that the engine refuses, and what becomes of it. */
export interface Damage {
  /** A short stable name, for scripts. */
  readonly rule: string;
  readonly message: string;
  readonly line: number;
  /** 1-based, in UTF-16 units. */
  readonly column: number;
  /** What is done about it; `undefined` where nobody can say what was meant. */
  readonly remedy: string | undefined;
}

/** A file on the way to being whole. */
export interface Draft {
  readonly lines: readonly Line[];
  readonly damages: readonly Damage[];
  /** Something stands in it about which nothing can be done. */
  readonly stuck: boolean;
}

const lf = 0x0a;

/** Takes bytes apart into lines; joined again they are the same bytes. */
export function linesOf(bytes: Uint8Array): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(lf, start);
    const end = newline < 0 ? bytes.length : newline + 1;
    lines.push(lineOf(bytes.subarray(start, end), lines.length + 1));
    start = end;
  }
  return lines;
}

export function lineOf(bytes: Uint8Array, number: number): Line {
  const lossy = new TextDecoder("utf-8", { ignoreBOM: true });
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
    const control = text.search(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]|\r(?!\n)/);
    if (control < 0) return { bytes, text, number };
    const why = text[control] === "\r" ? "a carriage return without line feed" : "a control character";
    return { bytes, text, number, bad: { why, column: control + 1 } };
  } catch {
    const text = lossy.decode(bytes);
    const column = Math.max(0, text.indexOf("\ufffd")) + 1;
    return { bytes, text, number, bad: { why: "bytes that are no UTF-8", column } };
  }
}

/** A line of ours to put in. */
export function newLine(text: string, number: number): Line {
  return { bytes: new TextEncoder().encode(text), text, number };
}

export function bytesOf(lines: readonly Line[]): Uint8Array {
  return new Uint8Array(Buffer.concat(lines.map(({ bytes }) => bytes)));
}

export function textOf(lines: readonly Line[]): string {
  return lines.map(({ text }) => text).join("");
}

/** Without what ends the line. */
export function content({ text }: Line): string {
  return text.replace(/\r?\n$/, "");
}

export function isBlank({ text }: Line): boolean {
  return /^[ \t\r\n]*$/.test(text);
}

/** Whether the line says nothing to an engine. */
export function isSilent(line: Line): boolean {
  return isBlank(line) || /^[ \t]*#/.test(line.text);
}

/** `line 3`, or `lines 3 to 7`. */
export function named(lines: readonly Line[]): string {
  const [first] = lines;
  const last = lines.at(-1);
  if (first === undefined || last === undefined) return "nothing";
  return first.number === last.number ? `line ${first.number}` : `lines ${first.number} to ${last.number}`;
}
