import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { privateApt } from "../../build/debian.ts";
import { repo } from "../../build/source.ts";

/**
 * Runs a program in another root, with the environment that is given and nothing else. Only /proc is mounted there,
 * in namespaces of its own. Needs root.
 */
export function runInRoot(
  root: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): SpawnSyncReturns<string> {
  mkdirSync(join(root, "proc"), { recursive: true });
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const script = 'mount -t proc proc "$0/proc"; exec env -i "$@"';
  const chroot = [...variables, "/usr/sbin/chroot", root, ...argv];
  return spawnSync(
    "unshare",
    ["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script, root, ...chroot],
    { encoding: "utf8", timeout: 60_000, killSignal: "SIGKILL" },
  );
}

/** Unpacks Debian packages into a folder; they are fetched once, into `.cache/packages`. */
export async function unpackPackages(names: readonly string[], into: string): Promise<void> {
  const cache = join(repo, ".cache", "packages");
  const kept = (name: string) => join(cache, `${name}.deb`);
  const missing = names.filter((name) => !existsSync(kept(name)));
  if (missing.length > 0) {
    mkdirSync(cache, { recursive: true });
    const folder = mkdtempSync(join(cache, ".fetch-"));
    try {
      const apt = await privateApt("bookworm", folder);
      await apt("update");
      await apt("download", ...missing);
      for (const file of readdirSync(folder).filter((each) => each.endsWith(".deb")))
        renameSync(join(folder, file), kept(file.slice(0, file.indexOf("_"))));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  for (const name of names) {
    const { status, stderr } = spawnSync("dpkg-deb", ["-x", kept(name), into], { encoding: "utf8" });
    if (status !== 0) throw new Error(`cannot unpack ${name}: ${stderr}`);
  }
}
