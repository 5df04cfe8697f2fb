import type { Candidates, Preset } from "../preset.ts";

const toolkit =
  "NVIDIA/nvidia-container-toolkit: cmd/nvidia-ctk-installer/container/operator/operator.go, cmd/nvidia-ctk-installer/container/runtime/crio/config_test.go";

/** Packages put the runtimes into /usr/bin, the GPU operator's toolkit into its own folder. */
function places(binary: string): Candidates {
  return [`/usr/bin/${binary}`, `/usr/local/nvidia/toolkit/${binary}`];
}

function variant(name: string, binary: string, summary: string): Preset {
  return {
    name,
    summary,
    source: toolkit,
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: { BinaryName: { what: "binary", candidates: places(binary) } },
    },
    crio: { runtime_path: places(binary), like_default: true },
  };
}

export const nvidia: readonly Preset[] = [
  variant("nvidia", "nvidia-container-runtime", "NVIDIA Container Toolkit"),
  variant("nvidia-cdi", "nvidia-container-runtime.cdi", "NVIDIA Container Toolkit, devices by CDI"),
  variant(
    "nvidia-legacy",
    "nvidia-container-runtime.legacy",
    "NVIDIA Container Toolkit, devices by its legacy hook",
  ),
  {
    // The toolkit itself has dropped it; only k3s still looks for it.
    name: "nvidia-experimental",
    summary: "NVIDIA's experimental runtime, of old releases of the toolkit",
    source: "k3s-io/k3s: pkg/agent/containerd/runtimes.go",
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: {
        BinaryName: { what: "binary", candidates: places("nvidia-container-runtime-experimental") },
      },
    },
  },
];
