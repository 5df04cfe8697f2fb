import process from "node:process";

/** One kind of machine that releases are made for, under the names that each ecosystem has for it. */
export interface Target {
  /** As Node, Bun and our file names call it. */
  readonly arch: "x64" | "arm64";
  /** `e_machine` of an ELF header: EM_X86_64, EM_AARCH64. */
  readonly machine: number;
  /** The npm package that carries Bun for it. */
  readonly runtimePackage: string;
  readonly debianArch: "amd64" | "arm64";
  /** As the OCI image specification (and Go) calls it. */
  readonly ociArch: "amd64" | "arm64";
  /** Where Debian 12 keeps its libraries, and the name of its loader. */
  readonly triplet: string;
  readonly loader: string;
}

export const targets: readonly Target[] = [
  {
    arch: "x64",
    machine: 0x3e,
    runtimePackage: "@oven/bun-linux-x64",
    debianArch: "amd64",
    ociArch: "amd64",
    triplet: "x86_64-linux-gnu",
    loader: "ld-linux-x86-64.so.2",
  },
  {
    arch: "arm64",
    machine: 0xb7,
    runtimePackage: "@oven/bun-linux-aarch64",
    debianArch: "arm64",
    ociArch: "arm64",
    triplet: "aarch64-linux-gnu",
    loader: "ld-linux-aarch64.so.1",
  },
];

/** The target that this machine is. Throws on others: builds are made on these two. */
export function nativeTarget(): Target {
  const target = targets.find((each) => each.arch === process.arch);
  if (process.platform !== "linux" || target === undefined)
    throw new Error(`cannot build on this machine: ${process.platform}-${process.arch}`);
  return target;
}
