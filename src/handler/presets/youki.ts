import type { Preset } from "../preset.ts";

/** youki's installer writes SystemdCgroup = false, which is wrong on most nodes: runc's value is taken over. */
export const youki: readonly Preset[] = [
  {
    name: "youki",
    summary: "youki, the OCI runtime in Rust",
    source: "youki-dev/youki: tools/youki-deploy/install-youki.sh",
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: {
        BinaryName: { what: "binary", candidates: ["/usr/local/bin/youki", "/usr/bin/youki"] },
      },
    },
  },
];
