import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { locked, type Package } from "./bundled.ts";
import { repo } from "./source.ts";
import { nativeTarget, type Target } from "./target.ts";

const cache = join(repo, ".cache", "runtime");

/**
 * The executable of Bun that a target's builds are made from. This machine's is the one that `npm ci` installed.
 * For another machine npm installs none, so its package is taken from npm's cache or the registry, at the version and
 * with the digest of package-lock.json, and kept in `.cache/runtime`.
 */
export function runtimeFor(target: Target): string {
  const wanted = locked(target.runtimePackage);
  if (target.arch === nativeTarget().arch) {
    if (process.versions["bun"] !== wanted.version)
      throw new Error(
        `cannot build with bun ${process.versions["bun"]}, as package-lock.json pins ${wanted.version}: use npm run`,
      );
    return process.execPath;
  }
  const kept = join(cache, `${basename(target.runtimePackage)}-${wanted.version}`);
  if (!existsSync(kept)) fetch(target, wanted, kept);
  return kept;
}

/** The version of Bun that builds are made with. */
export function runtimeVersion(): string {
  return locked(nativeTarget().runtimePackage).version;
}

/** `npm pack` instead of a dependency: npm refuses to install a package for another processor (EBADPLATFORM). */
function fetch(target: Target, wanted: Package, into: string): void {
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, ".fetch-"));
  try {
    const spec = `${target.runtimePackage}@${wanted.version}`;
    const pack = (...flags: string[]) =>
      spawnSync("npm", ["pack", spec, "--silent", "--pack-destination", folder, ...flags], {
        encoding: "utf8",
      });
    const offline = pack("--offline");
    const packed = offline.status === 0 ? offline : pack();
    if (packed.status !== 0) throw new Error(`npm pack ${spec} failed: ${packed.stderr.trim()}`);
    const tarball = join(folder, packed.stdout.trim());
    const digest = `sha512-${createHash("sha512").update(readFileSync(tarball)).digest("base64")}`;
    if (digest !== wanted.integrity)
      throw new Error(`${spec} is not what package-lock.json pins: ${digest} instead of ${wanted.integrity}`);
    const unpacked = spawnSync("tar", ["-xzf", tarball, "-C", folder, "package/bin/bun"], {
      encoding: "utf8",
    });
    if (unpacked.status !== 0) throw new Error(`cannot unpack ${spec}: ${unpacked.stderr.trim()}`);
    renameSync(join(folder, "package", "bin", "bun"), into);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
