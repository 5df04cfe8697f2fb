import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { shells } from "../../src/cli/options.ts";
import { shellWord } from "../../src/shell_word.ts";

export type Shell = (typeof shells)[number];

/** Where the lines are completed there is a file of this name, and a folder of the other. */
export const there = { file: "some-file.toml", folder: "some-folder" } as const;

const end = "-- end of the offers --";

/**
 * What a real shell offers at the end of each line, by a completion script of ours, sorted. Lines hold no quotes.
 * Throws where the shell has something to say itself.
 */
export function offersOf(shell: Shell, script: string, lines: readonly string[]): string[][] {
  const folder = mkdtempSync(join(tmpdir(), "shimctl-shell-"));
  const at = (name: string) => join(folder, name);
  try {
    mkdirSync(join(folder, "here", there.folder), { recursive: true });
    writeFileSync(join(folder, "here", there.file), "");
    writeFileSync(at("script"), script);
    writeFileSync(at("out"), "");
    const { args, driver, setup } = drivers[shell](at, lines);
    writeFileSync(at("driver"), driver);
    writeFileSync(at("setup"), setup ?? "");
    const ran = spawnSync(shell, [...args, at("driver")], {
      cwd: at("here"),
      encoding: "utf8",
      timeout: 60_000,
      env: { PATH: process.env["PATH"] ?? "", HOME: folder, TERM: "dumb", LC_ALL: "C.UTF-8" },
    });
    if (ran.status !== 0 || ran.stderr !== "")
      throw new Error(`${shell} ended with ${ran.status ?? ran.signal}: ${ran.stderr}`);
    const found = readFileSync(at("out"), "utf8").split(`${end}\n`).slice(0, -1);
    if (found.length !== lines.length)
      throw new Error(`${shell} answered ${found.length} of ${lines.length} lines`);
    return found.map((each) => [...new Set(each.split("\n").filter((name) => name !== ""))].sort());
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Driver {
  readonly args: readonly string[];
  readonly driver: string;
  /** What a shell within the shell reads first. */
  readonly setup?: string;
}

const drivers: Record<Shell, (at: (name: string) => string, lines: readonly string[]) => Driver> = {
  // As readline calls the function: an equals sign is a word of its own.
  bash: (at, lines) => ({
    args: ["--norc"],
    driver: [
      `source ${at("script")}`,
      `exec >${at("out")}`,
      ...lines.map((line) => {
        const words = line.split(" ").flatMap((word) => word.split(/(?<=.)(?==)|(?<==)(?=.)/));
        return `COMP_WORDS=(${words.map((word) => (word === "" ? "''" : shellWord(word))).join(" ")}) COMP_CWORD=${words.length - 1}
_shimctl shimctl
for each in "\${COMPREPLY[@]}"; do eval "printf '%s\\n' $each"; done
echo '${end}'`;
      }),
      "",
    ].join("\n"),
  }),
  fish: (at, lines) => ({
    args: ["--no-config"],
    driver: [
      `source ${at("script")}`,
      ...lines.map(
        (line) =>
          `complete -C '${line}' | string replace -r '\\t.*' '' >>${at("out")}; echo '${end}' >>${at("out")}`,
      ),
      "",
    ].join("\n"),
  }),
  // Only its line editor completes, so it is one on a terminal: each line is typed, then the Tab key.
  zsh: (at, lines) => ({
    args: ["-f"],
    setup: `PROMPT= RPROMPT=
autoload -Uz compinit && compinit -u -D
source ${at("script")}
function compadd {
  # What only sorts words out offers none.
  if [[ " \${(@)argv[1,(i)-(|-)]} " == *" -"[a-zA-Z]#[OAD]" "* ]]; then builtin compadd "$@"; return; fi
  local -a offered
  builtin compadd -A offered "$@"
  # They are quoted already, as they would stand on the line.
  print -rl -- "\${(@Q)offered}" >>${at("out")}
  builtin compadd "$@"
}
offer() { _main_complete; compstate[insert]= compstate[list]=; print -r -- '${end}' >>${at("out")} }
zle -C offer complete-word offer
bindkey '^I' offer
zle-line-init() { print >${at("ready")} }
zle -N zle-line-init
`,
    driver: `zmodload zsh/zpty zsh/zselect
drained() { local said; while [[ ! -s $1 ]] || (( $(grep -c -e '${end}' ${at("out")}) < $2 )); do zpty -rt z said; zselect -t 1; done }
zpty z zsh -f -i
zpty -w z 'source ${at("setup")}'
drained ${at("ready")} 0
${lines
  .map(
    (line, index) =>
      `zpty -wn z ${shellWord(line)}$'\\t'\ndrained ${at("ready")} ${index + 1}\nzpty -wn z $'\\C-u'`,
  )
  .join("\n")}
zpty -d z
`,
  }),
};
