import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { repo } from "./source.ts";

const Lock = z.object({
  packages: z.record(
    z.string(),
    z.object({
      version: z.string().optional(),
      license: z.string().optional(),
      integrity: z.string().optional(),
      dev: z.boolean().optional(),
    }),
  ),
});

export interface Package {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  /** As package-lock.json has it: `sha512-` and base64. */
  readonly integrity: string;
}

/** The npm packages that are bundled into the executable, by package-lock.json, sorted. */
export function bundled(): Package[] {
  const inFolder = "node_modules/";
  return Object.entries(packages()).flatMap(([path, entry]) => {
    if (!path.startsWith(inFolder) || entry.dev === true) return [];
    return [named(path.slice(inFolder.length), entry)];
  });
}

/** One package of package-lock.json, whether bundled or not. */
export function locked(name: string): Package {
  return named(name, packages()[`node_modules/${name}`]);
}

type Locked = z.infer<typeof Lock>["packages"][string];

function packages(): Readonly<Record<string, Locked>> {
  return Lock.parse(JSON.parse(readFileSync(join(repo, "package-lock.json"), "utf8"))).packages;
}

function named(name: string, entry: Locked | undefined): Package {
  if (entry?.version === undefined || entry.integrity === undefined)
    throw new Error(`package-lock.json does not pin ${name}`);
  return {
    name,
    version: entry.version,
    license: entry.license ?? "NOASSERTION",
    integrity: entry.integrity,
  };
}
