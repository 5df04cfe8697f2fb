import { ShimctlError } from "../error.ts";
import { factsAt } from "./excerpt.ts";

/** Largest configuration that is read: far above any real one, small enough to parse a few times. */
export const maxBytes = 4 * 1024 * 1024;

/**
 * The text of a TOML file, every byte of it accounted for: `encodeToml` gives the same bytes back.
 * @throws ShimctlError `invalid-config` for what no TOML 1.0 reader takes, with line and column: a byte
 * order mark (containerd 2.x does not start on one), invalid UTF-8, control characters, a lone CR, or
 * more than 4 MiB.
 */
export function decodeToml(bytes: Uint8Array, path: string): string {
  if (bytes.length > maxBytes) {
    throw new ShimctlError(
      "invalid-config",
      `Cannot read the file, larger than ${maxBytes} bytes: ${bytes.length}`,
      { path, hint: "Check what this file is: no engine configuration is that large." },
    );
  }
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
    throw byteOrderMark(new TextDecoder().decode(bytes), path);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const invalid = firstInvalidByte(bytes);
    // Lossy on purpose: only to show the line. One U+FFFD per bad sequence keeps the column right.
    const readable = new TextDecoder("utf-8", { ignoreBOM: true });
    const before = readable.decode(bytes.subarray(0, invalid));
    const byte = (bytes[invalid] ?? 0).toString(16).padStart(2, "0");
    throw new ShimctlError("invalid-config", `Cannot read the file as UTF-8, byte ${invalid}: 0x${byte}`, {
      ...factsAt(readable.decode(bytes), before.length, path),
      hint: "Save the file as UTF-8.",
    });
  }
  refuseControls(text, path);
  return text;
}

/** The bytes of a text. */
export function encodeToml(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The refusal of a byte order mark, the same for bytes and for text. */
export function byteOrderMark(text: string, path: string): ShimctlError {
  return new ShimctlError(
    "invalid-config",
    "Cannot read the file as TOML 1.0: it starts with a byte order mark",
    {
      ...factsAt(text.replace(/^\ufeff/, ""), 0, path),
      hint: "Save the file as UTF-8 without byte order mark: containerd 2 does not start on it.",
    },
  );
}

/** TOML 1.0 allows tab, LF and CR LF of the control characters, in strings and comments too. */
function refuseControls(text: string, path: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
  const offset = text.search(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]|\r(?!\n)/);
  if (offset < 0) return;
  const lone = text[offset] === "\r";
  const code = text.charCodeAt(offset).toString(16).toUpperCase().padStart(4, "0");
  throw new ShimctlError(
    "invalid-config",
    lone
      ? "Cannot read the file as TOML 1.0: a carriage return without line feed"
      : `Cannot read the file as TOML 1.0, a control character: U+${code}`,
    {
      ...factsAt(text, offset, path),
      hint: lone
        ? "Use LF or CR LF line ends."
        : "Remove the character, or write it as an escape in a string.",
    },
  );
}

/** Offset of the first byte of the first ill-formed sequence, or -1 (Unicode, table 3-7). */
function firstInvalidByte(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const first = bytes[at] ?? 0;
    if (first < 0x80) {
      at++;
      continue;
    }
    const length =
      first >= 0xc2 && first < 0xe0
        ? 2
        : first >= 0xe0 && first < 0xf0
          ? 3
          : first >= 0xf0 && first < 0xf5
            ? 4
            : 0;
    if (length === 0) return at;
    const second = bytes[at + 1] ?? 0;
    const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    if (second < low || second > high) return at;
    for (let more = 2; more < length; more++) {
      const next = bytes[at + more] ?? 0;
      if (next < 0x80 || next > 0xbf) return at;
    }
    at += length;
  }
  return -1;
}
