import type { KataShim } from "./kata.ts";

/** What a pod needs on top of its containers, as Kubernetes writes quantities. */
export interface Overhead {
  readonly cpu: string;
  readonly memory: string;
}

const light: Overhead = { cpu: "250m", memory: "130Mi" };
const qemu: Overhead = { cpu: "250m", memory: "320Mi" };
const secure: Overhead = { cpu: "1", memory: "1024Mi" };
const confidential: Overhead = { cpu: "1", memory: "2048Mi" };
const gpu: Overhead = { cpu: "1", memory: "10240Mi" };

/**
 * What kata-deploy sets for each shim: kata-containers/kata-containers,
 * tools/packaging/kata-deploy/helm-chart/kata-deploy/templates/runtimeclasses.yaml.
 */
const overheads: Readonly<Record<KataShim, Overhead>> = {
  clh: light,
  "clh-azure": light,
  "clh-azure-runtime-rs": light,
  "clh-runtime-rs": light,
  dragonball: light,
  fc: light,
  "openvmm-azure-runtime-rs": light,
  qemu,
  "qemu-coco-dev": { cpu: "250m", memory: "160Mi" },
  "qemu-coco-dev-runtime-rs": qemu,
  "qemu-nvidia-cpu": qemu,
  "qemu-nvidia-cpu-runtime-rs": qemu,
  "qemu-nvidia-gpu": gpu,
  "qemu-nvidia-gpu-runtime-rs": gpu,
  "qemu-nvidia-gpu-snp": gpu,
  "qemu-nvidia-gpu-snp-runtime-rs": gpu,
  "qemu-nvidia-gpu-tdx": gpu,
  "qemu-nvidia-gpu-tdx-runtime-rs": gpu,
  "qemu-runtime-rs": qemu,
  "qemu-se": secure,
  "qemu-se-runtime-rs": secure,
  "qemu-snp": confidential,
  "qemu-snp-runtime-rs": confidential,
  "qemu-tdx": confidential,
  "qemu-tdx-runtime-rs": confidential,
  remote: { cpu: "250m", memory: "120Mi" },
};

/** The overhead of a preset for Kata; `undefined` where nobody says, as for `kata`, which runs any configuration. */
export function kataOverhead(preset: string): Overhead | undefined {
  const [, shim] = /^kata-(.+?)(-debug)?$/.exec(preset) ?? [];
  return Object.entries(overheads).find(([name]) => name === shim)?.[1];
}
