import type { EngineName } from "../../src/engine/backend.ts";
import type { ContainerdPart, CrioPart, Handler } from "../../src/handler/model.ts";

/** What a preset must make, but for its name. */
export type Definition = Omit<Handler, "name" | "preset">;

/**
 * Definitions by hand, as the runtimes' own documentation gives them (peers.md, section 6; the presets name their
 * sources). Nothing here is computed by what is tested.
 */
const others: Readonly<Record<string, Definition>> = {
  crun: {
    containerd: runcLike("/usr/local/bin/crun"),
    crio: {
      ...ociLike("/usr/libexec/crio/crun"),
      runtime_root: "/run/crun",
      allowed_annotations: ["io.containers.trace-syscall"],
    },
  },
  "crun-wasm": {
    pod_annotations: [
      ...["*.wasm.*", "wasm.*", "module.wasm.image/*", "*.module.wasm.image"],
      "module.wasm.image/variant.*",
    ],
    containerd: runcLike("/usr/bin/crun-wasm"),
    crio: {
      ...ociLike("/usr/bin/crun"),
      platform_runtime_paths: { "wasi/wasm32": "/usr/bin/crun-wasm" },
    },
  },
  youki: { containerd: runcLike("/usr/local/bin/youki") },
  runsc: {
    requires: ["runsc"],
    containerd: shimmed("io.containerd.runsc.v1"),
    crio: {
      runtime_type: "vm",
      like_default: false,
      runtime_path: "/usr/local/bin/containerd-shim-runsc-v1",
      runtime_root: "/run/runsc",
      runtime_config_path: "/etc/containerd/runsc.toml",
    },
  },
  kata: {
    privileged_without_host_devices: true,
    pod_annotations: ["io.katacontainers.*"],
    container_annotations: ["io.katacontainers.*"],
    ...kataParts(
      "io.containerd.kata.v2",
      "/opt/kata/bin/containerd-shim-kata-v2",
      "/opt/kata/share/defaults/kata-containers/configuration.toml",
    ),
  },
  nvidia: nvidiaAs("/usr/bin/nvidia-container-runtime"),
  "nvidia-cdi": nvidiaAs("/usr/local/nvidia/toolkit/nvidia-container-runtime.cdi"),
  "nvidia-legacy": nvidiaAs("/usr/bin/nvidia-container-runtime.legacy"),
  "nvidia-experimental": { containerd: runcLike("/usr/bin/nvidia-container-runtime-experimental") },
  spin: { containerd: shimmed("io.containerd.spin.v2") },
  slight: { containerd: shimmed("io.containerd.slight.v1") },
  wws: { containerd: shimmed("io.containerd.wws.v1") },
  lunatic: { containerd: shimmed("io.containerd.lunatic.v1") },
  wasmtime: { containerd: shimmed("io.containerd.wasmtime.v1") },
  wasmedge: { containerd: shimmed("io.containerd.wasmedge.v1") },
  wasmer: { containerd: shimmed("io.containerd.wasmer.v1") },
  firecracker: {
    snapshotter: "devmapper",
    cni_conf_dir: "/etc/cni/net.d",
    containerd: shimmed("aws.firecracker"),
  },
  "sysbox-runc": {
    containerd: runcLike("/usr/bin/sysbox-runc"),
    crio: {
      ...ociLike("/usr/bin/sysbox-runc"),
      allowed_annotations: ["io.kubernetes.cri-o.userns-mode"],
    },
  },
  urunc: {
    snapshotter: "devmapper",
    pod_annotations: ["com.urunc.unikernel.*"],
    container_annotations: ["com.urunc.unikernel.*"],
    requires: ["urunc"],
    containerd: shimmed("io.containerd.urunc.v2"),
  },
};

/** The shims of kata-deploy's chart (values.yaml, `shims:`) whose runtime is the one in Go … */
const goShims = [
  ...["clh", "clh-azure", "fc", "qemu", "qemu-nvidia-cpu", "qemu-nvidia-gpu", "qemu-coco-dev", "qemu-snp"],
  ...["qemu-nvidia-gpu-snp", "qemu-nvidia-gpu-tdx", "qemu-tdx", "qemu-se", "remote"],
];
/** … and in Rust. */
const rustShims = [
  ...["dragonball", "clh-runtime-rs", "clh-azure-runtime-rs", "openvmm-azure-runtime-rs", "qemu-runtime-rs"],
  ...["qemu-nvidia-cpu-runtime-rs", "qemu-nvidia-gpu-runtime-rs", "qemu-nvidia-gpu-snp-runtime-rs"],
  ...["qemu-nvidia-gpu-tdx-runtime-rs", "qemu-coco-dev-runtime-rs", "qemu-snp-runtime-rs"],
  ...["qemu-tdx-runtime-rs", "qemu-se-runtime-rs"],
];
/** Those whose guest pulls the images itself under CRI-O: `crio.guestPull` in the chart. */
const guestPulls = [
  ...["qemu-coco-dev", "qemu-coco-dev-runtime-rs", "qemu-nvidia-gpu-snp", "qemu-nvidia-gpu-snp-runtime-rs"],
  ...["qemu-nvidia-gpu-tdx", "qemu-nvidia-gpu-tdx-runtime-rs", "qemu-se", "qemu-se-runtime-rs", "qemu-snp"],
  ...["qemu-snp-runtime-rs", "qemu-tdx", "qemu-tdx-runtime-rs", "remote"],
];

/** Every runtime that is documented, by handler; runc is built into the engines. */
export const documented: Readonly<Record<string, Definition>> = {
  ...others,
  ...Object.fromEntries(
    [...goShims, ...rustShims].flatMap((shim) => {
      const isRust = rustShims.includes(shim);
      const binary = `/opt/kata/${isRust ? "runtime-rs/" : ""}bin/containerd-shim-kata-v2`;
      const defaults = "/opt/kata/share/defaults/kata-containers";
      const own = `${defaults}${isRust ? "/runtime-rs" : ""}/runtimes/${shim}/configuration-${shim}.toml`;
      const debug = `${defaults}/custom-runtimes/kata-${shim}-debug/configuration-${shim}.toml`;
      return [
        [`kata-${shim}`, asDeployed(shim, `io.containerd.kata-${shim}.v2`, binary, own)],
        [`kata-${shim}-debug`, asDeployed(shim, `io.containerd.kata-${shim}-debug.v2`, binary, debug)],
      ];
    }),
  ),
};

/** Where a node has what a definition names: programs, and configurations that programs read. */
export function filesOf(
  { requires = [], containerd, crio }: Definition,
  engine: EngineName,
): { readonly programs: readonly string[]; readonly configurations: readonly string[] } {
  const present = (...paths: unknown[]) => paths.filter((path) => typeof path === "string");
  const inPath = requires.map((name) => `/usr/local/bin/${name}`);
  if (engine === "crio") {
    return {
      programs: [
        ...present(crio?.runtime_path, ...Object.values(crio?.platform_runtime_paths ?? {})),
        ...inPath,
      ],
      configurations: present(crio?.runtime_config_path),
    };
  }
  const [name, version] = containerd?.runtime_type.split(".").slice(-2) ?? [];
  const shim = containerd?.runtime_path ?? `/usr/local/bin/containerd-shim-${name}-${version}`;
  return {
    programs: [...present(shim, containerd?.options["BinaryName"]), ...inPath],
    configurations: present(containerd?.options["ConfigPath"]),
  };
}

function runcLike(binary: string): ContainerdPart {
  return { runtime_type: "io.containerd.runc.v2", like_runc: true, options: { BinaryName: binary } };
}

function shimmed(runtimeType: string): ContainerdPart {
  return { runtime_type: runtimeType, like_runc: false, options: {} };
}

function ociLike(binary: string): CrioPart {
  return { runtime_type: "oci", like_default: true, runtime_path: binary };
}

function nvidiaAs(binary: string): Definition {
  return { containerd: runcLike(binary), crio: ociLike(binary) };
}

function kataParts(runtimeType: string, binary: string, configuration: string) {
  return {
    containerd: {
      runtime_type: runtimeType,
      runtime_path: binary,
      like_runc: false,
      options: { ConfigPath: configuration },
    },
    crio: {
      runtime_type: "vm",
      like_default: false,
      runtime_path: binary,
      runtime_root: "/run/vc",
      runtime_config_path: configuration,
    },
  } satisfies Definition;
}

function asDeployed(shim: string, runtimeType: string, binary: string, configuration: string): Definition {
  const { containerd, crio } = kataParts(runtimeType, binary, configuration);
  return {
    privileged_without_host_devices: true,
    pod_annotations: ["io.katacontainers.*"],
    container_annotations: ["io.kubernetes.container.terminationMessage*"],
    ...(shim === "fc" ? { snapshotter: "devmapper" } : {}),
    containerd,
    crio: { ...crio, ...(guestPulls.includes(shim) ? { runtime_pull_image: true } : {}) },
  };
}
