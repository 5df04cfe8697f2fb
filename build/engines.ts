import { existsSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { bootProblem, bringRoots } from "./boot.ts";
import { cached, factsOf, fill, type Missing, made, run, runs, say } from "./cache.ts";
import { bringCrio, bringOlderCrio } from "./crio.ts";
import { bringCrioRoots } from "./crio_root.ts";
import { keepLibraries, privateApt, unpack } from "./debian.ts";

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

const module = "github.com/containerd/containerd/v2";
const commands = ["containerd", "ctr", "containerd-shim-runc-v2"];

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
  const missing: Missing[] = [];
  const one = async (source: Source): Promise<void> => {
    const problem = await fill(nameOf(source), async (temp) => {
      const from =
        source.kind === "debian"
          ? await fetchDebian(source.suite, temp)
          : await buildGo(source.version, temp);
      return { version: await versionOf(join(temp, "bin", "containerd")), from };
    });
    if (problem !== undefined) missing.push(problem);
  };
  const inTurn = async (kind: Source["kind"]): Promise<void> => {
    for (const source of sources.filter((each) => each.kind === kind)) await one(source);
  };
  await Promise.all([inTurn("debian"), inTurn("go")]);

  const found: Engine[] = [];
  for (const source of sources) {
    const engine = await readEngine(nameOf(source));
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

async function readEngine(name: string): Promise<Engine | undefined> {
  const facts = await factsOf(name);
  if (facts === undefined) return undefined;
  const folder = cached(name);
  const runc = join(folder, "bin", "runc");
  const libraries = join(folder, "libraries");
  return {
    version: facts.version,
    name,
    containerd: join(folder, "bin", "containerd"),
    ctr: join(folder, "bin", "ctr"),
    ...(existsSync(runc) ? { runc } : {}),
    ...(existsSync(libraries) ? { libraries } : {}),
  };
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

if (import.meta.main) {
  const containerd = await bring();
  await bringOlderCrio();
  const crio = await bringCrio();
  const problem = bootProblem();
  if (problem !== undefined) process.stderr.write(`engines: nothing to boot nodes from: ${problem}\n`);
  const booted =
    problem === undefined
      ? [await bringRoots(), await bringCrioRoots()]
      : [{ roots: [], missing: [{ name: "nodes", reason: problem }] }];
  for (const engine of containerd.engines) process.stdout.write(`${engine.version}\t${engine.containerd}\n`);
  for (const root of booted.flatMap(({ roots }) => roots))
    process.stdout.write(`${root.version}\t${root.root}\n`);
  for (const engine of crio.engines) process.stdout.write(`${engine.version}\t${engine.crio}\n`);
  const required = process.argv.includes("--require") || process.env["CI"] === "true";
  const missing =
    containerd.missing.length + crio.missing.length + booted.flatMap((each) => each.missing).length;
  if (required && missing > 0) process.exitCode = 1;
}
