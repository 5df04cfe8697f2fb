import type { Preset } from "../preset.ts";

/** A runc-compatible binary behind runc's own shim; every runc-like handler of a node shares its cgroup driver. */
export const crun: readonly Preset[] = [
  {
    name: "crun",
    summary: "crun, the OCI runtime in C",
    source:
      "containerd/containerd: docs/cri/config.md; k3s-io/k3s: pkg/agent/containerd/runtimes.go; cri-o/packaging: templates/latest/cri-o/bundle/10-crio.conf",
    handler: {},
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: {
        BinaryName: {
          what: "binary",
          candidates: ["/usr/bin/crun", "/usr/local/bin/crun", "/usr/sbin/crun", "/usr/local/sbin/crun"],
        },
      },
    },
    crio: {
      // CRI-O's own packages bring a crun of their own; distributions put theirs into /usr/bin.
      runtime_path: ["/usr/libexec/crio/crun", "/usr/bin/crun", "/usr/local/bin/crun"],
      runtime_root: "/run/crun",
      allowed_annotations: ["io.containers.trace-syscall"],
      like_default: true,
    },
  },
  {
    name: "crun-wasm",
    summary: "crun with its WebAssembly handler",
    source: "containers/crun: docs/wasm-wasi-on-kubernetes.md; cri-o/cri-o: test/image.bats",
    handler: {
      pod_annotations: [
        "*.wasm.*",
        "wasm.*",
        "module.wasm.image/*",
        "*.module.wasm.image",
        "module.wasm.image/variant.*",
      ],
    },
    containerd: {
      runtime_type: "io.containerd.runc.v2",
      like_runc: true,
      paths: {
        BinaryName: {
          what: "binary",
          // Distributions name the build with WebAssembly crun-wasm; one's own build is /usr/local/bin/crun.
          candidates: ["/usr/bin/crun-wasm", "/usr/local/bin/crun-wasm", "/usr/local/bin/crun"],
        },
      },
    },
    crio: {
      runtime_path: ["/usr/bin/crun", "/usr/libexec/crio/crun", "/usr/local/bin/crun"],
      platform_runtime_paths: { "wasi/wasm32": ["/usr/bin/crun-wasm", "/usr/local/bin/crun-wasm"] },
      like_default: true,
    },
  },
];
