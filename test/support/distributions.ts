import type { HostFiles } from "../../src/host/host.ts";
import { layouts } from "../../src/layout/registry.ts";
import { Node } from "./node.ts";

/** A node as a distribution sets it up: made up after its documentation and templates. */
export interface Distribution {
  /** The layout that it is found as. */
  readonly layout: string;
  /** As test names call it. */
  readonly name: string;
  /** The release of the engine that it brings. */
  readonly version: string;
  readonly files: Readonly<Record<string, string>>;
  /** Where the engine starts to read, if that is not the layout's usual place. */
  readonly rootFile?: string;
  /** Nothing is changed on it. */
  readonly refused?: true;
}

const cri = 'plugins."io.containerd.grpc.v1.cri"';
const criRuntime = "plugins.'io.containerd.cri.v1.runtime'";
const config = "/etc/containerd/config.toml";
const program = "#!/bin/sh\n";

const unit = (command: string) => `[Service]\nExecStart=${command}\nKillMode=process\n`;
const osRelease = (id: string, more = "") => ({
  "/usr/lib/os-release": `NAME="made up"\nID=${id}\nVERSION_ID=1.2.3\n${more}`,
  "/etc/os-release": `NAME="made up"\nID=${id}\nVERSION_ID=1.2.3\n${more}`,
});
const containerd = {
  "/usr/bin/containerd": program,
  "/usr/lib/systemd/system/containerd.service": unit("/usr/bin/containerd"),
};
const runcV2 = `version = 2
# the distribution's
[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [${cri}.containerd.runtimes.runc.options]
    SystemdCgroup = true
`;

const flatcarUnit = {
  ...osRelease("flatcar", "ID_LIKE=coreos\n"),
  "/usr/bin/containerd": program,
  "/usr/bin/dockerd": program,
  "/usr/share/containerd/config.toml": `version = 2\nsubreaper = true\noom_score = -999\n${runcV2.split("\n").slice(1).join("\n")}`,
  "/usr/lib/systemd/system/containerd.service":
    "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\nExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n",
};

const kicbase = {
  "/kic.txt": "made up\n",
  "/usr/sbin/minikube-automount": program,
  "/var/lib/minikube/binaries/v1.34.0/kubelet": program,
  "/usr/bin/dockerd": program,
  "/usr/bin/crio": program,
  ...containerd,
  [config]: `version = 2
oom_score = 0
[plugins]
  [${cri}]
    sandbox_image = "registry.example.com/pause:3.10"
    [${cri}.containerd]
      snapshotter = "overlayfs"
      default_runtime_name = "runc"
      [${cri}.containerd.runtimes]
        [${cri}.containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [${cri}.containerd.runtimes.runc.options]
            SystemdCgroup = false
`,
  "/etc/crio/crio.conf.d/02-crio.conf": '[crio.runtime]\n# cgroup_manager = ""\n',
};
const crictl = (socket: string) => ({
  "/etc/crictl.yaml": `runtime-endpoint: unix://${socket}\nimage-endpoint: unix://${socket}\n`,
});

/** Nodes for every layout; those of layouts that are not in the registry are left out. */
export const distributions: readonly Distribution[] = (
  [
    {
      layout: "vanilla",
      name: "Debian's package",
      version: "1.7.24",
      files: { ...containerd, [config]: runcV2 },
    },
    {
      layout: "docker",
      name: "docker's package, with CRI enabled",
      version: "2.1.9",
      files: {
        ...containerd,
        "/usr/bin/dockerd": program,
        "/usr/lib/systemd/system/docker.service": unit("/usr/bin/dockerd -H fd://"),
        [config]: `# made for Kubernetes\n${runcV2}`,
      },
    },
    {
      layout: "kind",
      name: "kind",
      version: "2.1.9",
      files: {
        "/kind/version": "v1.34.0\n",
        "/etc/containerd/cri-base.json": "{}\n",
        "/usr/local/bin/containerd": program,
        "/etc/systemd/system/containerd.service": unit("/usr/local/bin/containerd"),
        [config]: `version = 2
# for rootless ones
[proxy_plugins."fuse-overlayfs"]
  type = "snapshot"
  address = "/run/containerd-fuse-overlayfs.sock"
[${cri}.containerd]
  discard_unpacked_layers = true
  default_runtime_name = "runc"
[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/cri-base.json"
[${cri}.containerd.runtimes.test-handler]
  runtime_type = "io.containerd.runc.v2"
`,
      },
    },
    {
      layout: "minikube",
      name: "minikube with containerd",
      version: "1.7.24",
      files: { ...kicbase, ...crictl("/run/containerd/containerd.sock") },
    },
    {
      layout: "minikube-crio",
      name: "minikube with CRI-O",
      version: "1.36.3",
      files: { ...kicbase, ...crictl("/var/run/crio/crio.sock") },
    },
    {
      layout: "minikube",
      name: "minikube with docker",
      version: "1.7.24",
      files: { ...kicbase, ...crictl("/var/run/cri-dockerd.sock") },
      refused: true,
    },
    ...(["1.7.24", "2.1.9"] as const).map((version) => {
      const [schema, table] = version === "1.7.24" ? [2, cri.replaceAll('"', "'")] : [3, criRuntime];
      return {
        layout: "eks",
        name: `EKS with containerd ${version}`,
        version,
        files: {
          ...containerd,
          "/usr/bin/nodeadm": program,
          "/etc/systemd/system/nodeadm-config.service": unit("/usr/bin/nodeadm init --skip run"),
          "/etc/systemd/system/nodeadm-run.service": unit("/usr/bin/nodeadm init --skip config"),
          "/etc/containerd/base-runtime-spec.json": "{}\n",
          [config]: `root = '/var/lib/containerd'
state = '/run/containerd'
version = ${schema}

[plugins]
[${table}]
enable_cdi = true

[${table}.containerd]
default_runtime_name = 'runc'

[${table}.containerd.runtimes]
[${table}.containerd.runtimes.runc]
base_runtime_spec = '/etc/containerd/base-runtime-spec.json'
runtime_type = 'io.containerd.runc.v2'

[${table}.containerd.runtimes.runc.options]
BinaryName = '/usr/sbin/runc'
SystemdCgroup = true
`,
        },
      };
    }),
    {
      layout: "gke",
      name: "GKE",
      version: "1.7.24",
      files: {
        ...containerd,
        ...osRelease("cos"),
        "/usr/bin/dockerd": program,
        "/home/kubernetes/kube-env": "readonly KUBERNETES_MASTER='false'\n",
        "/home/kubernetes/bin/configure-helper.sh": program,
        // Options stand before their handler there, and containerd ends where CRI does not load.
        [config]: `version = 2
required_plugins = ["io.containerd.grpc.v1.cri"]
[${cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
[${cri}.cni]
  bin_dir = "/home/kubernetes/bin"
[${cri}.containerd]
  default_runtime_name = "runc"
[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[metrics]
  address = "127.0.0.1:1338"
`,
      },
    },
    ...(["1.7.24", "2.1.9"] as const).map((version) => {
      const table = version === "1.7.24" ? cri : criRuntime.replaceAll("'", '"');
      return {
        layout: "aks",
        name: `AKS with containerd ${version}`,
        version,
        files: {
          ...containerd,
          "/opt/azure/vhd-install.complete": "made up\n",
          // The version says 2 with the plugin ids of 3, too.
          [config]: `version = 2
oom_score = -999
[${table}.containerd]
    default_runtime_name = "runc"
    [${table}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [${table}.containerd.runtimes.runc.options]
      BinaryName = "/usr/bin/runc"
    [${table}.containerd.runtimes.untrusted]
      runtime_type = "io.containerd.runc.v2"
    [${table}.containerd.runtimes.untrusted.options]
      BinaryName = "/usr/bin/runc"
[metrics]
  address = "0.0.0.0:10257"
`,
        },
      };
    }),
    {
      layout: "flatcar",
      name: "Flatcar with a configuration of its own",
      version: "2.1.9",
      files: {
        ...flatcarUnit,
        [config]: runcV2,
        "/etc/systemd/system/containerd.service.d/10-config.conf":
          "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n",
      },
    },
    {
      layout: "flatcar",
      name: "Flatcar with another command line",
      version: "2.1.9",
      files: {
        ...flatcarUnit,
        [config]: runcV2,
        "/etc/systemd/system/containerd.service.d/10-use-custom-config.conf":
          "[Service]\nExecStart=\nExecStart=/usr/bin/containerd\n",
      },
    },
    {
      layout: "flatcar",
      name: "Flatcar as it comes",
      version: "2.1.9",
      files: flatcarUnit,
      rootFile: "/usr/share/containerd/config.toml",
      refused: true,
    },
    {
      layout: "talos",
      name: "Talos",
      version: "2.1.9",
      files: {
        ...osRelease("talos"),
        "/usr/bin/containerd": program,
        [config]: "version = 3\n# of Talos' own services\n",
        "/etc/cri/containerd.toml": 'version = 3\nimports = ["/etc/cri/conf.d/cri.toml"]\n',
        "/etc/cri/conf.d/00-base.part": `version = 3\n[${criRuntime}.containerd.runtimes.runc]\nbase_runtime_spec = "/etc/cri/conf.d/base-spec.json"\n`,
        "/etc/cri/conf.d/cri.toml": `version = 3\n[${criRuntime}.containerd.runtimes.runc]\nbase_runtime_spec = "/etc/cri/conf.d/base-spec.json"\n`,
        "/etc/cri/conf.d/base-spec.json": "{}\n",
      },
      rootFile: "/etc/cri/containerd.toml",
      refused: true,
    },
    {
      layout: "bottlerocket",
      name: "Bottlerocket",
      version: "1.7.24",
      files: {
        ...osRelease("bottlerocket", "VARIANT_ID=aws-k8s-1.34\n"),
        "/usr/bin/containerd": program,
        "/etc/containerd/cri-base.json": "{}\n",
        [config]: `version = 2
[${cri}.containerd]
default_runtime_name = "shimpei"
[${cri}.containerd.runtimes.shimpei]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/cri-base.json"
[${cri}.containerd.runtimes.shimpei.options]
SystemdCgroup = true
BinaryName = "shimpei"
`,
      },
      refused: true,
    },
    {
      layout: "crio",
      name: "CRI-O's package",
      version: "1.36.3",
      files: {
        "/usr/bin/crio": program,
        "/usr/lib/systemd/system/crio.service": unit("/usr/bin/crio"),
        "/etc/crio/crio.conf.d/10-crio.conf": '[crio.image]\nsignature_policy = "/etc/crio/policy.json"\n',
      },
    },
    {
      layout: "openshift",
      name: "OpenShift",
      version: "1.36.3",
      files: {
        "/usr/bin/crio": program,
        "/usr/lib/systemd/system/crio.service": unit("/usr/bin/crio"),
        "/etc/machine-config-daemon/currentconfig": `${JSON.stringify({
          kind: "MachineConfig",
          spec: { config: { storage: { files: [{ path: "/etc/crio/crio.conf.d/00-default", mode: 420 }] } } },
        })}\n`,
        "/etc/machine-config-daemon/node-annotations.json": "{}\n",
        "/etc/crio/crio.conf.d/00-default": `[crio.runtime]
conmon = ""
conmon_cgroup = "pod"
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/crun"
`,
      },
    },
    ...(["k3s", "rke2"] as const).flatMap((name) =>
      (["server", "agent"] as const).map((role) => {
        const folder = `/var/lib/rancher/${name}/agent/etc/containerd`;
        const service = name === "k3s" && role === "server" ? "k3s" : `${name}-${role}`;
        return {
          layout: `${name}-${role}`,
          name: `${name} ${role}`,
          version: "2.1.9",
          files: {
            [`/usr/local/bin/${name}`]: program,
            [`/etc/systemd/system/${service}.service`]: unit(`/usr/local/bin/${name} ${role}`),
            [`${folder}/config.toml`]: `version = 3
imports = ["${folder}/config-v3.toml.d/*.toml"]
[${criRuntime}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`,
          },
          rootFile: `${folder}/config.toml`,
        };
      }),
    ),
    ...(["controller", "worker"] as const).map((role) => ({
      layout: `k0s-${role}`,
      name: `k0s ${role}`,
      version: "2.3.4",
      files: {
        [`/etc/systemd/system/k0s${role}.service`]: unit(`/usr/local/bin/k0s ${role}`),
        "/etc/k0s/containerd.toml": `# k0s_managed=true
version = 3
imports = ["/etc/k0s/containerd.d/*.toml"]
`,
      },
      rootFile: "/etc/k0s/containerd.toml",
    })),
    {
      layout: "microk8s",
      name: "MicroK8s",
      version: "2.1.9",
      files: {
        "/var/snap/microk8s/current/args/containerd-template.toml": `version = 2
oom_score = 0
[${cri}.containerd]
  snapshotter = "\${SNAPSHOTTER}"
  default_runtime_name = "\${RUNTIME}"
  [${cri}.containerd.runtimes.runc]
    runtime_type = "\${RUNTIME_TYPE}"
`,
      },
      rootFile: "/var/snap/microk8s/current/args/containerd-template.toml",
    },
  ] satisfies Distribution[]
).filter(({ layout }) => layouts.some(({ name }) => name === layout));

/** A node with the files of these, a later one's where two have a file of one name. */
export function nodeOf(...several: readonly Distribution[]): Node {
  const node = new Node(several.at(-1)?.version ?? "");
  for (const { files } of several) {
    for (const [path, content] of Object.entries(files))
      node.place(path, content, content === program ? 0o755 : 0o644);
  }
  return node;
}

/** The layouts for which something on this node speaks, without those that others refine. */
export function evidentOn(host: HostFiles): Record<string, readonly string[]> {
  return Object.fromEntries(
    layouts.flatMap((layout) => {
      const evidence = layout.evidence(host, []);
      return evidence.length === 0 ? [] : [[layout.name, evidence]];
    }),
  );
}
