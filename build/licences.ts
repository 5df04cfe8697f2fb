import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bundled, type Package } from "./bundled.ts";
import type { Loader } from "./loader.ts";
import { runtimeVersion } from "./runtime.ts";
import { repo } from "./source.ts";

const modules = join(repo, "node_modules");

/**
 * The licences of everything that an artefact contains: bundled packages, the runtime with what is linked into it
 * (its own list, which says how to relink it), and the C library.
 */
export function licences(loader: Loader): string {
  const packages = bundled().map((each) => ({
    title: `${each.name} ${each.version}: ${each.license}`,
    text: textOf(each),
  }));
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

/** Packages that ship no licence file have their other notices at the head of one of their own files. */
const notices: Readonly<Record<string, string>> = {
  "@bufbuild/protobuf BSD-3-Clause": "dist/esm/wire/varint.js",
};

/** The text of a package's licence. A package without a file for it is held to the licences that it names. */
function textOf({ name, license }: Package): string {
  const file = readdirSync(join(modules, name)).find((each) => /^licen[cs]e/i.test(each));
  if (file !== undefined) return readFileSync(join(modules, name, file), "utf8");
  const named = license.match(/[A-Za-z0-9.-]+/g) ?? [];
  return named
    .filter((id) => id !== "AND")
    .map((id) => {
      // Ours is the same text as everybody's.
      if (id === "Apache-2.0") return readFileSync(join(repo, "LICENSE"), "utf8");
      const notice = notices[`${name} ${id}`];
      if (notice === undefined) throw new Error(`${name} has no text of its licence ${id}`);
      const lines = readFileSync(join(modules, name, notice), "utf8").split("\n");
      const end = lines.findIndex((line) => !line.startsWith("//"));
      return lines
        .slice(0, end)
        .map((line) => line.replace(/^\/\/ ?/, ""))
        .join("\n");
    })
    .join("\n\n");
}
