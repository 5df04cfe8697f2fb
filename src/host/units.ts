/** What a unit says of its daemon, by the rules of systemd.service(5) and systemd.exec(5). */
export interface ServiceSettings {
  /** The first command that starts it; empty where none does. */
  readonly argv: readonly string[];
  /** Whether variables are put into it: `:` before the program keeps them out. */
  readonly expands: boolean;
  /** `NAME=value` in the order in which they are set. */
  readonly environment: readonly string[];
  readonly environmentFiles: readonly EnvironmentFile[];
}

export interface EnvironmentFile {
  readonly path: string;
  /** `-` before it: it may be missing. */
  readonly optional: boolean;
}

/** Variables, and whether all that set some were read: if not, one that is not there may still be set. */
export interface Environment {
  readonly values: Readonly<Record<string, string>>;
  readonly complete: boolean;
}

/**
 * A unit's own file and its drop-ins, in the order in which systemd reads them. What it does not know is passed over,
 * as systemd does; specifiers (`%n`) stay as they are.
 */
export function readUnit(texts: readonly string[]): ServiceSettings {
  const lists: Record<"ExecStart" | "Environment" | "EnvironmentFile", string[]> = {
    ExecStart: [],
    Environment: [],
    EnvironmentFile: [],
  };
  for (const text of texts)
    for (const { section, key, value } of assignments(text)) {
      if (section !== "Service" || !(key in lists)) continue;
      const list = lists[key as keyof typeof lists];
      // An empty one takes away all before it.
      if (value === "") list.length = 0;
      else list.push(value);
    }
  const command = commandOf(lists.ExecStart[0] ?? "");
  return {
    ...command,
    environment: lists.Environment.flatMap((line) => splitWords(line)),
    environmentFiles: lists.EnvironmentFile.map((path) => ({
      path: path.replace(/^-/, ""),
      optional: path.startsWith("-"),
    })),
  };
}

interface Assignment {
  readonly section: string;
  readonly key: string;
  readonly value: string;
}

/** systemd.syntax(7): a line that ends in a backslash goes on in the next that is no comment. */
function assignments(text: string): Assignment[] {
  const found: Assignment[] = [];
  let section = "";
  let begun = "";
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*[#;]/.test(line)) continue;
    const whole = begun + line;
    if (/(?<!\\)(?:\\\\)*\\$/.test(whole)) {
      begun = `${whole.slice(0, -1)} `;
      continue;
    }
    begun = "";
    take(whole.trim());
  }
  take(begun.trim());
  return found;

  function take(line: string): void {
    const header = /^\[(.*)\]$/.exec(line);
    if (header !== null) section = header[1] ?? "";
    const equals = line.indexOf("=");
    if (header !== null || equals < 0) return;
    found.push({ section, key: line.slice(0, equals).trim(), value: line.slice(equals + 1).trim() });
  }
}

/** The first of the commands of an `ExecStart=`, its prefixes taken off (systemd.service(5), "Command lines"). */
function commandOf(line: string): Pick<ServiceSettings, "argv" | "expands"> {
  const [first, ...rest] = wordsIn(line);
  const prefix = /^[-@:+!|]*/.exec(first?.value ?? "")?.[0] ?? "";
  const end = rest.findIndex(({ written }) => written === ";");
  const args = (end < 0 ? rest : rest.slice(0, end)).map(({ value, written }) =>
    written === "\\;" ? ";" : value,
  );
  // With `@` the next word is what the program is called, which is not what it is.
  const named = prefix.includes("@") ? args.slice(1) : args;
  const program = first?.value.slice(prefix.length) ?? "";
  return { argv: program === "" ? [] : [program, ...named], expands: !prefix.includes(":") };
}

const escapes: Readonly<Record<string, string>> = {
  ...{ a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", s: " " },
  ...{ "\\": "\\", '"': '"', "'": "'" },
};

/** Words as systemd.syntax(7) quotes them: quotes may stand anywhere in a word, escapes inside and outside. */
export function splitWords(text: string): string[] {
  return wordsIn(text).map(({ value }) => value);
}

interface Word {
  readonly value: string;
  /** With its quotes and escapes. */
  readonly written: string;
}

function wordsIn(text: string): Word[] {
  const words: Word[] = [];
  let value: string | undefined;
  let start = 0;
  let quote = "";
  const end = (at: number) => {
    if (value !== undefined) words.push({ value, written: text.slice(start, at) });
    value = undefined;
  };
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (quote === "" && /\s/.test(character)) {
      end(at);
      continue;
    }
    if (value === undefined) start = at;
    value ??= "";
    if (character === "\\") {
      const [unescaped, length] = escaped(text.slice(at + 1));
      value += unescaped;
      at += length;
    } else if (character === quote) quote = "";
    else if (quote === "" && (character === '"' || character === "'")) quote = character;
    else value += character;
  }
  end(text.length);
  return words;
}

/** What stands for an escape, and how much follows the backslash; an unknown one stays as it is. */
function escaped(rest: string): [string, number] {
  const simple = escapes[rest.charAt(0)];
  if (simple !== undefined) return [simple, 1];
  const coded = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))/.exec(rest);
  if (coded === null) return ["\\", 0];
  const [all, byte, short, long, octal] = coded;
  const code =
    octal === undefined ? Number.parseInt(byte ?? short ?? long ?? "", 16) : Number.parseInt(octal, 8);
  return code > 0x10ffff ? ["\\", 0] : [String.fromCodePoint(code), all.length];
}

/**
 * A unit's variables. What its files set counts over what it sets itself (systemd.exec(5), "EnvironmentFile=").
 * @param read the text of a file; `absent` where there is none, `undefined` where nobody can tell
 */
export function environmentOf(
  unit: Pick<ServiceSettings, "environment" | "environmentFiles">,
  read: (path: string) => string | "absent" | undefined,
): Environment {
  const values: Record<string, string> = {};
  let complete = true;
  const set = (assignment: string) => {
    const equals = assignment.indexOf("=");
    if (equals > 0) values[assignment.slice(0, equals)] = assignment.slice(equals + 1);
  };
  for (const assignment of unit.environment) set(assignment);
  for (const { path } of unit.environmentFiles) {
    // Patterns and specifiers: which files they are, only systemd tells.
    const text = /[*?[%]/.test(path) ? undefined : read(path);
    if (text === undefined) complete = false;
    else if (text !== "absent") for (const assignment of environmentFile(text)) set(assignment);
  }
  return { values, complete };
}

/** The assignments of an environment file, which is nearly, but not quite, what a shell would read. */
export function environmentFile(text: string): string[] {
  const found: string[] = [];
  const pattern =
    /^[^\S\n]*(?:[#;].*|([A-Za-z_][A-Za-z0-9_]*)[^\S\n]*=[^\S\n]*((?:'[^']*'|"(?:\\[\s\S]|[^"\\])*"|\\[\s\S]|[^\n'"\\])*))/gm;
  for (const [, name, value] of text.replaceAll("\r\n", "\n").matchAll(pattern))
    if (name !== undefined) found.push(`${name}=${unquoted(value ?? "")}`);
  return found;
}

function unquoted(value: string): string {
  // Blanks at the end count only where they are quoted.
  const bare = value.replace(/(?<!\\)[^\S\n]+$/, "");
  return bare.replace(
    /'([^']*)'|"((?:\\[\s\S]|[^"\\])*)"|\\([\s\S])/g,
    (_, single?: string, double?: string, other?: string) =>
      single ??
      double?.replace(/\\([\s\S])/g, (kept: string, next: string) =>
        next === "\n" ? "" : '"\\`$'.includes(next) ? next : kept,
      ) ??
      (other === "\n" ? "" : (other ?? "")),
  );
}

/**
 * A command with its variables put in: `${NAME}` anywhere, `$NAME` as a word of its own, which becomes as many words
 * as it holds (systemd.service(5), "Command lines"). One that may be set where nobody can see it stays as it is written.
 */
export function putIn(argv: readonly string[], { values, complete }: Environment): string[] {
  const held = (name: string) => values[name] ?? (complete ? "" : undefined);
  return argv.flatMap((word) => {
    // Whatever follows is the name: `$A,` is a variable that nobody can set.
    const alone = /^\$(?![{$])(.*)$/s.exec(word)?.[1];
    if (alone !== undefined) {
      const value = held(alone);
      return value === undefined ? [`\${${alone}}`] : splitWords(value);
    }
    return [
      word.replace(/\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (written, name?: string) =>
        name === undefined ? "$" : (held(name) ?? written),
      ),
    ];
  });
}

/**
 * The program behind those that only start it: `env NAME=value PROGRAM`, and a shell whose whole script is one plain
 * command. What a longer script starts, nobody can tell.
 */
export function behindWrappers(argv: readonly string[]): readonly string[] {
  const [program = "", ...args] = argv;
  const name = program.slice(program.lastIndexOf("/") + 1);
  if (name === "env") {
    const at = args.findIndex((arg) => !/^[A-Za-z_][A-Za-z0-9_]*=/.test(arg));
    return at < 0 || args[at]?.startsWith("-") === true ? argv : behindWrappers(args.slice(at));
  }
  const [option, script] = args;
  if (/^(?:ba|da)?sh$/.test(name) && option === "-c" && script !== undefined) {
    const words = /^\s*(?:exec\s+)?([^\s;|&<>()`$*?~#'"\\]+(?:\s+[^\s;|&<>()`$*?~#'"\\]+)*)\s*$/.exec(
      script,
    )?.[1];
    return words === undefined ? argv : words.split(/\s+/);
  }
  return argv;
}
