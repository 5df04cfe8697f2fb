import type { ManagedSystem } from "./system.ts";
import { blockScalar } from "./yaml.ts";

const config = "/etc/containerd/config.toml";
const shipped = "/usr/share/containerd/config.toml";

/**
 * Flatcar's containerd reads the file that CONTAINERD_CONFIG names, a read-only one of the image; what that sets
 * is repeated here, as the new file replaces it (flatcar/scripts: coreos/sysext/containerd; its guides to
 * customising containerd). Version 2 is Flatcar's own, and every containerd that it ever had reads it.
 */
export const flatcar: ManagedSystem = {
  name: "flatcar",
  title: "Flatcar Container Linux (Butane)",
  engine: "containerd",
  defines: ["runc"],
  rendering: (version) => ({
    engines: "containerd",
    target: { schema: 2, base: { options: { SystemdCgroup: true } } },
    wrap: (toml) => `variant: flatcar
version: 1.0.0
storage:
  files:
    - path: ${config}
      overwrite: true
      mode: 420 # 0644
      contents:
        inline: |
${blockScalar(own(version !== undefined && version.major < 2) + toml, 10)}systemd:
  units:
    - name: containerd.service
      dropins:
        - name: 50-runtime-handlers.conf
          contents: |
            [Service]
            Environment=CONTAINERD_CONFIG=${config}
`,
    notes: {
      wiped: `Nothing wipes files in /etc, but containerd reads ${shipped}, which is read-only, and ${config} only where a unit drop-in says so.`,
      apply: [
        "New nodes: turn this into Ignition, which counts at a node's first boot only:",
        "  butane --strict handlers.yaml > handlers.ign",
        "Running nodes: write the two files by hand (the drop-in is /etc/systemd/system/containerd.service.d/50-runtime-handlers.conf), then",
        "  systemctl daemon-reload && systemctl restart containerd",
      ],
      takeBack: [
        "Remove the drop-in, then the file, in this order:",
        `  rm /etc/systemd/system/containerd.service.d/50-runtime-handlers.conf ${config}`,
        "  systemctl daemon-reload && systemctl restart containerd",
        "and take both out of the Butane configuration.",
      ],
      check: [
        `The file replaces Flatcar's: compare it with ${shipped} of your release, and again after updates. Where a node has a configuration of its own at ${config}, add the tables of the handlers to that one instead.`,
        `Where ${shipped} imports /etc/containerd/conf.d/*.toml (newer releases), a file there with version = 2 and the tables of the handlers is enough, and neither of the two files below is needed.`,
        "Nodes that still run with cgroup v1 (10-use-cgroupfs.conf) need SystemdCgroup = false.",
      ],
    },
  }),
};

/**
 * What Flatcar's own file sets and containerd does not set by itself.
 * @param isOld containerd 1.x, where an import would replace the tables below; newer releases have this one
 */
function own(isOld: boolean): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
${isOld ? "" : 'imports = ["/etc/containerd/conf.d/*.toml"]\n'}oom_score = -999

[${cri}]
enable_selinux = true

[${cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[${cri}.containerd.runtimes.runc.options]
SystemdCgroup = true

`;
}
