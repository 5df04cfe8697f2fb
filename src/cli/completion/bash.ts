import { shellWord } from "../../shell_word.ts";
import {
  alone,
  type Command,
  type CommandLine,
  changes,
  firstWords,
  type Option,
  wordsFor,
} from "./command_line.ts";

/**
 * A script for bash 4 and later, which needs no other: the bash-completion package is used only to complete what
 * `lock` runs, and only where it is there.
 */
export function bashCompletion(line: CommandLine): string {
  return `# bash completion for shimctl, made by: shimctl completion bash

_shimctl() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]}
  local command=\${COMP_WORDS[1]} option= before= i
  local -a words=()
  COMPREPLY=()

  if ((COMP_CWORD == 1)); then
    words=(${list(firstWords(line))})
    [[ $cur == -* ]] && words=(${list(alone)})
    _shimctl_words
    return
  fi

  # Whatever stands behind -- is a command line of its own.
  for ((i = 2; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -- ]] || continue
    [[ $command == lock ]] || return
    if declare -F _command_offset >/dev/null; then
      _command_offset $((i + 1))
    elif ((i + 1 == COMP_CWORD)); then
      mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    else
      _shimctl_paths -f
    fi
    return
  done

  # Readline takes --option=value for three words, unless COMP_WORDBREAKS has no equals sign.
  if [[ $cur == = ]]; then
    option=$prev cur=
  elif [[ $prev == = ]]; then
    option=\${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $cur == --*=* ]]; then
    option=\${cur%%=*} before=\${cur%%=*}= cur=\${cur#*=}
  else
    case $command:$prev in
      ${cases(line, (option) => (option.needsValue ? "" : undefined)).get("") ?? ""}) option=$prev ;;
    esac
  fi
  if [[ -n $option ]]; then
    case $command:$option in
${[...cases(line, valuesOf)].map(([how, where]) => `      ${where}) ${how} ;;`).join("\n")}
    esac
    return
  fi

  local -a handlers=(${list(line.handlers)})
  case $command in
${line.commands.map((command) => commandCase(command, line)).join("\n")}
    help) words=(${list(line.commands)}) ;;
  esac
  _shimctl_words
}

# What of the words begins like the word at the cursor, quoted where that is needed.
_shimctl_words() {
  local word
  for word in "\${words[@]}"; do
    [[ $word == "$cur"* ]] && COMPREPLY+=("$before$(printf %q "$word")")
  done
}

# Paths that begin like the word at the cursor: -f for all, -d for folders.
_shimctl_paths() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -P "$before" -- "$cur")
}

complete -F _shimctl shimctl
`;
}

function commandCase(command: Command, line: CommandLine): string {
  const options = `words=(${command.options.flatMap(flags).map(shellWord).join(" ")})`;
  const own = argument(command, line);
  return [
    `    ${command.name})`,
    `      ${options}`,
    ...(own.length === 0
      ? []
      : ["      if [[ $cur != -* ]]; then", ...own.map((text) => `        ${text}`), "      fi"]),
    "      ;;",
  ].join("\n");
}

/** What sets the words that an argument of a command can be. */
function argument({ takes }: Command, line: CommandLine): string[] {
  if (takes === "file") return ["_shimctl_paths -f", "return"];
  if (takes === "handlers" || takes === "handler") return ['words=("${handlers[@]}")'];
  const words = `words=(${list(wordsFor(takes, line) ?? [])})`;
  if (takes === "shell") return [words];
  if (takes === undefined) return [];
  return [
    words,
    "for ((i = 2; i < COMP_CWORD; i++)); do",
    "  case ${COMP_WORDS[i]} in",
    `    ${changes.join(" | ")}) words=("\${handlers[@]}") ;;`,
    "  esac",
    "done",
  ];
}

/** What offers an option's values. */
function valuesOf({ offers }: Option): string | undefined {
  if (offers === undefined) return undefined;
  if (offers === "file") return "_shimctl_paths -f";
  return offers === "folder"
    ? "_shimctl_paths -d"
    : `words=(${offers.map(shellWord).join(" ")}) && _shimctl_words`;
}

/** Patterns for `$command:$option`, by what is to be done: `*:` where that is the same for every command. */
function cases({ commands }: CommandLine, what: (option: Option) => string | undefined): Map<string, string> {
  const all = commands.flatMap((command) =>
    command.options.flatMap((option) =>
      flags(option).map((flag) => ({ command: command.name, flag, todo: what(option) })),
    ),
  );
  const patterns = all.flatMap(({ command, flag, todo }) => {
    const isSame = all.every((other) => other.flag !== flag || other.todo === todo);
    return todo === undefined ? [] : [{ todo, pattern: `${isSame ? "*" : command}:${flag}` }];
  });
  const grouped = Map.groupBy(patterns, ({ todo }) => todo);
  return new Map(
    [...grouped].map(([todo, found]) => [
      todo,
      [...new Set(found.map(({ pattern }) => pattern))].join(" | "),
    ]),
  );
}

function flags({ name, short }: Option): string[] {
  return short === undefined ? [`--${name}`] : [`--${name}`, `-${short}`];
}

function list(words: readonly { readonly name: string }[]): string {
  return words.map(({ name }) => shellWord(name)).join(" ");
}
