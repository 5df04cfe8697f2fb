import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./cache.ts";
import { privateApt } from "./debian.ts";
import pin from "./loader.json" with { type: "json" };
import { type Target, targets } from "./target.ts";

/**
 * The folder of the portable executable, its loader and its libraries, on every host and in the image. It is written
 * into the executable, so that no variable and no working folder says where libraries come from.
 */
export const prefix = "/opt/shimctl";
/** The loader there: short enough to take the old one's place. See `fixLoader`. */
export const loaderPath = `${prefix}/ld.so`;

/** What the executable needs of the C library, by its NEEDED entries, besides the loader. */
const libraries = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"];

export interface Loader {
  /** Their names in `prefix`, sorted, and their contents. */
  readonly files: readonly { readonly name: string; readonly bytes: Buffer }[];
  /** Debian's copyright file of the package. */
  readonly copyright: string;
  readonly version: string;
  readonly sha256: string;
}

/**
 * The loader libraries for a target: glibc as Debian 12 packages it, at the version and with the digests of
 * loader.json. There is no such package on npm, and the machine that builds has only its own architecture's. Kept in
 * `.cache/loader`; apt, which checks Debian's signature, is asked once.
 */
export async function loaderFor(target: Target): Promise<Loader> {
  const sha256 = pin.sha256[target.debianArch];
  const path = join(cache, `${pin.package}_${pin.version}_${target.debianArch}.deb`);
  if (!existsSync(path)) await fetch(target, pin.version, path);
  if (digestOf(await readFile(path)) !== sha256)
    throw new Error(`${path} is not what build/loader.json pins: remove it`);
  const folder = await mkdtemp(join(cache, ".unpack-"));
  try {
    await run(["dpkg-deb", "-x", path, folder]);
    const at = (name: string) => readFile(join(folder, "lib", target.triplet, name));
    const files = await Promise.all(libraries.map(async (name) => ({ name, bytes: await at(name) })));
    files.push({ name: "ld.so", bytes: await at(target.loader) });
    files.sort((one, other) => (one.name < other.name ? -1 : 1));
    const copyright = await readFile(join(folder, "usr", "share", "doc", pin.package, "copyright"), "utf8");
    return { files, copyright, version: pin.version, sha256 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const cache = join(import.meta.dirname, "..", ".cache", "loader");

async function fetch(target: Target, version: string | undefined, into: string): Promise<void> {
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, ".fetch-"));
  try {
    const apt = await privateApt(pin.suite, folder, target.debianArch);
    await apt("update");
    await apt("download", version === undefined ? pin.package : `${pin.package}=${version}`).catch(
      (cause) => {
        const how = "run 'npx bun build/loader.ts --pin' to pin the current one";
        throw new Error(`Debian ${pin.suite} has no ${pin.package} ${version} any more: ${how}`, { cause });
      },
    );
    const found = (await readdir(folder)).find((name) => name.endsWith(".deb"));
    if (found === undefined) throw new Error(`apt-get downloaded no ${pin.package}`);
    await rename(join(folder, found), into);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** `--pin`: makes loader.json say what Debian has now; the change is reviewed as any other. */
async function repin(): Promise<void> {
  const sha256: Record<string, string> = {};
  const versions = new Set<string>();
  for (const target of targets) {
    await mkdir(cache, { recursive: true });
    const path = join(cache, `.pin-${target.debianArch}.deb`);
    await fetch(target, undefined, path);
    sha256[target.debianArch] = digestOf(await readFile(path));
    const version = (await run(["dpkg-deb", "-f", path, "Version"])).trim();
    versions.add(version);
    await rename(path, join(cache, `${pin.package}_${version}_${target.debianArch}.deb`));
  }
  const [version] = versions;
  if (versions.size !== 1) throw new Error(`the architectures differ: ${[...versions].join(", ")}`);
  const text = JSON.stringify({ ...pin, version, sha256 }, undefined, 2);
  await writeFile(join(import.meta.dirname, "loader.json"), `${text}\n`);
}

if (import.meta.main && process.argv.includes("--pin")) await repin();
