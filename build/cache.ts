import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";

/** Why one engine is not there, in a sentence. */
export interface Missing {
  readonly name: string;
  readonly reason: string;
}

const Facts = z.object({ version: z.string(), from: z.array(z.string()) });

/** What a folder of the cache holds: the version as its program says, and what it was made from. */
export type Facts = z.infer<typeof Facts>;

/**
 * Makes one folder of the cache unless it is there. When that fails, says so on stderr and returns why:
 * one engine that cannot be had does not stop the others.
 */
export async function fill(
  name: string,
  make: (folder: string) => Promise<Facts>,
): Promise<Missing | undefined> {
  const folder = cached(name);
  if (existsSync(join(folder, "engine.json"))) return undefined;
  const temp = await mkdtemp(join(await made(cached()), `.${name}-`));
  try {
    const facts = await make(temp);
    await writeFile(join(temp, "engine.json"), `${JSON.stringify(facts, undefined, 2)}\n`);
    await chmod(temp, 0o755);
    await moveInto(temp, folder);
    return undefined;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`engines: ${name} is missing: ${reason}\n`);
    return { name, reason };
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}

/** The facts of a folder of the cache, or undefined where that is not filled. */
export async function factsOf(name: string): Promise<Facts | undefined> {
  const path = join(cached(name), "engine.json");
  return existsSync(path) ? Facts.parse(JSON.parse(await readFile(path, "utf8"))) : undefined;
}

/** A path in the cache. */
export function cached(...parts: string[]): string {
  const fallback = join(import.meta.dirname, "..", ".cache", "engines");
  return join(resolve(process.env["SHIMCTL_ENGINES"] ?? fallback), ...parts);
}

/** Whoever comes second throws its copy away: two test runs may fetch the same engine at once. */
async function moveInto(temp: string, folder: string): Promise<void> {
  try {
    await rename(temp, folder);
  } catch (error) {
    if (!existsSync(join(folder, "engine.json"))) throw error;
  }
}

export async function made(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  return folder;
}

export async function runs(argv: readonly string[]): Promise<boolean> {
  return run(argv).then(
    () => true,
    () => false,
  );
}

/** stdout of a command; throws with the end of its stderr. URLs are left out of errors: they may hold a password. */
export function run(
  argv: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const [command = "", ...args] = argv;
  return new Promise((done, fail) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, LC_ALL: "C.UTF-8", ...options.env },
    });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      err += text;
    });
    child.on("error", () => fail(new Error(`cannot run ${command}: it is not installed`)));
    child.on("close", (code, signal) => {
      if (code === 0) return done(out);
      const what = [command, ...args.slice(0, 2)].join(" ");
      // debootstrap explains itself on stdout.
      const why = (err.trim() === "" ? out : err)
        .trim()
        .split("\n")
        .slice(-3)
        .join(" | ")
        .replaceAll(/\/\/[^/\s@]*@/g, "//");
      fail(new Error(`${what} ended with ${signal ?? code}: ${why}`));
    });
  });
}

export function say(what: string, step: string): void {
  if (process.stderr.isTTY) process.stderr.write(`engines: ${what}: ${step}\n`);
}
