import { mkdirSync, writeFileSync } from "node:fs";
import { compile } from "../build/compile.ts";
import { nativeTarget } from "../build/target.ts";

/** The executable as it is released, and a program without a line of code, compiled in the same way. */
export interface Programs {
  readonly shimctl: string;
  readonly empty: string;
}

export function compilePrograms(folder: string): Programs {
  mkdirSync(folder, { recursive: true });
  const programs = { shimctl: `${folder}/shimctl`, empty: `${folder}/empty` };
  const nothing = `${folder}/empty.ts`;
  writeFileSync(nothing, "export {};\n");
  compile(nativeTarget(), programs.shimctl);
  compile(nativeTarget(), programs.empty, nothing);
  return programs;
}
