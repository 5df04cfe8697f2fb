import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bundled } from "./bundled.ts";
import type { Loader } from "./loader.ts";
import { runtimeVersion } from "./runtime.ts";
import { repo } from "./source.ts";

/**
 * The licences of everything that an artefact contains: bundled packages, the runtime with what is linked into it
 * (its own list, which says how to relink it), and the C library.
 */
export function licences(loader: Loader): string {
  const modules = join(repo, "node_modules");
  const packages = bundled().map(({ name, version, license }) => {
    const file = readdirSync(join(modules, name)).find((each) => /^licen[cs]e/i.test(each));
    if (file === undefined) throw new Error(`${name} has no licence file`);
    return { title: `${name} ${version}: ${license}`, text: readFileSync(join(modules, name, file), "utf8") };
  });
  const runtime = {
    title: `Bun ${runtimeVersion()}: MIT, with parts under other licences`,
    text: readFileSync(join(modules, "bun-types", "docs", "project", "license.mdx"), "utf8"),
  };
  const libc = {
    title: `GNU C Library, Debian's libc6 ${loader.version} (portable archive and image): LGPL-2.1-or-later`,
    text: loader.copyright,
  };
  const rule = "=".repeat(80);
  return [...packages, runtime, libc]
    .map(({ title, text }) => `${rule}\n${title}\n${rule}\n\n${text.trim()}\n`)
    .join("\n");
}
