/**
 * `npm run image`: the image for both architectures as two OCI archives in `dist/`, with zstd layers, and with gzip
 * layers for registries and engines of before 2020. Needs what `npm run build` leaves there.
 * The same source gives the same digests. The formats are those of the OCI image specification 1.1.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzip9, zstd } from "./compress.ts";
import { loaderFor, prefix } from "./loader.ts";
import { portable } from "./portable.ts";
import { dist, source } from "./source.ts";
import { sha256, writeSums } from "./sums.ts";
import { type Entry, end, tar } from "./tar.ts";
import { type Target, targets } from "./target.ts";

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const mediaTypes = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
} as const;

/** How layers are compressed; each part of one is compressed by itself, and the parts follow one another. */
const kinds = [
  { name: "shimctl-image.oci.tar", suffix: "zstd", compress: zstd },
  { name: "shimctl-image-gzip.oci.tar", suffix: "gzip", compress: gzip9 },
] as const;

type Kind = (typeof kinds)[number];

const { version, description, license, revision, created } = source();

/** Of the image (its configuration) and of its manifests and index, as the specification names them. */
const labels: Readonly<Record<string, string>> = {
  "org.opencontainers.image.title": "shimctl",
  "org.opencontainers.image.description": description,
  "org.opencontainers.image.version": version,
  "org.opencontainers.image.licenses": `${license} AND MIT AND LGPL-2.1-or-later`,
  "org.opencontainers.image.created": created,
  ...(revision === undefined ? {} : { "org.opencontainers.image.revision": revision }),
};

if (targets.some(({ arch }) => !existsSync(join(dist, `shimctl-linux-${arch}`))))
  throw new Error("cannot make the image, as there are no executables in dist/: npm run build");
for (const kind of kinds) {
  const { bytes, digest, layers } = await archive(kind);
  writeFileSync(join(dist, kind.name), bytes);
  console.log(`${kind.name}: ${digest}`);
  for (const { target, size } of layers) console.log(`  ${target.ociArch}: ${(size / 1e6).toFixed(2)} MB`);
}
writeSums(dist);

/** An OCI image layout in a tar file. Its index names one image, an index of one manifest per architecture. */
async function archive(kind: Kind): Promise<{
  bytes: Buffer;
  digest: string;
  layers: { target: Target; size: number }[];
}> {
  const images = await Promise.all(targets.map((target) => imageFor(target, kind)));
  const image = json(mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: images.map(({ manifest, target }) => ({
      ...manifest.descriptor,
      platform: { architecture: target.ociArch, os: "linux" },
    })),
    annotations: labels,
  });
  const top = {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests: [
      {
        ...image.descriptor,
        annotations: {
          // containerd's name for an imported image, and everybody else's tag.
          "io.containerd.image.name": `localhost/shimctl:${version}`,
          "org.opencontainers.image.ref.name": version,
        },
      },
    ],
  };
  const blobs = [image, ...images.flatMap((each) => [each.manifest, each.config, each.layer])];
  blobs.sort((one, other) => (one.descriptor.digest < other.descriptor.digest ? -1 : 1));
  const file = (name: string, bytes: Buffer): Entry => ({ name, mode: 0o644, bytes });
  const text = (value: object) => Buffer.from(JSON.stringify(value));
  const bytes = Buffer.concat([
    tar([
      file("oci-layout", text({ imageLayoutVersion: "1.0.0" })),
      file("index.json", text(top)),
      { name: "blobs/", mode: 0o755 },
      { name: "blobs/sha256/", mode: 0o755 },
      ...blobs.map((each) => file(`blobs/${each.descriptor.digest.replace(":", "/")}`, each.bytes)),
    ]),
    end,
  ]);
  const layers = images.map(({ target, layer }) => ({ target, size: layer.descriptor.size }));
  return { bytes, digest: image.descriptor.digest, layers };
}

async function imageFor(target: Target, kind: Kind) {
  const { program, libraries } = portable(
    join(dist, `shimctl-linux-${target.arch}`),
    await loaderFor(target),
  );
  const parts = [tar(program), tar(libraries), end];
  const layer = blob(
    `application/vnd.oci.image.layer.v1.tar+${kind.suffix}`,
    Buffer.concat(await Promise.all(parts.map(kind.compress))),
  );
  const config = json(mediaTypes.config, {
    created,
    architecture: target.ociArch,
    os: "linux",
    config: {
      Entrypoint: [`${prefix}/shimctl`],
      // For `kubectl exec`, which finds programs by it.
      Env: [`PATH=${prefix}`],
      WorkingDir: "/",
      Labels: labels,
    },
    rootfs: { type: "layers", diff_ids: [`sha256:${sha256(Buffer.concat(parts))}`] },
    history: [{ created, created_by: "shimctl's build/image.ts" }],
  });
  const manifest = json(mediaTypes.manifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: config.descriptor,
    layers: [layer.descriptor],
    annotations: labels,
  });
  return { target, layer, config, manifest };
}

interface Blob {
  readonly bytes: Buffer;
  readonly descriptor: Descriptor;
}

function blob(mediaType: string, bytes: Buffer): Blob {
  return { bytes, descriptor: { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length } };
}

function json(mediaType: string, value: object): Blob {
  return blob(mediaType, Buffer.from(JSON.stringify(value)));
}
