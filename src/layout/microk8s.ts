import { ownContainerd } from "./containerd.ts";
import { type Layout, unitFiles } from "./layout.ts";

const args = "/var/snap/microk8s/current/args";
const rootFile = `${args}/containerd-template.toml`;
const binary = "/snap/microk8s/current/bin/containerd";
const socket = "/var/snap/microk8s/common/run/containerd.sock";
const unit = "snap.microk8s.daemon-containerd.service";

/**
 * MicroK8s makes its containerd's configuration from a template at each start, by sed(1)
 * (microk8s-resources/wrappers/run-containerd-with-args).
 */
export const microk8s: Layout = {
  ...ownContainerd,
  name: "microk8s",
  bringsKubelet: true,
  title: "MicroK8s",
  unit,
  // Its program is a shell script of the snap, which containerd takes the place of.
  isDaemon: (daemon) =>
    daemon.unit === unit ||
    daemon.argv.some(
      (argument) => argument.startsWith("/snap/microk8s/") && argument.endsWith("/bin/containerd"),
    ),
  evidence: (host, daemons) => [
    ...daemons.filter((daemon) => microk8s.isDaemon(daemon)).map(({ source }) => source),
    ...[rootFile, ...unitFiles(unit), binary, socket].filter((path) => host.exists(path)),
  ],
  places: () => ({
    rootFile,
    startedWith: `${args}/containerd.toml`,
    source: {
      kind: "template",
      by: "MicroK8s",
      values: {
        SNAP: ["/snap/microk8s/current"],
        SNAP_DATA: ["/var/snap/microk8s/current"],
        SNAPSHOTTER: ["overlayfs", "native"],
        RUNTIME: ["runc", "nvidia-container-runtime"],
        RUNTIME_TYPE: ["io.containerd.runc.v2"],
      },
    },
    socket,
    binaries: [binary],
  }),
  // `chgrp -R microk8s` and `chmod -R ug+rwX` at each start of the snap (snap/hooks/configure); a root shell reads
  // containerd-env from there, so that this group is as good as root by MicroK8s' own design.
  sharedWith: { path: args, groups: ["microk8s", "snap_microk8s"] },
  survives: "restarts, reboots and refreshes of the snap; MicroK8s makes containerd.toml of it at each start",
};
