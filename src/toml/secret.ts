/** What stands in place of a secret. */
export const mask = "<redacted>";

/** Tables of this name hold nothing but secrets: registry `auth`, hosts.toml `header`. */
const secretTable = /^(auths?|headers?|credentials?|secrets?|tokens?|passwords?|cookies?)$/i;
const secretKey =
  /pass(word|wd)?|secret|token|auth|credential|username|user|identity|private|apikey|api_key|cookie|key$/i;

/** Whether everything below this table path is secret. */
export function isSecretTable(path: readonly string[]): boolean {
  return path.some((segment) => secretTable.test(segment));
}

/** Whether the value at this key path is secret. */
export function isSecretKey(path: readonly string[]): boolean {
  return isSecretTable(path) || secretKey.test(path.at(-1) ?? "");
}

/** The path of a table header that is commented out, or undefined. */
export function commentedHeader(comment: string): string[] | undefined {
  return /^\s*#[#\s]*\[{1,2}([^\]]+)/.exec(comment)?.[1]?.split(/[\s."']+/);
}

/**
 * Replaces the credentials in every `scheme://user:password@host`. Linear, unlike a regular expression for it.
 * In a text that may be cut off, also those whose `@` is missing: `user:` followed by what is no port.
 */
export function maskUrlCredentials(text: string, cutOff = false): string {
  let out = "";
  let done = 0;
  for (let at = text.indexOf("://"); at >= 0; at = text.indexOf("://", Math.max(done, at + 3))) {
    const start = at + 3;
    const whole = credentialsEnd(text, start);
    const end = whole < 0 && cutOff ? cutOffEnd(text, start) : whole;
    if (end < 0) continue;
    out += text.slice(done, start) + mask;
    done = end;
  }
  return out + text.slice(done);
}

/** Keeps `NAME=` or `Name:` of a secret name in free text (comment, environment entry) and masks what follows. */
export function maskAfterSecretName(text: string, alwaysSecret = false): string {
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (sign !== "=" && (sign !== ":" || text.startsWith("://", at))) continue;
    const before = text.slice(Math.max(0, at - 80), at).trimEnd();
    const name = /[\w.-]+$/.exec(before.replace(/["'`]+$/, ""))?.[0];
    if (name === undefined || !(alwaysSecret || isSecretKey(name.split(".")))) continue;
    const rest = text.slice(at + 1);
    if (rest.trim() === "" || /^\s*(true|false)\s*$/.test(rest)) return text;
    return `${text.slice(0, at + 1)}${/^\s*/.exec(rest)?.[0] ?? ""}${mask}`;
  }
  return text;
}

/** Longest authority looked at: bounds the work on hostile text. */
const longestAuthority = 8192;

/** Offset of the `@` that ends credentials starting at `start`, or -1. */
function credentialsEnd(text: string, start: number): number {
  let found = -1;
  let authority = true;
  let colon = false;
  const limit = Math.min(text.length, start + longestAuthority);
  for (let at = start; at < limit; at++) {
    const character = text[at] ?? "";
    if (character === "@") {
      found = at;
    } else if (character === ":") {
      colon ||= authority;
    } else if (character === "/" || character === "?" || character === "#") {
      // A password may hold an unescaped slash, so after `user:` the search goes on to the end of the word.
      if (found >= 0 || !colon) return found;
      authority = false;
    } else if (/\s/.test(character)) {
      return found;
    }
  }
  return found;
}

function cutOffEnd(text: string, start: number): number {
  const authority = /^[^\s"'/?#[\]:]*:([^\s"'/?#\]]*)/.exec(text.slice(start, start + longestAuthority));
  return authority === null || /^\d{0,5}$/.test(authority[1] ?? "") ? -1 : start + authority[0].length;
}
