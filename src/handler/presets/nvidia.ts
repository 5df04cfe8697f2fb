import type { Preset } from "../preset.ts";

function variant(name: string, suffix: string, summary: string): Preset {
  return {
    name,
    summary,
    source: "NVIDIA/nvidia-container-toolkit: cmd/nvidia-ctk-installer (operator.go)",
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: {
        BinaryName: {
          what: "binary",
          candidates: [
            `/usr/bin/nvidia-container-runtime${suffix}`,
            `/usr/local/nvidia/toolkit/nvidia-container-runtime${suffix}`,
          ],
        },
      },
    },
  };
}

export const nvidia: readonly Preset[] = [
  variant("nvidia", "", "NVIDIA Container Toolkit"),
  variant("nvidia-cdi", ".cdi", "NVIDIA Container Toolkit, devices by CDI"),
  variant("nvidia-legacy", ".legacy", "NVIDIA Container Toolkit, devices by its legacy hook"),
];
