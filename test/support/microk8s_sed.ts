import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { Node } from "./node.ts";

const args = "/var/snap/microk8s/current/args";
export const microk8sTemplate = `${args}/containerd-template.toml`;
export const microk8sConfig = `${args}/containerd.toml`;

/** A node with MicroK8s, whose `current` is a link to a revision. */
export function microk8sNode(version: string, template: string | Uint8Array = ownTemplate): Node {
  const node = new Node(version);
  node.place(microk8sTemplate.replace("current", "7394"), template);
  symlinkSync("7394", `${node.root}/var/snap/microk8s/current`);
  return node;
}

/** What MicroK8s does at each start of its containerd (canonical/microk8s, wrappers/run-containerd-with-args). */
export function startMicroK8s(root: string, runtime: "runc" | "nvidia-container-runtime" = "runc"): void {
  const values = {
    SNAP: "/snap/microk8s/7394",
    SNAP_DATA: "/var/snap/microk8s/7394",
    SNAPSHOTTER: "overlayfs",
    RUNTIME: runtime,
    RUNTIME_TYPE: "io.containerd.runc.v2",
  };
  const folder = root + args.replace("current", "7394");
  let text = readFileSync(`${folder}/containerd-template.toml`, "latin1");
  for (const [name, value] of Object.entries(values)) text = text.replaceAll(`\${${name}}`, value);
  writeFileSync(`${folder}/containerd.toml`, text, "latin1");
}

const cri = 'plugins."io.containerd.grpc.v1.cri"';

/** In the form of the snap's own. */
export const ownTemplate = `# the template of MicroK8s
version = 2
oom_score = 0

[${cri}]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [${cri}.containerd]
    snapshotter = "\${SNAPSHOTTER}" # filled in
    default_runtime_name = "\${RUNTIME}"

    [${cri}.containerd.runtimes.runc]
      runtime_type = "\${RUNTIME_TYPE}"

    [${cri}.containerd.runtimes.nvidia-container-runtime]
      runtime_type = "\${RUNTIME_TYPE}"

      [${cri}.containerd.runtimes.nvidia-container-runtime.options]
        BinaryName = "nvidia-container-runtime"

   [${cri}.containerd.runtimes.kata]
      runtime_type = "io.containerd.kata.v2"
      [${cri}.containerd.runtimes.kata.options]
        BinaryName = "kata-runtime"

  [${cri}.cni]
    bin_dir = "\${SNAP_DATA}/opt/cni/bin"
    conf_dir = "\${SNAP_DATA}/args/cni-network"
`;
