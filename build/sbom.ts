import { bundled, locked, type Package } from "./bundled.ts";
import type { Loader } from "./loader.ts";
import type { Source } from "./source.ts";
import type { Target } from "./target.ts";

export interface Part {
  readonly target: Target;
  readonly loader: Loader;
  /** SHA-256 of the plain executable. */
  readonly sha256: string;
}

/** What is in the artefacts, as a CycloneDX 1.6 document; without a serial number or date, which would differ. */
export function sbom({ version, license, description }: Source, parts: readonly Part[]): string {
  const root = `pkg:generic/shimctl@${version}`;
  const components = [
    ...bundled().map((each) => npm(each, "library")),
    ...parts.map(({ target }) => npm(locked(target.runtimePackage), "platform")),
    ...parts.map(({ target, loader }) => {
      const purl = `pkg:deb/debian/libc6@${encodeURIComponent(loader.version)}?arch=${target.debianArch}&distro=bookworm`;
      return {
        type: "library",
        "bom-ref": purl,
        name: "libc6",
        version: loader.version,
        description: "loader libraries of the portable archive and the image",
        hashes: [{ alg: "SHA-256", content: loader.sha256 }],
        licenses: [{ license: { id: "LGPL-2.1-or-later" } }],
        purl,
      };
    }),
    ...parts.map(({ target, sha256 }) => ({
      type: "file",
      "bom-ref": `shimctl-linux-${target.arch}`,
      name: `shimctl-linux-${target.arch}`,
      version,
      hashes: [{ alg: "SHA-256", content: sha256 }],
      licenses: [licenceOf(license)],
    })),
  ];
  const document = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "application",
        "bom-ref": root,
        name: "shimctl",
        version,
        description,
        licenses: [licenceOf(license)],
        purl: root,
      },
    },
    components,
    dependencies: [{ ref: root, dependsOn: components.map((each) => each["bom-ref"]) }],
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

function npm({ name, version, license, integrity }: Package, type: "library" | "platform") {
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const content = Buffer.from(integrity.slice(integrity.indexOf("-") + 1), "base64").toString("hex");
  return {
    type,
    "bom-ref": purl,
    name,
    version,
    hashes: [{ alg: "SHA-512", content }],
    licenses: [licenceOf(license)],
    purl,
  };
}

/** CycloneDX 1.6: one licence by its id, several by an SPDX expression. */
function licenceOf(license: string): { license: { id: string } } | { expression: string } {
  return /[ ()]/.test(license) ? { expression: license } : { license: { id: license } };
}
