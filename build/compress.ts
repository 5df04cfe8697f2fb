import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { constants, gzip, zstdCompress } from "node:zlib";

/**
 * One zstd frame, at level 19: the highest whose window any decoder takes. Frames may follow one another (RFC 8878,
 * 3), so the parts of an archive are compressed one by one, and at the same time.
 *
 * It takes a minute for an executable, so results are kept in `.cache/compressed` under their input's digest.
 */
export async function zstd(bytes: Buffer): Promise<Buffer> {
  const digest = createHash("sha256").update(bytes).digest("hex");
  const path = join(cache, `${digest}.zstd${level}-${process.versions["zstd"] ?? process.versions["bun"]}`);
  if (existsSync(path)) {
    const now = new Date();
    await utimes(path, now, now);
    return readFile(path);
  }
  const made = await promisify(zstdCompress)(bytes, {
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 },
  });
  await mkdir(cache, { recursive: true });
  await writeFile(`${path}.${process.pid}`, made);
  await rename(`${path}.${process.pid}`, path);
  await forget();
  return made;
}

/** One gzip member without name and date. Members may follow one another (RFC 1952, 2.2). */
export async function gzip9(bytes: Buffer): Promise<Buffer> {
  return promisify(gzip)(bytes, { level: 9 });
}

const level = 19;
const cache = join(import.meta.dirname, "..", ".cache", "compressed");
/** Enough for some builds: each has two executables, two sets of libraries, and shares the rest. */
const kept = 32;

async function forget(): Promise<void> {
  const names = await readdir(cache);
  const dated = names.map((name) => ({ name, used: lastUse(join(cache, name)) }));
  dated.sort((one, other) => other.used - one.used);
  for (const { name } of dated.slice(kept)) await rm(join(cache, name), { force: true });
}

/** Another build may rename or remove a file at any time: that one is not too many. */
function lastUse(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;
}
