import { shells } from "../options.ts";
import {
  alone,
  type Command,
  type CommandLine,
  changes,
  firstWords,
  type Option,
  type Word,
} from "./command_line.ts";

/** A script for fish 3.0 and later, which may stand in a folder of completions as `shimctl.fish`. */
export function fishCompletion(line: CommandLine): string {
  const { commands, handlers } = line;
  const taking = (...kinds: Command["takes"][]) =>
    commands.filter(({ takes }) => kinds.includes(takes)).map(({ name }) => name);
  const ofCommands = `__shimctl_is ${taking("handlers", "handler").join(" ")}; or __shimctl_has_change`;
  return `# fish completion for shimctl, made by: shimctl completion fish

# Whether the command is one of these, and no -- ends its own words.
function __shimctl_is
    set -l words (commandline -opc)
    set -q words[2]
    and contains -- $words[2] $argv
    and not contains -- -- $words[3..-1]
end

# Whether diff is told which command it is to show.
function __shimctl_has_change
    __shimctl_is diff; or return
    for word in (commandline -opc)[3..-1]
        contains -- $word ${changes.join(" ")}; and return
    end
    return 1
end

# Whether no command is there yet.
function __shimctl_starts
    test (count (commandline -opc)) -eq 1
end

# Folders, without the option that stands before an equals sign.
function __shimctl_folders
    __fish_complete_directories (commandline -ct | string replace -r '^--[^=]*=' '')
end

# Whether -- has ended the words of lock.
function __shimctl_runs
    set -l words (commandline -opc)
    test "$words[2]" = lock; and contains -- -- $words
end

# What completes the command line that lock runs.
function __shimctl_run
    set -l words (commandline -opc)
    set -l first (math (contains -i -- -- $words) + 1)
    complete -C (string join ' ' -- (string escape -- $words[$first..-1]) (commandline -ct))
end

complete -c shimctl -e
complete -c shimctl -f
${lines("__shimctl_starts", firstWords(line))}
${alone.map(({ name, help }) => `complete -c shimctl -n __shimctl_starts -l ${name.slice(2)} -d ${quote(help)}`).join("\n")}
${lines("__shimctl_is help", commands)}
${lines(
  "__shimctl_is diff; and not __shimctl_has_change",
  commands.filter(({ name }) => changes.some((each) => each === name)),
)}
${lines(
  "__shimctl_is completion",
  shells.map((name) => ({ name, help: "" })),
)}
${lines(ofCommands, handlers)}
complete -c shimctl -n ${quote(`__shimctl_is ${taking("file").join(" ")}`)} -F
complete -c shimctl -n __shimctl_runs -x -a '(__shimctl_run)'
${options(line).join("\n")}
`;
}

/** One line for each word that may stand there. */
function lines(condition: string, words: readonly Word[]): string {
  return words
    .map(
      ({ name, help }) =>
        `complete -c shimctl -n ${quote(condition)} -a ${quote(quote(name))}${help === "" ? "" : ` -d ${quote(help)}`}`,
    )
    .join("\n");
}

/** One line for each option, for all commands that mean the same by it. */
function options({ commands }: CommandLine): string[] {
  const all = commands.flatMap((command) =>
    command.options.map((option) => ({ command: command.name, text: optionText(option) })),
  );
  return [...Map.groupBy(all, ({ text }) => text)].map(
    ([text, found]) =>
      `complete -c shimctl -n ${quote(`__shimctl_is ${found.map(({ command }) => command).join(" ")}`)} ${text}`,
  );
}

function optionText({ name, short, help, value, needsValue, offers }: Option): string {
  const names = `${short === undefined ? "" : `-s ${short} `}-l ${name}`;
  return `${names}${value === undefined ? "" : valueText(needsValue, offers)} -d ${quote(help)}`;
}

/** Without -r, fish takes a value only behind an equals sign. */
function valueText(needsValue: boolean, offers: Option["offers"]): string {
  if (offers === "file") return " -r -F";
  if (offers === "folder") return " -x -a '(__shimctl_folders)'";
  const words = offers === undefined ? "" : ` -a ${quote(offers.map(quote).join(" "))}`;
  return `${needsValue ? " -x" : ""}${words}`;
}

/** A word in single quotes, in which fish knows two escapes. */
function quote(text: string): string {
  return `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
}
