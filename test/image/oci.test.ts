import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repo, source } from "../../build/source.ts";
import { targets } from "../../build/target.ts";
import { artefact, whyNotArtefacts } from "../support/artefacts.ts";

const problem = whyNotArtefacts("the image", { programs: ["buildah", "skopeo", "tar", "zstd"], root: true });
const work = problem === undefined ? mkdtempSync(join(tmpdir(), "shimctl-oci-")) : "";
afterAll(() => rmSync(work, { recursive: true, force: true }));

function run(...argv: readonly string[]): string {
  const [command = "", ...args] = argv;
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    cwd: repo,
    maxBuffer: 64 << 20,
  });
  if (status !== 0) throw new Error(`${argv.slice(0, 6).join(" ")} ended with ${status}: ${stderr}`);
  return stdout.trim();
}

/** buildah with storage of its own, which needs neither a daemon nor the machine's. */
function buildah(...args: readonly string[]): string {
  const storage = [
    "--root",
    join(work, "storage"),
    "--runroot",
    join(work, "run"),
    "--storage-driver",
    "vfs",
  ];
  return run("buildah", ...storage, ...args);
}

/** Every file and folder below a root: kind and rights, and a digest of the content. */
function tree(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(root, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(root, name);
    const facts = lstatSync(path);
    const digest = facts.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "";
    found[name] = `${facts.mode.toString(8)} ${facts.uid}:${facts.gid} ${digest}`;
  }
  return found;
}

const archives = [
  ["zstd", artefact.image],
  ["gzip", artefact.gzipImage],
] as const;
const names = ["ld.so", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "shimctl"];

interface Config {
  readonly architecture: string;
  readonly config: {
    readonly Entrypoint: readonly string[];
    readonly Env: readonly string[];
    readonly WorkingDir: string;
    readonly Labels: Readonly<Record<string, string>>;
  };
  readonly rootfs: { readonly diff_ids: readonly string[] };
}

describe.skipIf(problem !== undefined)("the image", () => {
  for (const [kind, path] of archives)
    for (const { ociArch } of targets)
      test(`for ${ociArch} in ${kind} is read by skopeo, and has one layer of the loader libraries and shimctl`, () => {
        const into = join(work, `${kind}-${ociArch}`);
        run(
          "skopeo",
          "copy",
          "-q",
          "--override-arch",
          ociArch,
          "--override-os",
          "linux",
          `oci-archive:${path}`,
          `dir:${into}`,
        );
        const manifest = JSON.parse(readFileSync(join(into, "manifest.json"), "utf8"));
        expect(manifest.layers).toHaveLength(1);
        expect(manifest.layers[0].mediaType).toBe(`application/vnd.oci.image.layer.v1.tar+${kind}`);
        const [layer, configPath] = [manifest.layers[0], manifest.config].map(
          ({ digest }: { digest: string }) => join(into, digest.replace("sha256:", "")),
        );
        const config = JSON.parse(readFileSync(configPath ?? "", "utf8")) as Config;
        expect(config.architecture).toBe(ociArch);
        expect(config.config.Entrypoint).toEqual(["/opt/shimctl/shimctl"]);
        expect(config.config.Labels["org.opencontainers.image.version"]).toBe(source().version);
        const listed = run("tar", "-tf", layer ?? "").split("\n");
        expect(listed.sort()).toEqual(["", ...names].map((name) => `opt/shimctl/${name}`).sort());
        if (kind === "zstd") expect(statSync(layer ?? "").size).toBeLessThanOrEqual(47e6);
      });

  test("is the same in both archives but for the compression", () => {
    const config = (path: string, arch: string): Config =>
      JSON.parse(
        run("skopeo", "inspect", "--config", "--override-arch", arch, `oci-archive:${path}`),
      ) as Config;
    for (const { ociArch } of targets)
      expect(config(artefact.gzipImage, ociArch)).toEqual(config(artefact.image, ociArch));
  });

  test("runs under buildah, and Dockerfile builds the same files and settings", () => {
    const content = (name: string) => tree(buildah("mount", name));
    const ours = buildah("from", "--name", "ours", `oci-archive:${artefact.image}`);
    const files = content(ours);
    expect(Object.keys(files)).toEqual(["opt", "opt/shimctl", ...names.map((name) => `opt/shimctl/${name}`)]);
    const version = ["run", "--isolation", "chroot", ours, "--", "/opt/shimctl/shimctl", "version"];
    expect(buildah(...version)).toStartWith(`shimctl ${source().version} (bun`);

    buildah("bud", "-q", "--isolation", "chroot", "--timestamp", "0", "-t", "localhost/theirs", ".");
    const theirs = buildah("from", "--name", "theirs", "localhost/theirs");
    expect(content(theirs)).toEqual(files);
    const settings = (name: string): Config["config"] => {
      const { config } = JSON.parse(buildah("inspect", name)).OCIv1 as Config;
      const { "io.buildah.version": _, ...labels } = config.Labels;
      return { ...config, Labels: labels };
    };
    const [one, other] = [settings(ours), settings(theirs)];
    expect({ ...other, Labels: {} }).toEqual({ ...one, Labels: {} });
    // A Dockerfile does not know its commit.
    const {
      "org.opencontainers.image.created": _,
      "org.opencontainers.image.revision": __,
      ...known
    } = one.Labels;
    expect(other.Labels).toEqual(known);
  });
});
