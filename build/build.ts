/**
 * `npm run build`: executables, portable archives, manual page, completion scripts, licences, a bill of materials
 * and digests, in `dist/`.
 * The same source gives the same bytes.
 */
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { bashCompletion } from "../src/cli/completion/bash.ts";
import { commandLine } from "../src/cli/completion/command_line.ts";
import { fishCompletion } from "../src/cli/completion/fish.ts";
import { zshCompletion } from "../src/cli/completion/zsh.ts";
import { manPage } from "../src/cli/man.ts";
import { compile } from "./compile.ts";
import { zstd } from "./compress.ts";
import { emptyExecutable } from "./floor.ts";
import { licences } from "./licences.ts";
import { loaderFor } from "./loader.ts";
import { portable } from "./portable.ts";
import { type Part, sbom } from "./sbom.ts";
import { dist, repo, source } from "./source.ts";
import { sha256, writeSums } from "./sums.ts";
import { type Entry, end, tar } from "./tar.ts";
import { nativeTarget, type Target, targets } from "./target.ts";

// Rights are part of what is built.
process.umask(0o022);
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
const parts = await Promise.all(targets.map(build));
linkSync(join(dist, `shimctl-linux-${nativeTarget().arch}`), join(dist, "shimctl"));
writeFileSync(join(dist, "shimctl.cdx.json"), sbom(source(), parts));
// Under the names by which man and the shells look for them.
writeFileSync(join(dist, "shimctl.1"), manPage());
const known = commandLine();
writeFileSync(join(dist, "shimctl.bash"), bashCompletion(known));
writeFileSync(join(dist, "_shimctl"), zshCompletion(known));
writeFileSync(join(dist, "shimctl.fish"), fishCompletion(known));
writeSums(dist);

async function build(target: Target): Promise<Part> {
  const name = `shimctl-linux-${target.arch}`;
  const executable = join(dist, name);
  compile(target, executable);
  const loader = await loaderFor(target);
  const text = licences(loader);
  writeFileSync(join(dist, "THIRD-PARTY-LICENSES.txt"), text);

  const { program, libraries } = portable(executable, loader);
  placeForDockerfile(target, [...program, ...libraries]);
  const notices: Entry[] = [
    { name: "opt/shimctl/LICENSE", mode: 0o644, bytes: readFileSync(join(repo, "LICENSE")) },
    { name: "opt/shimctl/THIRD-PARTY-LICENSES.txt", mode: 0o644, bytes: Buffer.from(text) },
  ];
  const floor = emptyExecutable(target);
  const [packed, packedFloor, ...rest] = await Promise.all([
    zstd(tar(program)),
    zstd(floor),
    zstd(tar(libraries)),
    zstd(tar(notices)),
    zstd(end),
  ]);
  writeFileSync(join(dist, `${name}.tar.zst`), Buffer.concat([packed, ...rest]));
  const bytes = readFileSync(executable);
  report(name, bytes.length, floor.length);
  report(`${name}, zstd -19`, packed.length, packedFloor.length);
  return { target, loader, sha256: sha256(bytes) };
}

/** The same files as in the image, for builders that know no layers but their own. */
function placeForDockerfile(target: Target, entries: readonly Entry[]): void {
  for (const { name, mode, bytes } of entries) {
    const path = join(dist, "root", target.ociArch, name);
    if (bytes === undefined) continue;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes, { mode });
  }
}

function report(what: string, size: number, floor: number): void {
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(2)} MB`;
  const percent = (size / floor - 1) * 100;
  const difference = `${percent > 0 ? "+" : ""}${percent.toFixed(2)} %`;
  console.log(`${what}: ${mb(size)}; an empty Bun executable: ${mb(floor)} (${difference})`);
}
