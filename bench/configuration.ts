/** As many lines as the file of a managed node has; `docs/bench.md` has a plot of what more of them cost. */
export const usualLines = 50;

/**
 * A node's containerd 2.x configuration of about so many lines: settings, comments, and then a registry mirror
 * for every four lines, which is what makes real files long.
 */
export function configuration(lines: number): string {
  const mirrors = Math.max(0, Math.ceil((lines - head.length) / 4));
  const width = String(mirrors).length;
  const text = [...head];
  for (let index = 1; index <= mirrors; index++) {
    const name = String(index).padStart(width, "0");
    text.push(
      `# Team ${name} asked for this one; see the runbook.`,
      `[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'registry-${name}.example.com']`,
      `  endpoint = ["https://mirror-${name}.example.com", "https://registry-${name}.example.com"]`,
      "",
    );
  }
  return `${text.join("\n")}\n`;
}

const head = `# This node's containerd. Managed by the platform team: see the runbook before you touch it.
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = -999            # never kill the engine

[grpc]
  address = "/run/containerd/containerd.sock"
  max_recv_message_size = 16777216
  max_send_message_size = 16777216

[debug]
  level = "info"

[plugins.'io.containerd.gc.v1.scheduler']
  pause_threshold = 0.02
  deletion_threshold = 0
  mutation_threshold = 100
  schedule_delay = "0s"
  startup_delay = "100ms"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  discard_unpacked_layers = true
  max_concurrent_downloads = 6

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "registry.example.com/pause:3.10"

[plugins.'io.containerd.cri.v1.runtime']
  enable_selinux = false
  max_container_log_line_size = 16384
  enable_unprivileged_ports = true

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true   # as the kubelet has it

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
`.split("\n");
