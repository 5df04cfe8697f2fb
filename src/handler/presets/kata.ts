import type { Candidates, Preset } from "../preset.ts";

const deploy = "tools/packaging/kata-deploy";
const source = `kata-containers/kata-containers 4.1.0: ${deploy}/binary/src/runtime/containerd.rs, ${deploy}/binary/src/runtime/crio.rs, ${deploy}/binary/src/utils/system.rs`;
const debugSource = `${source}, ${deploy}/binary/src/config.rs (synthesize_variant_runtimes)`;

/** Go shims; `fc` needs a block device snapshotter. */
const go = [
  "clh",
  "clh-azure",
  "fc",
  "qemu",
  "qemu-coco-dev",
  "qemu-nvidia-cpu",
  "qemu-nvidia-gpu",
  "qemu-nvidia-gpu-snp",
  "qemu-nvidia-gpu-tdx",
  "qemu-se",
  "qemu-snp",
  "qemu-tdx",
  "remote",
] as const;

/** Shims of the Rust runtime, which lives in a folder of its own. */
const rust = [
  "clh-azure-runtime-rs",
  "clh-runtime-rs",
  "dragonball",
  "openvmm-azure-runtime-rs",
  "qemu-coco-dev-runtime-rs",
  "qemu-nvidia-cpu-runtime-rs",
  "qemu-nvidia-gpu-runtime-rs",
  "qemu-nvidia-gpu-snp-runtime-rs",
  "qemu-nvidia-gpu-tdx-runtime-rs",
  "qemu-runtime-rs",
  "qemu-se-runtime-rs",
  "qemu-snp-runtime-rs",
  "qemu-tdx-runtime-rs",
] as const;

export type KataShim = (typeof go)[number] | (typeof rust)[number];

/**
 * The shims that kata-deploy installs when nobody chooses, by architecture:
 * tools/packaging/kata-deploy/binary/src/config.rs (get_default_shims_for_arch).
 */
export const kataDefaultShims: Readonly<
  Record<"x86_64" | "aarch64" | "s390x" | "ppc64le", readonly KataShim[]>
> = {
  x86_64: [
    "clh",
    "clh-runtime-rs",
    "dragonball",
    "fc",
    "qemu",
    "qemu-coco-dev",
    "qemu-coco-dev-runtime-rs",
    "qemu-runtime-rs",
    "qemu-nvidia-cpu",
    "qemu-nvidia-cpu-runtime-rs",
    "qemu-nvidia-gpu",
    "qemu-nvidia-gpu-runtime-rs",
    "qemu-nvidia-gpu-snp",
    "qemu-nvidia-gpu-snp-runtime-rs",
    "qemu-nvidia-gpu-tdx",
    "qemu-nvidia-gpu-tdx-runtime-rs",
    "qemu-snp",
    "qemu-snp-runtime-rs",
    "qemu-tdx",
    "qemu-tdx-runtime-rs",
  ],
  aarch64: [
    "clh",
    "clh-runtime-rs",
    "dragonball",
    "fc",
    "qemu",
    "qemu-coco-dev-runtime-rs",
    "qemu-runtime-rs",
    "qemu-nvidia-cpu",
    "qemu-nvidia-cpu-runtime-rs",
    "qemu-nvidia-gpu",
  ],
  s390x: [
    "qemu",
    "qemu-runtime-rs",
    "qemu-se",
    "qemu-se-runtime-rs",
    "qemu-coco-dev",
    "qemu-coco-dev-runtime-rs",
  ],
  ppc64le: ["qemu", "qemu-runtime-rs"],
};

/**
 * Shims whose guest pulls the images itself under CRI-O: `crio.guestPull` in kata-deploy's chart
 * (try-kata-tee, try-kata-nvidia-gpu and try-kata-remote.values.yaml). Under containerd the chart gives them the
 * snapshotter `nydus-for-kata-tee`, a daemon that kata-deploy brings and names: that is for `--snapshotter`.
 */
const guestPull: ReadonlySet<KataShim> = new Set([
  "qemu-coco-dev",
  "qemu-coco-dev-runtime-rs",
  "qemu-nvidia-gpu-snp",
  "qemu-nvidia-gpu-snp-runtime-rs",
  "qemu-nvidia-gpu-tdx",
  "qemu-nvidia-gpu-tdx-runtime-rs",
  "qemu-se",
  "qemu-se-runtime-rs",
  "qemu-snp",
  "qemu-snp-runtime-rs",
  "qemu-tdx",
  "qemu-tdx-runtime-rs",
  "remote",
]);

const defaults = "{prefix}/share/defaults/kata-containers";

const annotations = {
  pod_annotations: ["io.katacontainers.*"],
  container_annotations: ["io.kubernetes.container.terminationMessage*"],
  privileged_without_host_devices: true,
};

/** Both engines run the same shim with the same configuration. */
function engines(
  runtimeType: string,
  binary: Candidates,
  configuration: Candidates,
): Required<Pick<Preset, "containerd" | "crio">> {
  return {
    containerd: {
      runtime_type: runtimeType,
      runtime_path: binary,
      paths: { ConfigPath: { what: "configuration", candidates: configuration } },
    },
    crio: {
      runtime_path: binary,
      runtime_type: "vm",
      runtime_root: "/run/vc",
      runtime_config_path: configuration,
    },
  };
}

function shim(name: KataShim, folder: string, configurations: string): readonly Preset[] {
  const binary: Candidates = [`{prefix}/${folder}/containerd-shim-kata-v2`];
  const handler = { ...annotations, ...(name === "fc" ? { snapshotter: "devmapper" } : {}) };
  const variant = (
    handlerName: string,
    summary: string,
    origin: string,
    configuration: Candidates,
  ): Preset => {
    const { containerd, crio } = engines(`io.containerd.${handlerName}.v2`, binary, configuration);
    return {
      name: handlerName,
      summary,
      source: origin,
      prefix: "/opt/kata",
      handler,
      containerd,
      crio: { ...crio, ...(guestPull.has(name) ? { runtime_pull_image: true } : {}) },
    };
  };
  return [
    variant(`kata-${name}`, `Kata Containers, ${name}`, source, [
      // kata-deploy gives each shim a folder; the release archive keeps them side by side.
      `${configurations}/runtimes/${name}/configuration-${name}.toml`,
      `${configurations}/configuration-${name}.toml`,
    ]),
    // With DEBUG, kata-deploy adds a custom runtime per shim; those of the Rust runtime stand in the same folder.
    variant(`kata-${name}-debug`, `Kata Containers, ${name}, with guest debugging`, debugSource, [
      `${defaults}/custom-runtimes/kata-${name}-debug/configuration-${name}.toml`,
    ]),
  ];
}

/** `kata` is the runtime as its own documentation sets it up; `kata-SHIM` is as kata-deploy does. */
export function kata(): readonly Preset[] {
  return [alone(), ...go.flatMap(ofGo), ...rust.flatMap(ofRust)];
}

/** One of them; the other fifty are not made for it, as making them takes longer than to read a configuration. */
export function findKata(name: string): Preset | undefined {
  if (name === "kata") return alone();
  const shimName = name.replace(/^kata-/, "").replace(/-debug$/, "");
  const own = [
    ...go.filter((each) => each === shimName).flatMap(ofGo),
    ...rust.filter((each) => each === shimName).flatMap(ofRust),
  ];
  return own.find((preset) => preset.name === name);
}

const ofGo = (name: KataShim) => shim(name, "bin", defaults);
const ofRust = (name: KataShim) => shim(name, "runtime-rs/bin", `${defaults}/runtime-rs`);

function alone(): Preset {
  return {
    name: "kata",
    summary: "Kata Containers with its default configuration",
    source:
      "kata-containers/kata-containers 4.1.0: docs/how-to/containerd-kata.md, docs/how-to/how-to-use-k8s-with-crio-and-kata.md",
    prefix: "/opt/kata",
    handler: {
      ...annotations,
      container_annotations: ["io.katacontainers.*"],
    },
    ...engines(
      "io.containerd.kata.v2",
      // Distributions install under /usr.
      ["{prefix}/bin/containerd-shim-kata-v2", "/usr/bin/containerd-shim-kata-v2"],
      [`${defaults}/configuration.toml`, "/usr/share/defaults/kata-containers/configuration.toml"],
    ),
  };
}
