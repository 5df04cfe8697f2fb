import type { Preset } from "../preset.ts";

const source =
  "kata-containers 4.1.0: tools/packaging/kata-deploy (containerd.rs, utils/system.rs, values.yaml)";

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

const annotations = {
  pod_annotations: ["io.katacontainers.*"],
  container_annotations: ["io.kubernetes.container.terminationMessage*"],
  privileged_without_host_devices: true,
};

function shim(name: string, folder: string, defaults: string): Preset {
  return {
    name: `kata-${name}`,
    summary: `Kata Containers, ${name}`,
    source,
    prefix: "/opt/kata",
    handler: { ...annotations, ...(name === "fc" ? { snapshotter: "devmapper" } : {}) },
    containerd: {
      runtime_type: `io.containerd.kata-${name}.v2`,
      runtime_path: [`{prefix}/${folder}/containerd-shim-kata-v2`],
      paths: {
        ConfigPath: {
          what: "configuration",
          // kata-deploy gives each shim a folder; the release archive keeps them side by side.
          candidates: [
            `{prefix}/share/defaults/kata-containers${defaults}/runtimes/${name}/configuration-${name}.toml`,
            `{prefix}/share/defaults/kata-containers${defaults}/configuration-${name}.toml`,
          ],
        },
      },
    },
  };
}

/** `kata` is the runtime as its own documentation sets it up; `kata-SHIM` is as kata-deploy does. */
export const kata: readonly Preset[] = [
  {
    name: "kata",
    summary: "Kata Containers with its default configuration",
    source: "kata-containers 4.1.0: docs/how-to/containerd-kata.md",
    prefix: "/opt/kata",
    handler: {
      ...annotations,
      container_annotations: ["io.katacontainers.*"],
    },
    containerd: {
      runtime_type: "io.containerd.kata.v2",
      runtime_path: ["{prefix}/bin/containerd-shim-kata-v2"],
      paths: {
        ConfigPath: {
          what: "configuration",
          candidates: ["{prefix}/share/defaults/kata-containers/configuration.toml"],
        },
      },
    },
  },
  ...go.map((name) => shim(name, "bin", "")),
  ...rust.map((name) => shim(name, "runtime-rs/bin", "/runtime-rs")),
];
