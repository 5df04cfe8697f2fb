import { cp, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type BootRoot, debootstrap } from "./boot.ts";
import { cached, type Facts, factsOf, fill, type Missing, made, run, say } from "./cache.ts";
import { bringCrio, type CrioEngine, crioSource } from "./crio.ts";

const suite = "trixie";
/** skopeo gives it an image without a registry; debootstrap does not find by itself what skopeo's settings depend on. */
const packages = [
  ...["systemd", "systemd-sysv", "dbus", "conmon", "runc", "crun", "runsc"],
  ...["skopeo", "containernetworking-plugins"],
];
/** As CRI-O's own packages have it, which also bring these programs into a folder of their own. */
const packaged = "/usr/libexec/crio";
const programs = { conmon: "/usr/bin/conmon", crun: "/usr/bin/crun", runc: "/usr/sbin/runc" };
const settings = `[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "${packaged}/crun"
runtime_root = "/run/crun"
monitor_path = "${packaged}/conmon"

[crio.runtime.runtimes.runc]
runtime_path = "${packaged}/runc"
runtime_root = "/run/runc"
monitor_path = "${packaged}/conmon"
`;

let brought: Promise<{ roots: BootRoot[]; missing: Missing[] }> | undefined;

/** Roots with a real CRI-O as the unit that it ships; those that are not in the cache yet are made. Tries once per process. */
export function bringCrioRoots(): Promise<{ roots: BootRoot[]; missing: Missing[] }> {
  brought ??= bringAll();
  return brought;
}

async function bringAll(): Promise<{ roots: BootRoot[]; missing: Missing[] }> {
  const roots: BootRoot[] = [];
  const { engines, missing } = await bringCrio();
  const lacking = [...missing];
  for (const engine of engines) {
    const name = `root-${engine.name}`;
    const problem = await fill(name, (folder) => withCrio(engine, folder));
    if (problem !== undefined) lacking.push(problem);
    const facts = await factsOf(name);
    if (facts !== undefined)
      roots.push({ suite, engine: "crio", version: facts.version, root: cached(name, "root") });
  }
  return { roots, missing: lacking };
}

async function withCrio(engine: CrioEngine, folder: string): Promise<Facts> {
  const root = join(folder, "root");
  say(engine.name, "making a root file system with debootstrap");
  await debootstrap(suite, packages, root);
  await cp(engine.crio, join(root, "usr", "bin", "crio"));
  const source = await crioSource(engine.version, folder);
  await buildPinns(join(source, "pinns", "src"), join(root, "usr", "bin", "pinns"));
  await enableUnit(join(source, "contrib", "systemd", "crio.service"), root);
  await mkdir(join(root, packaged));
  for (const [name, path] of Object.entries(programs)) await symlink(path, join(root, packaged, name));
  const dropIns = await made(join(root, "etc", "crio", "crio.conf.d"));
  await writeFile(join(dropIns, "10-crio.conf"), settings);
  return { version: engine.version, from: [engine.name, `Debian ${suite}`, ...packages] };
}

/** CRI-O runs it for the namespaces of every pod. It is written in C, and its own build links it statically too. */
async function buildPinns(sources: string, into: string): Promise<void> {
  const files = (await readdir(sources)).filter((name) => name.endsWith(".c"));
  await run([
    "gcc",
    "-std=c99",
    "-Os",
    "-static",
    "-s",
    "-o",
    into,
    ...files.map((name) => join(sources, name)),
  ]);
}

/** The source has it for a CRI-O in /usr/local, its packages in /usr. */
async function enableUnit(from: string, root: string): Promise<void> {
  const unit = join("/usr", "lib", "systemd", "system", "crio.service");
  await writeFile(
    join(root, unit),
    (await readFile(from, "utf8")).replaceAll("/usr/local/bin/", "/usr/bin/"),
  );
  const wants = await made(join(root, "etc", "systemd", "system", "multi-user.target.wants"));
  await symlink(unit, join(wants, "crio.service"));
}
