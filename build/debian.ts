import { existsSync } from "node:fs";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { made, run } from "./cache.ts";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/**
 * A function that runs apt-get with its own lists, state and cache, and only the `Acquire` part of the machine's
 * configuration (proxies).
 * @param architecture as Debian calls it; this machine's when left out
 */
export async function privateApt(
  suite: string,
  folder: string,
  architecture?: string,
): Promise<(...args: string[]) => Promise<void>> {
  const mirror = await debianMirror();
  const lists = await made(join(folder, "lists", "partial"));
  const cache = await made(join(folder, "cache", "archives", "partial"));
  const source = `Types: deb\nURIs: ${mirror}\nSuites: ${suite}\nComponents: main\nSigned-By: ${keyring}\n`;
  await writeFile(join(folder, "debian.sources"), source, { mode: 0o600 });
  await writeFile(join(folder, "status"), "");
  const acquire = (await run(["apt-config", "dump"]))
    .split("\n")
    .filter((line) => /^Acquire::[^"]* "[^"]+";$/.test(line));
  const own = {
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "Dir::Etc::sourcelist": join(folder, "debian.sources"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::State": folder,
    "Dir::State::lists": join(lists, ".."),
    "Dir::State::status": join(folder, "status"),
    "Dir::Cache": join(cache, "..", ".."),
    "Dir::Log": folder,
    "APT::Sandbox::User": "",
    // Otherwise an unreachable mirror is only a warning, and the packages seem not to exist.
    "APT::Update::Error-Mode": "any",
    "Acquire::Retries": "2",
    "Acquire::Languages": "none",
  };
  const lines = [...acquire, ...Object.entries(own).map(([key, value]) => `${key} "${value}";`)];
  if (architecture !== undefined)
    lines.push(`APT::Architecture "${architecture}";`, `APT::Architectures { "${architecture}"; };`);
  await writeFile(join(folder, "apt.conf"), `${lines.join("\n")}\n`, { mode: 0o600 });
  return async (...args) => {
    await run(["apt-get", "-q", ...args], { cwd: folder, env: { APT_CONFIG: join(folder, "apt.conf") } });
  };
}

/** The first source of Debian's main archive that this machine itself uses. */
export async function debianMirror(): Promise<string> {
  const parts = "/etc/apt/sources.list.d";
  const names = existsSync(parts) ? (await readdir(parts)).sort() : [];
  const files = ["/etc/apt/sources.list", ...names.map((name) => join(parts, name))];
  for (const file of files.filter((each) => existsSync(each))) {
    if (!/\.(list|sources)$/.test(file)) continue;
    const text = await readFile(file, "utf8");
    for (const entry of file.endsWith(".sources") ? stanzas(text) : oneLiners(text)) {
      const uri = entry.uris.find((each) => /\/debian\/?$/.test(each));
      const archive = entry.suites.some((each) => /^[a-z]+$/.test(each));
      if (uri !== undefined && archive && entry.components.includes("main")) return uri;
    }
  }
  throw new Error(
    "no source of Debian's main archive in /etc/apt: add one, it is only read, never installed from",
  );
}

interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

function stanzas(text: string): AptSource[] {
  const withoutComments = text.replaceAll(/^#.*\n?/gm, "");
  return withoutComments.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const field = (name: string): string[] => {
      const match = new RegExp(`^${name}:(.*(?:\\n[ \\t].*)*)`, "im").exec(stanza);
      return words(match?.[1] ?? "");
    };
    if (!field("Types").includes("deb") || field("Enabled").includes("no")) return [];
    return [{ uris: field("URIs"), suites: field("Suites"), components: field("Components") }];
  });
}

function oneLiners(text: string): AptSource[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (match === null) return [];
    return [
      { uris: words(match[1] ?? ""), suites: words(match[2] ?? ""), components: words(match[3] ?? "") },
    ];
  });
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}

/** Unpacks and removes every package in a folder; returns their names. */
export async function unpack(folder: string, tree: string): Promise<string[]> {
  const packages = (await readdir(folder)).filter((name) => name.endsWith(".deb")).sort();
  for (const name of packages) {
    await run(["dpkg", "-x", join(folder, name), tree]);
    await rm(join(folder, name));
  }
  return packages;
}

/** Debian moved `/lib` into `/usr/lib`; older packages still ship the former. */
export async function keepLibraries(tree: string, into: string): Promise<void> {
  for (const name of ["lib", "lib64"]) {
    for (const from of [join(tree, name), join(tree, "usr", name)]) {
      if (!existsSync(from)) continue;
      await cp(from, join(into, "usr", name), { recursive: true, verbatimSymlinks: true });
    }
  }
}
