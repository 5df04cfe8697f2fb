import {
  alone,
  type Command,
  type CommandLine,
  changes,
  firstWords,
  type Option,
  type Word,
  wordsFor,
} from "./command_line.ts";

/** A script for zsh: as `_shimctl` in a folder of `$fpath`, or sourced after `compinit`. */
export function zshCompletion(line: CommandLine): string {
  return `#compdef shimctl
# zsh completion for shimctl, made by: shimctl completion zsh

_shimctl() {
  if (( CURRENT == 2 )); then
    if [[ $PREFIX == -* ]]; then
      local -a words_alone=(${described(alone)})
      _describe -o option words_alone
    else
      local -a commands=(${described(firstWords(line))})
      _describe -t commands command commands
    fi
    return
  fi

  local command=$words[2]
  local -i behind=$words[(i)--]
  # Whatever stands behind -- is a command line of its own.
  if (( behind < CURRENT )); then
    [[ $command == lock ]] || return
    words=("\${(@)words[behind + 1, -1]}")
    (( CURRENT -= behind ))
    _normal
    return
  fi

  shift words
  (( CURRENT-- ))
  case $command in
${line.commands.map((command) => commandCase(command)).join("\n")}
    help)
      local -a commands=(${described(line.commands)})
      (( CURRENT == 2 )) && _describe -t commands command commands
      ;;
  esac
}

_shimctl_handlers() {
  local -a handlers=(${described(line.handlers)})
  _describe -t handlers handler handlers
}

_shimctl_changes() {
  local -a changes=(${described(wordsFor("change", line) ?? [])})
  if (( \${words[(I)${changes.join("|")}]} > 0 && \${words[(I)${changes.join("|")}]} < CURRENT )); then
    _shimctl_handlers
  else
    _describe -t commands command changes
  fi
}

_shimctl_shells() {
  local -a shells=(${described(wordsFor("shell", line) ?? [])})
  _describe -t shells shell shells
}

if [[ $funcstack[1] == _shimctl ]]; then
  _shimctl "$@"
else
  compdef _shimctl shimctl
fi
`;
}

function commandCase({ name, options, takes }: Command): string {
  const specs = [...options.map(optionSpec), ...(takes === undefined ? [] : [quote(arguments_[takes])])];
  return `    ${name})
      _arguments \\
${specs.map((spec) => `        ${spec}`).join(" \\\n")}
      ;;`;
}

const arguments_ = {
  handlers: "*:handler:_shimctl_handlers",
  handler: "1:handler:_shimctl_handlers",
  file: "1:file:_files",
  change: "*:command or handler:_shimctl_changes",
  shell: "1:shell:_shimctl_shells",
} as const satisfies Record<NonNullable<Command["takes"]>, string>;

/** What `_arguments` takes for an option. */
function optionSpec(option: Option): string {
  const { name, short, help, value, needsValue } = option;
  const explained = `[${help.replaceAll(/[[\]\\]/g, "\\$&")}]`;
  const rest =
    value === undefined
      ? explained
      : `${explained}${needsValue ? ":" : "::"}${value.replaceAll(/[:\\]/g, "\\$&")}:${action(option)}`;
  // `=` takes the value behind an equals sign or as the next word, `=-` only behind the sign.
  const sign = value === undefined ? "" : needsValue ? "=" : "=-";
  if (short === undefined) return quote(`--${name}${sign}${rest}`);
  const shortSign = needsValue ? "" : sign;
  return `${quote(`(-${short} --${name})`)}{-${short}${shortSign},--${name}${sign}}${quote(rest)}`;
}

function action({ offers }: Option): string {
  if (offers === undefined) return " ";
  if (offers === "file") return "_files";
  return offers === "folder"
    ? "_directories"
    : `(${offers.map((word) => word.replaceAll(/[^\w.-]/g, "\\$&")).join(" ")})`;
}

/** Elements of an array for `_describe`, which takes what is behind the first colon for the description. */
function described(words: readonly Word[]): string {
  const lines = words.map(({ name, help }) => {
    const escaped = name.replaceAll(/[:\\]/g, "\\$&");
    return `\n    ${quote(help === "" ? escaped : `${escaped}:${help}`)}`;
  });
  return `${lines.join("")}\n  `;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
