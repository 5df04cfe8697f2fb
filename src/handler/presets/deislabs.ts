import type { Preset } from "../preset.ts";

/** The archived shims of deislabs. Their binaries are `-v1`: the `.v2` types that k3s lists find nothing. */
function shim(name: string, summary: string): Preset {
  return {
    name,
    summary,
    source: "deislabs/containerd-wasm-shims: deployments/k3d/config.toml.tmpl",
    handler: {},
    containerd: { runtime_type: `io.containerd.${name}.v1` },
  };
}

export const deislabs: readonly Preset[] = [
  shim("slight", "SpiderLightning, WebAssembly (archived)"),
  shim("wws", "Wasm Workers Server (archived)"),
  shim("lunatic", "Lunatic, WebAssembly (archived)"),
];
