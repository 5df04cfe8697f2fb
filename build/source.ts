import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import packageJson from "../package.json" with { type: "json" };

export const repo = join(import.meta.dirname, "..");
export const dist = join(repo, "dist");

/** What is being built, as artefacts name it. */
export interface Source {
  readonly version: string;
  readonly description: string;
  readonly license: string;
  /** The commit, where this is a clean checkout. */
  readonly revision?: string;
  /** RFC 3339; of the commit or SOURCE_DATE_EPOCH, never of the build: the same source is always the same bytes. */
  readonly created: string;
}

export function source(): Source {
  const { version, description, license } = packageJson;
  const git = (...args: string[]): string | undefined => {
    const { status, stdout } = spawnSync("git", ["-C", repo, ...args], { encoding: "utf8" });
    return status === 0 ? stdout.trim() : undefined;
  };
  const clean = git("status", "--porcelain", "--untracked-files=no") === "";
  const revision = clean ? git("rev-parse", "HEAD") : undefined;
  const seconds = Number(process.env["SOURCE_DATE_EPOCH"] || git("log", "-1", "--format=%ct") || 0);
  const created = new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
  return { version, description, license, created, ...(revision === undefined ? {} : { revision }) };
}
