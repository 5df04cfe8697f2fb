import {
  commentedHeader,
  isSecretKey,
  isSecretTable,
  mask,
  maskAfterSecretName,
  maskUrlCredentials,
} from "./secret.ts";

/**
 * One line of a file that cannot be parsed, fit to be shown. Conservative, because nothing says what the
 * line means: values are shown for a list of known harmless keys only. Credentials in URLs never are.
 */
export function redactLine(line: string): string {
  return redact(line, false);
}

/**
 * All lines of a text that cannot be parsed, each as `redactLine` gives it, with what the lines before
 * tell: a secret table, a multi-line string and a secret array hide their lines entirely. Line ends stay.
 */
export function redactLines(text: string): string {
  let secretTable = false;
  let commentedTable = false;
  let openString: string | undefined;
  let openBrackets = 0;
  // With an odd delimiter somewhere, inside and outside of multi-line strings cannot be told apart behind the first.
  const ambiguous = endsInString(text);
  let sawString = false;
  // A lone CR ends a line too: a file of those alone would otherwise be one line, judged by its first key.
  return text
    .split(/(\r?\n|\r)/)
    .map((line, at) => {
      if (at % 2 === 1) return line;
      sawString ||= hasStringDelimiter(line);
      if (openString !== undefined) {
        const close = line.indexOf(openString);
        if (close < 0) return line.trim() === "" ? line : mask;
        const rest = line.slice(close + 3);
        const shown = `${mask}${openString}${maskBehindString(rest)}`;
        openString = stringOpenAfter(rest);
        return shown;
      }
      if (line.trimStart().startsWith("#")) {
        const header = commentedHeader(line);
        if (header !== undefined) commentedTable = isSecretTable(header);
        return openBrackets > 0 ? mask : redact(line, secretTable || commentedTable);
      }
      if (isHeader(line)) {
        commentedTable = false;
        secretTable = isSecretTable(keySegments(line));
        openBrackets = 0;
      }
      if (openBrackets > 0) {
        openBrackets = Math.max(0, openBrackets + bracketsLeftOpen(line));
        openString = stringOpenAfter(line);
        return /^[\s,[\]{}]*$/.test(line) ? line : mask;
      }
      openString = stringOpenAfter(line);
      const equals = equalsOf(line);
      if ((secretTable || (ambiguous && sawString)) && equals < 0 && !isHeader(line)) {
        // Too short for a secret, and a stray `3s"` is what the reader must see.
        return line.trim().length <= 4 || /^[\s,[\]{}]*$/.test(line) ? line : mask;
      }
      if (equals >= 0) {
        const secret = secretTable || isSecretKey(keySegments(line.slice(0, equals)));
        if (secret) openBrackets = Math.max(0, bracketsLeftOpen(line.slice(equals + 1)));
      }
      return redact(line, secretTable);
    })
    .join("");
}

const safeKeys = new Set(
  `version imports root state temp address plugin_dir oom_score runtime_type runtime_path runtime_root
   runtime_engine runtime_config_path runtime snapshotter path bin_dir bin_dirs conf_dir conf_template
   default_runtime default_runtime_name BinaryName SystemdCgroup ConfigPath TypeUrl Root ShimCgroup
   disabled_plugins required_plugins config_path sandbox_image pause_image sandbox monitor_path monitor_cgroup
   pod_annotations container_annotations allowed_annotations base_runtime_spec cgroup_manager conmon
   privileged_without_host_devices ignore_rdt_not_enabled_errors level`.split(/\s+/),
);

function redact(line: string, secretTable: boolean): string {
  const body = line.trimStart();
  if (body === "") return line;
  // UTF-16: no key can be recognised in it.
  if (/\0[^\0]\0/.test(line)) return mask;
  if (body.startsWith("#")) return maskAfterSecretName(maskUrlCredentials(line, true), secretTable);
  const equals = equalsOf(line);
  if (isHeader(line)) {
    const close = equals < 0 ? -1 : line.lastIndexOf("]", equals);
    if (close < 0) return maskUrlCredentials(maskAfterSecretName(line), true);
    return maskUrlCredentials(line.slice(0, close + 1), true) + redact(line.slice(close + 1), secretTable);
  }
  if (equals < 0) return maskWords(line);
  return redactKeyValue(line, equals, secretTable);
}

function redactKeyValue(line: string, equals: number, secretTable: boolean): string {
  const key = line.slice(0, equals);
  const value = line.slice(equals + 1);
  if (/^[=\s]*$/.test(value)) return isName(key) ? line : maskWords(key) + line.slice(key.length);
  const gap = /^\s*/.exec(value)?.[0] ?? "";
  const quoted = `${gap}"${mask}"`;
  if (!isKey(key)) return `${maskWords(key)}=${quoted}`;
  const shownKey = isName(key) ? maskUrlCredentials(key, true) : maskWords(key);
  const segments = keySegments(key);
  if (/^\s*(true|false)\s*$/.test(value)) return `${shownKey}=${value}`;
  if (secretTable || isSecretKey(segments)) return `${shownKey}=${quoted}`;
  const harmless = safeKeys.has(segments.at(-1) ?? "") && !/\{|"""|'''/.test(value);
  if (harmless) return `${shownKey}=${maskAfterSecretName(maskUrlCredentials(value, true))}`;
  const quote = value.search(/["']/);
  if (quote < 0) return `${shownKey}=${maskWords(maskAfterSecretName(value))}`;
  return `${shownKey}=${maskWords(maskAfterSecretName(value.slice(0, quote)))}"${mask}"`;
}

/** Masks quoted strings and long words; a short stray word such as `3s"` stays, it is the very thing to see. */
function maskWords(text: string): string {
  let out = "";
  let at = 0;
  while (at < text.length) {
    const quote = text[at] ?? "";
    if (quote !== '"' && quote !== "'") {
      const next = text.slice(at).search(/["']/);
      const end = next < 0 ? text.length : at + next;
      out += maskLongWords(text.slice(at, end));
      at = end;
      continue;
    }
    const close = text.indexOf(quote, at + 1);
    if (close < 0) {
      const rest = text.slice(at + 1);
      return out + (rest.trim() === "" ? quote + rest : quote + mask);
    }
    out += close === at + 1 ? quote + quote : `"${mask}"`;
    at = close + 1;
  }
  return out;
}

/** Behind a multi-line string whose key is not in sight: a comment there may well repeat the secret. */
function maskBehindString(rest: string): string {
  const comment = rest.indexOf("#");
  return comment < 0 ? maskWords(rest) : `${maskWords(rest.slice(0, comment))}# ${mask}`;
}

function maskLongWords(text: string): string {
  return text.replace(/[^\s"'[\]{},#=]+/g, (word) =>
    word.length < 12 || /^[+-]?[\d._:TZ+-]+$/.test(word) ? word : mask,
  );
}

/** A line that starts like a table header and not like an array of strings, closed or not. */
function isHeader(line: string): boolean {
  return /^\s*\[{1,2}[ \t]*[A-Za-z_][\w-]*[ \t]*(\.|\]|$)/.test(line);
}

/** Offset of the first `=` outside quotes; with an unclosed quote before it, of the first `=` at all. */
function equalsOf(line: string): number {
  let quote = "";
  for (let at = 0; at < line.length; at++) {
    const character = line[at] ?? "";
    if (quote !== "") {
      if (character === quote) quote = "";
    } else if (character === '"' || character === "'") quote = character;
    else if (character === "#") return -1;
    else if (character === "=") return at;
  }
  return quote === "" ? -1 : line.indexOf("=");
}

function isKey(key: string): boolean {
  return /^\s*(?:[\w-]+|"[^"]*"|'[^']*')(?:[ \t]*\.[ \t]*(?:[\w-]+|"[^"]*"|'[^']*'))*\s*$/.test(key);
}

/** Whether a key reads like a name; the first half of a base64 line does not. */
function isName(key: string): boolean {
  return keySegments(key).every(
    (word) => word.length < 12 || !(/\d/.test(word) && /[a-z]/.test(word) && /[A-Z]/.test(word)),
  );
}

function keySegments(key: string): string[] {
  return key.split("#", 1)[0]?.match(/[^\s."'[\]{}=,]+/g) ?? [];
}

/** The delimiter of the multi-line string that is open after this line, if any. */
function stringOpenAfter(line: string): string | undefined {
  let at = 0;
  while (at < line.length) {
    const character = line[at] ?? "";
    if (character === "#") return undefined;
    if (character !== '"' && character !== "'") {
      at++;
      continue;
    }
    const triple = character.repeat(3);
    const delimiter = line.startsWith(triple, at) ? triple : character;
    const close = closing(line, at + delimiter.length, delimiter);
    if (close < 0) return delimiter.length === 3 ? triple : undefined;
    at = close + delimiter.length;
  }
  return undefined;
}

function closing(line: string, from: number, delimiter: string): number {
  for (let at = from; at < line.length; at++) {
    if (delimiter.startsWith('"') && line[at] === "\\") at++;
    else if (line.startsWith(delimiter, at)) return at;
  }
  return -1;
}

function hasStringDelimiter(line: string): boolean {
  return line.includes('"""') || line.includes("'''");
}

function endsInString(text: string): boolean {
  if (!hasStringDelimiter(text)) return false;
  let open: string | undefined;
  for (const line of text.split(/\r?\n|\r/)) {
    const close = open === undefined ? -3 : line.indexOf(open);
    if (close !== -1) open = stringOpenAfter(line.slice(close + 3));
  }
  return open !== undefined;
}

function bracketsLeftOpen(text: string): number {
  let open = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? "";
    if (character === "#") break;
    if (character === "[" || character === "{") open++;
    else if (character === "]" || character === "}") open--;
    else if (character === '"' || character === "'") {
      const close = closing(text, at + 1, character);
      if (close < 0) break;
      at = close;
    }
  }
  return open;
}
