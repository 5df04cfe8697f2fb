import type { Preset } from "../preset.ts";

function shim(name: string, summary: string): Preset {
  return {
    name,
    summary,
    source: "containerd/runwasi: docs/src/getting-started/quickstart.md",
    handler: {},
    containerd: { runtime_type: `io.containerd.${name}.v1` },
  };
}

/** runwasi's shims, which containerd looks up in PATH. */
export const runwasi: readonly Preset[] = [
  shim("wasmtime", "Wasmtime, WebAssembly by runwasi"),
  shim("wasmedge", "WasmEdge, WebAssembly by runwasi"),
  shim("wasmer", "Wasmer, WebAssembly by runwasi"),
];
