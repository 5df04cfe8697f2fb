import { ShimctlError } from "../error.ts";
import { bashCompletion } from "./completion/bash.ts";
import { commandLine } from "./completion/command_line.ts";
import { fishCompletion } from "./completion/fish.ts";
import { zshCompletion } from "./completion/zsh.ts";
import type { Io } from "./io.ts";
import { nearest, type Parsed, shells, shown } from "./options.ts";
import { document } from "./output.ts";

const makers = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;

/** `completion SHELL`: a script that completes command lines in that shell. */
export function completion(io: Io, { args, options }: Parsed): number {
  const known = `known are ${shells.join(", ")}`;
  const [name, ...more] = args;
  if (name === undefined || more.length > 0)
    throw new ShimctlError("usage", "Cannot print a completion script, as not one shell is named", {
      hint: `write shimctl completion SHELL; ${known}`,
    });
  const shell = shells.find((each) => each === name);
  if (shell === undefined)
    throw new ShimctlError("usage", `Cannot complete in this shell, as it is not known: ${shown(name)}`, {
      hint: `${nearest(name, shells)}${known}`,
    });
  const text = makers[shell](commandLine());
  io.out(options.json ? document("completion", "ok", undefined, { shell, text }) : text);
  return 0;
}
