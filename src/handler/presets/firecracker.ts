import type { Preset } from "../preset.ts";

/** Works only with the containerd that firecracker-containerd builds, with its control plugin inside. */
export const firecracker: readonly Preset[] = [
  {
    name: "firecracker",
    summary: "firecracker-containerd, in its own build of containerd",
    source: "firecracker-microvm/firecracker-containerd: tools/docker/entrypoint.sh, runtime/README.md",
    handler: { snapshotter: "devmapper", cni_conf_dir: "/etc/cni/net.d" },
    containerd: { runtime_type: "aws.firecracker" },
  },
];
