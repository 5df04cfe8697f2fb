import { allPresets } from "../../handler/presets/registry.ts";
import { layouts } from "../../layout/registry.ts";
import { documentNames } from "../../managed/registry.ts";
import { type CommandName, commands, isCommand, optionsOf, shells, type Takes, takesOf } from "../options.ts";

/** The whole command line, as shells complete it: what each script is made from. */
export interface CommandLine {
  readonly commands: readonly Command[];
  /** Names of handlers, where a command takes some. */
  readonly handlers: readonly Word[];
}

export interface Command extends Word {
  readonly takes: ReturnType<typeof takesOf>;
  readonly options: readonly Option[];
}

export interface Option extends Word {
  readonly short?: string;
  readonly needsValue: boolean;
  /** What stands for the value in help. */
  readonly value?: string;
  /** What can be offered for its value: paths, or these words. */
  readonly offers?: "file" | "folder" | readonly string[];
}

/** A word that can stand on the line, with what people see beside it. */
export interface Word {
  readonly name: string;
  readonly help: string;
}

/** The command line as options, presets, layouts and managed systems have it. */
export function commandLine(): CommandLine {
  return {
    commands: Object.keys(commands).filter(isCommand).map(command),
    handlers: allPresets().map(({ name, summary }) => ({ name, help: summary })),
  };
}

function command(name: CommandName): Command {
  return {
    name,
    help: commands[name].help,
    takes: takesOf(name),
    options: optionsOf(name).map(({ name: option, kind, short, value, help, takes }) => ({
      name: option,
      help,
      needsValue: kind !== "flag" && kind !== "choice",
      ...(short === undefined ? {} : { short }),
      ...(value === undefined ? {} : { value }),
      ...(takes === undefined ? {} : { offers: offered(takes) }),
    })),
  };
}

/** What stands for a value: paths, or these words. */
export function offered(takes: Takes): "file" | "folder" | readonly string[] {
  if (takes === "layout")
    return [
      ...new Set(layouts.flatMap(({ name, family }) => [name, ...(family === undefined ? [] : [family])])),
    ];
  return takes === "document" ? documentNames : takes;
}

/** Commands that `diff` can show. */
export const changes: readonly CommandName[] = ["install", "uninstall", "apply"];

/** What a command's arguments can be, where they are words of a list. */
export function wordsFor(takes: Command["takes"], { handlers }: CommandLine): readonly Word[] | undefined {
  if (takes === "handlers" || takes === "handler") return handlers;
  if (takes === "change") return changes.map((name) => ({ name, help: commands[name].help }));
  return takes === "shell" ? shells.map((name) => ({ name, help: "" })) : undefined;
}

/** The commands, and the words that take a command's place. */
export function firstWords({ commands: known }: CommandLine): readonly Word[] {
  return [...known, { name: "help", help: "show help for a command" }];
}

/** Options without a command. */
export const alone: readonly Word[] = [
  { name: "--help", help: "show help" },
  { name: "--version", help: "show the version" },
];
