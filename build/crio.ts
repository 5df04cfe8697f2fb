import { cp, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { cached, type Facts, factsOf, fill, type Missing, made, run, say } from "./cache.ts";
import { privateApt, unpack } from "./debian.ts";

/** A CRI-O that the tests can ask for its verdict. Every path is absolute, in one folder per engine. */
export interface CrioEngine {
  /** As `crio --version` says: "1.36.3". */
  readonly version: string;
  /** The folder in the cache: "crio-1.36.3". */
  readonly name: string;
  readonly crio: string;
  /** A tree (`usr/…`) to lay over the machine's: conmon, crun, runc, and the libraries that are absent there. */
  readonly libraries: string;
}

const versions: readonly string[] = ["1.36.3"];
/** Not every module proxy hands these out: they judge where `npm run engines` could bring them. */
const older: readonly string[] = ["1.33.13"];
const module = "github.com/cri-o/cri-o";
/** Without these tags its signature and storage code wants the headers of gpgme and btrfs. */
const tags = "containers_image_openpgp exclude_graphdriver_btrfs";
/** The oldest suite there is: what was linked with its C library runs with every newer one. */
const suite = "bookworm";
const programs = ["conmon", "crun", "runc"];
/** What those are linked with and a small Debian system may lack. */
const libraries = ["libglib2.0-0", "libpcre2-8-0", "libseccomp2", "libyajl2"];
/** Where CRI-O's own packages, and so most nodes' configurations, have them. */
const packaged = ["usr", "libexec", "crio"];
const Module = z.object({ Dir: z.string() });

let brought: Promise<{ engines: CrioEngine[]; missing: Missing[] }> | undefined;

/**
 * The real CRI-Os, oldest first, with what is missing and why; those that are not in the cache yet are
 * built. Tries once per process.
 */
export function bringCrio(): Promise<{ engines: CrioEngine[]; missing: Missing[] }> {
  brought ??= bringAll();
  return brought;
}

/** Builds the older releases that are to be had; says which are not. */
export async function bringOlderCrio(): Promise<void> {
  for (const version of older) await fill(`crio-${version}`, (folder) => build(version, folder));
}

async function bringAll(): Promise<{ engines: CrioEngine[]; missing: Missing[] }> {
  const engines: CrioEngine[] = [];
  const missing: Missing[] = [];
  for (const version of [...older, ...versions]) {
    const name = `crio-${version}`;
    if (versions.includes(version)) {
      const problem = await fill(name, (folder) => build(version, folder));
      if (problem !== undefined) missing.push(problem);
    }
    const facts = await factsOf(name);
    if (facts === undefined) continue;
    const crio = cached(name, "bin", "crio");
    engines.push({ version: facts.version, name, crio, libraries: cached(name, "libraries") });
  }
  return { engines, missing };
}

async function build(version: string, into: string): Promise<Facts> {
  const source = `${module}@v${version}`;
  const bin = await made(join(into, "bin"));
  const crio = join(bin, "crio");
  const Dir = await crioSource(version, into);
  say(source, "building with go build");
  // `go install` also wants the list of all versions, and refuses where a go.mod replaces anything.
  const flags = ["-buildvcs=false", "-mod=readonly", "-trimpath", "-tags", tags, "-o", crio];
  await run(["go", "build", "-C", Dir, ...flags, "./cmd/crio"], { env: { CGO_ENABLED: "0", GOWORK: "off" } });
  // It starts only where it finds pinns, which it runs for pods; a judge has none.
  await symlink("/usr/bin/true", join(bin, "pinns"));
  const from = [source, ...(await fetchPrograms(into))];
  return { version: await versionOf(crio), from };
}

/** The folder of its source, which also has its unit and its programs in C. */
export async function crioSource(version: string, cwd: string): Promise<string> {
  const source = `${module}@v${version}`;
  say(source, "downloading");
  // The first says in words what went wrong; the second only answers.
  await run(["go", "mod", "download", source], { cwd });
  return Module.parse(JSON.parse(await run(["go", "mod", "download", "-json", source], { cwd }))).Dir;
}

async function fetchPrograms(into: string): Promise<string[]> {
  const apt = await privateApt(suite, join(into, "apt"));
  say(suite, `downloading ${programs.join(", ")}`);
  await apt("update");
  await apt("download", ...programs);
  const tree = join(into, "libraries");
  const from = await unpack(join(into, "apt"), tree);
  const paths = [
    join(tree, "usr", "bin", "conmon"),
    join(tree, "usr", "bin", "crun"),
    join(tree, "usr", "sbin", "runc"),
  ];
  const home = await made(join(tree, ...packaged));
  for (const [index, path] of paths.entries()) await cp(path, join(home, programs[index] ?? ""));
  if ((await run(["ldd", ...paths])).includes("not found")) {
    await apt("download", ...libraries);
    from.push(...(await unpack(join(into, "apt"), tree)));
  }
  await rm(join(into, "apt"), { recursive: true });
  return from;
}

async function versionOf(crio: string): Promise<string> {
  // Otherwise it reads this machine's configuration first.
  const text = await run([crio, "--config=", "--config-dir=", "--version"]);
  const version = /^crio version (\S+)/m.exec(text)?.[1];
  if (version === undefined)
    throw new Error(`cannot find a version in what crio --version says: ${text.trim()}`);
  return version;
}
