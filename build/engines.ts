import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";

/** A containerd that the tests can ask for its verdict. Every path is absolute, in one folder per engine. */
export interface Engine {
  /** As `containerd --version` says, without a leading `v`: "1.6.20". */
  readonly version: string;
  /** The folder in the cache: "debian-bookworm", "go-2.2.7". */
  readonly name: string;
  readonly containerd: string;
  readonly ctr: string;
  /** The Go-built engines borrow it from the newest Debian engine there is. */
  readonly runc?: string;
  /** A tree (`usr/lib/…`) to lay over the machine's, where that is older than what runc was linked with. */
  readonly libraries?: string;
}

/** Why one engine is not there, in a sentence. */
export interface Missing {
  readonly name: string;
  readonly reason: string;
}

type Source =
  | { readonly kind: "debian"; readonly suite: string; readonly version: string }
  | { readonly kind: "go"; readonly version: string };

const sources: readonly Source[] = [
  { kind: "debian", suite: "bookworm", version: "1.6.20" },
  { kind: "debian", suite: "trixie", version: "1.7.24" },
  { kind: "debian", suite: "sid", version: "2.1.9" },
  { kind: "go", version: "2.2.7" },
  { kind: "go", version: "2.3.4" },
];

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const module = "github.com/containerd/containerd/v2";
const commands = ["containerd", "ctr", "containerd-shim-runc-v2"];
const Facts = z.object({ version: z.string(), from: z.array(z.string()) });

/**
 * The real engines, oldest first; those that are not in the cache yet are fetched or built. What cannot be
 * had is reported on stderr and left out: `bring` also returns why.
 */
export async function engines(): Promise<Engine[]> {
  return (await bring()).engines;
}

let brought: Promise<{ engines: Engine[]; missing: Missing[] }> | undefined;

/** Like `engines`, with what is missing. Tries once per process. */
export function bring(): Promise<{ engines: Engine[]; missing: Missing[] }> {
  brought ??= bringAll();
  return brought;
}

async function bringAll(): Promise<{ engines: Engine[]; missing: Missing[] }> {
  const cache = resolve(
    process.env["SHIMCTL_ENGINES"] ?? join(import.meta.dirname, "..", ".cache", "engines"),
  );
  const missing: Missing[] = [];
  const one = async (source: Source): Promise<void> => {
    const name = nameOf(source);
    const folder = join(cache, name);
    if (existsSync(join(folder, "engine.json"))) return;
    const temp = await mkdtemp(join(await made(cache), `.${name}-`));
    try {
      const from =
        source.kind === "debian"
          ? await fetchDebian(source.suite, temp)
          : await buildGo(source.version, temp);
      const facts = { version: await versionOf(join(temp, "bin", "containerd")), from };
      await writeFile(join(temp, "engine.json"), `${JSON.stringify(facts, undefined, 2)}\n`);
      await chmod(temp, 0o755);
      await moveInto(temp, folder);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      missing.push({ name, reason });
      process.stderr.write(`engines: ${name} is missing: ${reason}\n`);
    } finally {
      await rm(temp, { recursive: true, force: true });
    }
  };
  const inTurn = async (kind: Source["kind"]): Promise<void> => {
    for (const source of sources.filter((each) => each.kind === kind)) await one(source);
  };
  await Promise.all([inTurn("debian"), inTurn("go")]);

  const found: Engine[] = [];
  for (const source of sources) {
    const engine = await readEngine(join(cache, nameOf(source)), nameOf(source));
    if (engine === undefined) continue;
    if (engine.version !== source.version) {
      const was = `engines: ${engine.name} IS NOT WHAT THE FACTS WERE VERIFIED WITH: containerd ${engine.version} instead of ${source.version}`;
      process.stderr.write(`${was}; check the corpus matrix against it\n`);
    }
    found.push(engine);
  }
  const lender = found.findLast((engine) => engine.runc !== undefined);
  const all = found.map((engine) => (engine.runc === undefined ? { ...engine, ...loan(lender) } : engine));
  return { engines: all, missing };
}

function nameOf(source: Source): string {
  return source.kind === "debian" ? `debian-${source.suite}` : `go-${source.version}`;
}

function loan(lender: Engine | undefined): Pick<Engine, "runc" | "libraries"> {
  if (lender?.runc === undefined) return {};
  return lender.libraries === undefined
    ? { runc: lender.runc }
    : { runc: lender.runc, libraries: lender.libraries };
}

async function readEngine(folder: string, name: string): Promise<Engine | undefined> {
  const facts = join(folder, "engine.json");
  if (!existsSync(facts)) return undefined;
  const { version } = Facts.parse(JSON.parse(await readFile(facts, "utf8")));
  const runc = join(folder, "bin", "runc");
  const libraries = join(folder, "libraries");
  return {
    version,
    name,
    containerd: join(folder, "bin", "containerd"),
    ctr: join(folder, "bin", "ctr"),
    ...(existsSync(runc) ? { runc } : {}),
    ...(existsSync(libraries) ? { libraries } : {}),
  };
}

/** Whoever comes second throws its copy away: two test runs may fetch the same engine at once. */
async function moveInto(temp: string, folder: string): Promise<void> {
  try {
    await rename(temp, folder);
  } catch (error) {
    if (!existsSync(join(folder, "engine.json"))) throw error;
  }
}

/** containerd and runc as Debian packages them, by an apt that shares nothing with the machine's own. */
async function fetchDebian(suite: string, into: string): Promise<string[]> {
  const apt = await privateApt(suite, join(into, "apt"));
  say(suite, "reading the package lists");
  await apt("update");
  say(suite, "downloading");
  const packages = ["containerd", "runc"];
  await apt("download", ...packages);
  const tree = join(into, "tree");
  const from = await unpack(join(into, "apt"), tree);
  const bin = await made(join(into, "bin"));
  for (const command of commands) await cp(join(tree, "usr", "bin", command), join(bin, command));
  await cp(join(tree, "usr", "sbin", "runc"), join(bin, "runc"));
  if (!(await runs([join(bin, "runc"), "--version"]))) {
    say(suite, "this machine's C library is too old for its runc, downloading its own");
    await apt("download", "libc6", "libseccomp2");
    from.push(...(await unpack(join(into, "apt"), join(into, "more"))));
    await keepLibraries(join(into, "more"), join(into, "libraries"));
    await rm(join(into, "more"), { recursive: true });
  }
  await rm(tree, { recursive: true });
  await rm(join(into, "apt"), { recursive: true });
  return from;
}

/** A function that runs apt-get with its own lists, state and cache, and only the `Acquire` part of the machine's configuration (proxies). */
async function privateApt(suite: string, folder: string): Promise<(...args: string[]) => Promise<void>> {
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
  await writeFile(join(folder, "apt.conf"), `${lines.join("\n")}\n`, { mode: 0o600 });
  return async (...args) => {
    await run(["apt-get", "-q", ...args], { cwd: folder, env: { APT_CONFIG: join(folder, "apt.conf") } });
  };
}

/** The first source of Debian's main archive that this machine itself uses. */
async function debianMirror(): Promise<string> {
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
async function unpack(folder: string, tree: string): Promise<string[]> {
  const packages = (await readdir(folder)).filter((name) => name.endsWith(".deb")).sort();
  for (const name of packages) {
    await run(["dpkg", "-x", join(folder, name), tree]);
    await rm(join(folder, name));
  }
  return packages;
}

/** Debian moved `/lib` into `/usr/lib`; older packages still ship the former. */
async function keepLibraries(tree: string, into: string): Promise<void> {
  for (const name of ["lib", "lib64"]) {
    for (const from of [join(tree, name), join(tree, "usr", name)]) {
      if (!existsSync(from)) continue;
      await cp(from, join(into, "usr", name), { recursive: true, verbatimSymlinks: true });
    }
  }
}

/** containerd as its module proxy has it, without what needs C libraries. */
async function buildGo(version: string, into: string): Promise<string[]> {
  const bin = await made(join(into, "bin"));
  const packages = commands.map((command) => `${module}/cmd/${command}@v${version}`);
  say(version, "building with go install");
  await run(["go", "install", "-trimpath", "-tags", "no_btrfs no_devmapper no_zfs", ...packages], {
    cwd: into,
    env: { GOBIN: bin, CGO_ENABLED: "0" },
  });
  return packages;
}

async function versionOf(containerd: string): Promise<string> {
  const text = await run([containerd, "--version"]);
  const version = /\bv?(\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?)/.exec(text)?.[1];
  if (version === undefined)
    throw new Error(`cannot find a version in what containerd --version says: ${text.trim()}`);
  return version;
}

async function made(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  return folder;
}

async function runs(argv: readonly string[]): Promise<boolean> {
  return run(argv).then(
    () => true,
    () => false,
  );
}

/** stdout of a command; throws with the end of its stderr. URLs are left out of errors: they may hold a password. */
function run(
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
      const why = err
        .trim()
        .split("\n")
        .slice(-3)
        .join(" | ")
        .replaceAll(/\/\/[^/\s@]*@/g, "//");
      fail(new Error(`${what} ended with ${signal ?? code}: ${why}`));
    });
  });
}

function say(what: string, step: string): void {
  if (process.stderr.isTTY) process.stderr.write(`engines: ${what}: ${step}\n`);
}

if (import.meta.main) {
  const { engines: all, missing } = await bring();
  for (const engine of all) process.stdout.write(`${engine.version}\t${engine.containerd}\n`);
  const required = process.argv.includes("--require") || process.env["CI"] === "true";
  if (required && missing.length > 0) process.exitCode = 1;
}
