import type { Preset } from "../preset.ts";

/** The shim is looked up in PATH; with `--prefix` it is named by its full path, as installers do. */
export const spin: readonly Preset[] = [
  {
    name: "spin",
    summary: "Spin, WebAssembly applications",
    source: "spinkube/containerd-shim-spin: README.md",
    handler: {},
    containerd: { runtime_type: "io.containerd.spin.v2" },
  },
];
