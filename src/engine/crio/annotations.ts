/** Annotations that a handler may allow (CRI-O: pkg/annotations). An unknown one makes CRI-O ignore the handler. */
const external = [
  "io.kubernetes.cri.rdt-class",
  "bundle",
  "org.systemd.property.",
  "org.criu.config",
  "module.wasm.image/variant",
  "io.kubernetes.cri.container-type",
  "run.oci.",
  "io.containers.trace-syscall",
  "org.opencontainers.image.stopSignal",
  "cpu-load-balancing.crio.io",
  "cpu-quota.crio.io",
  "cpu-c-states.crio.io",
  "cpu-freq-governor.crio.io",
  "cpu-shared.crio.io",
  "irq-load-balancing.crio.io",
];

const firstNames = [
  "Cgroup2MountHierarchyRW",
  "cgroup2-mount-hierarchy-rw",
  "Devices",
  "DisableFIPS",
  "LinkLogs",
  "PlatformRuntimePath",
  "PodLinuxOverhead",
  "PodLinuxResources",
  "ShmSize",
  "Spoofed",
  "TrySkipVolumeSELinuxLabel",
  "UnifiedCgroup",
  "seccompNotifierAction",
  "umask",
  "userns-mode",
].map((name) => `io.kubernetes.cri-o.${name}`);

/** From 1.35 on. */
const secondNames = [
  "cgroup2-mount-hierarchy-rw",
  "devices",
  "disable-fips",
  "link-logs",
  "platform-runtime-path",
  "pod-linux-overhead",
  "pod-linux-resources",
  "seccomp-notifier-action",
  "seccomp-profile",
  "shm-size",
  "skip-gomaxprocs",
  "spoofed",
  "try-skip-volume-selinux-label",
  "umask",
  "unified-cgroup",
  "userns-mode",
].map((name) => `${name}.crio.io`);

const old = new Set([...external, ...firstNames, "seccomp-profile.kubernetes.cri-o.io"]);
const recent = new Set(secondNames);

/** Since which minor release of 1.x an annotation may be allowed; `undefined` for one that no release knows. */
export function annotationSince(name: string): number | undefined {
  if (old.has(name)) return 0;
  return recent.has(name) ? 35 : undefined;
}
