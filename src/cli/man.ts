import { kataLockPath, lockPath } from "../host/lock.ts";
import { stateFolder } from "../transaction/state.ts";
import { offered } from "./completion/command_line.ts";
import type { Io } from "./io.ts";
import {
  type CommandName,
  commands,
  exitCodes,
  isCommand,
  moreOf,
  type Option,
  optionsOf,
  type Parsed,
  valueText,
} from "./options.ts";
import { document } from "./output.ts";

/** `man`: the manual page, as it is in the release too. */
export function man(io: Io, { options }: Parsed): number {
  const text = manPage();
  io.out(options.json ? document("man", "ok", undefined, { text }) : text);
  return 0;
}

/**
 * shimctl(1), made of what `--help` is made of. It names no release and no day, so that it changes only with what it says.
 * Its macros are those of man(7), which groff and mandoc both know.
 */
export function manPage(): string {
  const names = Object.keys(commands).filter(isCommand);
  return `.\\" Made by shimctl man; npm run man writes docs/shimctl.1.
.TH SHIMCTL 1 "" "shimctl" "Container runtime handlers"
.nh
.ad l
.SH NAME
shimctl \\- install, change and remove container runtime handlers on a node
.SH SYNOPSIS
.B shimctl
.I COMMAND
.RI [ OPTION ]...
.RI [ ARGUMENT ]...
.SH DESCRIPTION
${[
  "Adds runtime handlers (Kata Containers, gVisor, nvidia, crun, WebAssembly shims and others) to the configuration of containerd or CRI-O on a Kubernetes node, changes them, and takes them out again.",
  "At every instant the configuration on disk is the complete old one or the complete new one. What others wrote in it stays as it is, byte for byte. A change after which the engine does not serve its handlers is undone.",
]
  .map(text)
  .join("\n.PP\n")}
.SH COMMANDS
${names.map(commandText).join("\n")}
.SH OPTIONS
Each command takes those that are listed with it.
An option's value follows it as the next word or behind an equals sign;
a value in brackets only behind the sign.
${described(names)}
.SH EXIT STATUS
${exitCodes.map(([code, meaning]) => entry(`.B ${code}`, text(meaning))).join("\n")}
.SH ENVIRONMENT
${entry(".B SHIMCTL_\\fIOPTION", text("Each option is also a variable: `--lock-timeout` is `SHIMCTL_LOCK_TIMEOUT`. A flag beats a variable, which beats the handler file. An empty variable counts as unset, and that of a flag is true or false."))}
${entry(".B NO_COLOR", text("Where it is set, nothing is coloured. Colours are for terminals only in any case."))}
.SH FILES
${entry(`.I ${literal(stateFolder)}`, text("What is known of the node: record, journal, and older bytes of what was changed."))}
${entry(`.I ${literal(lockPath)}`, text("The node's lock, which `shimctl lock` holds for other programs."))}
${entry(`.I ${literal(kataLockPath)}`, text("The lock of kata-deploy, which is taken as well."))}
.SH EXAMPLES
${[
  ["shimctl install kata-qemu --dry-run", "Show what adding a handler would change, and write nothing."],
  ["shimctl status", "Show the engine, its handlers and whose they are."],
  ["shimctl render --for runtimeclass kata-qemu | kubectl apply -f -", "Let pods ask for the handler."],
  ["source <(shimctl completion bash)", "Complete command lines in this shell."],
]
  .map(([line = "", what = ""]) => `${text(what)}\n.PP\n.RS 4\n.EX\n${literal(line)}\n.EE\n.RE`)
  .join("\n.PP\n")}
.SH SEE ALSO
.BR containerd (8),
.BR crio (8),
.BR kubectl (1)
`;
}

/** A command with its help, and the names of its options. */
function commandText(name: CommandName): string {
  const { usage, help } = commands[name];
  const options = optionsOf(name).map((option) => bold(`--${option.name}`));
  return `.SS ${literal(usage)}
${[sentence(help), ...moreOf(name)].map(text).join("\n.br\n")}
.PP
Options:
${options.join(",\n")}.`;
}

/** Every option once, and once more for commands that mean something else by it. */
function described(names: readonly CommandName[]): string {
  const all = names.flatMap((command) => optionsOf(command).map((option) => ({ command, option })));
  const byName = [...Map.groupBy(all, ({ option }) => option.name)].sort(([a], [b]) => (a < b ? -1 : 1));
  return byName
    .flatMap(([, found]) => {
      const meanings = [...Map.groupBy(found, ({ option }) => option.help).values()];
      const isOnly = meanings.length === 1;
      return meanings.flatMap((same) => {
        const commandsOf = isOnly ? undefined : same.map(({ command }) => command);
        return same.slice(0, 1).map(({ option }) => optionText(option, commandsOf));
      });
    })
    .join("\n");
}

function optionText(option: Option, of: readonly CommandName[] | undefined): string {
  const { name, short, help, default: fallback, takes } = option;
  const flags = [...(short === undefined ? [] : [`-${short}`]), `--${name}`].map(bold);
  const value = valueText(option).replace(/[A-Z][A-Z,]*|(?<==)\w+/, (word) => `\\fI${word}\\fR`);
  const words = takes === undefined ? [] : offered(takes);
  const isToldApart = Array.isArray(words) && words.every((word) => help.includes(word));
  const said = [
    of === undefined ? sentence(help, words) : `With ${of.map((each) => `\`${each}\``).join(", ")}: ${help}.`,
    ...(typeof words === "string" || words.length === 0 || isToldApart
      ? []
      : [`Values: ${words.join(", ")}.`]),
    ...(fallback === undefined ? [] : [`Default: ${fallback}.`]),
  ];
  return entry(`${flags.join(", ")}${value}`, said.map(text).join("\n"));
}

function entry(tag: string, body: string): string {
  return `.TP\n${tag}\n${body}`;
}

/** @param words that are typed as they are, even where a sentence begins with one */
function sentence(help: string, words: "file" | "folder" | readonly string[] = []): string {
  const [first = ""] = help.split(/[ ,]/, 1);
  const isTyped = Array.isArray(words) && words.includes(first);
  return `${isTyped ? first : `${first.slice(0, 1).toUpperCase()}${first.slice(1)}`}${help.slice(first.length)}.`;
}

/** Running text, in lines as long as mandoc likes them; what stands in backticks is set as it is typed. */
function text(said: string): string {
  const set = said
    .split("`")
    .map((part, index) => (index % 2 === 0 ? escaped(part) : bold(part)))
    .join("");
  const lines = set.match(/\S.{0,76}(?= |$)/g) ?? [];
  // A line that begins so would be a request.
  return lines.map((line) => line.replace(/^[.']/, "\\&$&")).join("\n");
}

function bold(typed: string): string {
  return `\\fB${literal(typed)}\\fR`;
}

/** What is typed: a hyphen is a minus there. */
function literal(typed: string): string {
  return escaped(typed).replaceAll("-", "\\-");
}

function escaped(said: string): string {
  return said
    .replaceAll("\\", "\\e")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replaceAll(/[^\n -~]/gu, (character) => {
      const point = character.codePointAt(0) ?? 0;
      return `\\[u${point.toString(16).toUpperCase().padStart(4, "0")}]`;
    });
}
