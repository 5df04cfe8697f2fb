/** What kata-deploy 4.1 and nvidia-ctk write, as their documentation and their own tests have it. */

const ids = { 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime" } as const;

/** A handler of kata-deploy in containerd's configuration, as it is appended to a file. */
export function kataHandler(schema: 2 | 3, shim: string): string {
  const table = `plugins."${ids[schema]}".containerd.runtimes.kata-${shim}`;
  return `[${table}]
runtime_type = "io.containerd.kata-${shim}.v2"
runtime_path = "/opt/kata/bin/containerd-shim-kata-v2"
privileged_without_host_devices = true
pod_annotations = ["io.katacontainers.*"]
container_annotations = ["io.kubernetes.container.terminationMessage*"]

[${table}.options]
ConfigPath = "/opt/kata/share/defaults/kata-containers/runtimes/${shim}/configuration-${shim}.toml"
`;
}

/** The same in its file for CRI-O, with what the tool writes above. */
export function kataHandlerCrio(shim: string): string {
  return `[crio]
  storage_option = [
	"overlay.skip_mount_home=true",
  ]

[crio.runtime.runtimes.kata-${shim}]
	runtime_path = "/opt/kata/bin/containerd-shim-kata-v2"
	runtime_type = "vm"
	runtime_root = "/run/vc"
	runtime_config_path = "/opt/kata/share/defaults/kata-containers/runtimes/${shim}/configuration-${shim}.toml"
	privileged_without_host_devices = true
`;
}

/** nvidia-ctk's handler, where the handler that it copies says nothing more. */
export function nvidiaHandler(schema: 2 | 3): string {
  const table = `plugins."${ids[schema]}".containerd.runtimes.nvidia`;
  return `        [${table}]
          privileged_without_host_devices = false
          runtime_engine = ""
          runtime_root = ""
          runtime_type = "io.containerd.runc.v2"

          [${table}.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
`;
}
