import { existsSync, readFileSync } from "node:fs";
import type { MemoryNode } from "./memory.ts";
import { Node } from "./node.ts";

/** A node's files, on disk or in memory. */
interface Files {
  exists(path: string): boolean;
  text(path: string): string;
  place(path: string, content: string): void;
}

function filesOf(node: Node | MemoryNode): Files {
  if (node instanceof Node) {
    return {
      exists: (path) => existsSync(node.root + path),
      text: (path) => readFileSync(node.root + path, "utf8"),
      place: (path, content) => node.place(path, content, 0o600),
    };
  }
  return {
    exists: (path) => node.files.has(path),
    text: (path) => node.text(path) ?? "",
    place: (path, content) => node.write(path, content),
  };
}

/** Which k3s or RKE2 starts. */
export interface Release {
  readonly program: "k3s" | "rke2";
  /** The data folder. */
  readonly data: string;
  /** The major version of its containerd. */
  readonly containerd: 1 | 2;
  /** Whether its base template imports a folder of drop-ins (k3s-io/k3s#13680). */
  readonly imports: boolean;
}

export const newK3s: Release = {
  program: "k3s",
  data: "/var/lib/rancher/k3s",
  containerd: 2,
  imports: true,
};
/** 1.32 to 1.35: version 3 without imports. */
export const middleK3s: Release = { ...newK3s, imports: false };
/** 1.31 and before: containerd 1.7. */
export const oldK3s: Release = { ...newK3s, imports: false, containerd: 1 };

export function folderOf({ data }: Release): string {
  return `${data}/agent/etc/containerd`;
}

export function renderedFile(release: Release): string {
  return `${folderOf(release)}/config.toml`;
}

/**
 * What k3s does to its containerd's configuration whenever it starts, as its source says (pkg/agent/containerd,
 * config.go and runtimes.go): the first template of its generations that is there, else the base one; the handlers
 * that it finds are rendered by the base; the file is replaced.
 * @returns the path of the template that it took
 * @throws for a template that Go's parser would not take, as k3s ends then
 */
export function startK3s(node: Node | MemoryNode, release: Release): string | undefined {
  const files = filesOf(node);
  const folder = folderOf(release);
  const generations = [
    ...(release.containerd === 2 ? [{ file: "config-v3.toml.tmpl", version: 3 as const }] : []),
    { file: "config.toml.tmpl", version: 2 as const },
  ];
  const taken = generations.find(({ file }) => files.exists(`${folder}/${file}`));
  const version = taken?.version ?? (release.containerd === 2 ? 3 : 2);
  const base = baseText(release, version, found(files));
  const template = taken === undefined ? base : files.text(`${folder}/${taken.file}`);
  files.place(renderedFile(release), render(template, base, release.program));
  return taken === undefined ? undefined : `${folder}/${taken.file}`;
}

/** A node on which that release was installed and has started once. */
export function k3sNode(
  version: string,
  release: Release,
  files: Readonly<Record<string, string>> = {},
): Node {
  const node = new Node(version);
  const { program, data } = release;
  const unit = program === "k3s" ? "k3s.service" : "rke2-server.service";
  node.place(`/etc/systemd/system/${unit}`, `[Service]\nExecStart=/usr/local/bin/${program} server\n`);
  node.place(`${data}/server/token`, "x");
  if (data !== `/var/lib/rancher/${program}`)
    node.place(`/etc/rancher/${program}/config.yaml`, `data-dir: ${data}\n`);
  for (const [path, content] of Object.entries(files)) node.place(path, content);
  startK3s(node, release);
  return node;
}

/** The few actions that templates of users have; anything else is what Go would refuse. */
function render(template: string, base: string, program: string): string {
  return template
    .replaceAll(/\{\{\/\*[\s\S]*?\*\/\}\}/g, "")
    .replaceAll(/\{\{-? ?template "base" \. ?-?\}\}/g, () => base)
    .replaceAll("{{ .Program }}", program)
    .replaceAll(/\{\{[\s\S]*/g, (rest) => {
      throw new Error(`template: ${rest.slice(0, 40)}: not an action of this simulation`);
    });
}

/** Handlers whose programs k3s finds in its folders. */
function found(files: Files): { name: string; binary: string }[] {
  const candidates = [
    { name: "crun", binary: "crun", folders: ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"] },
    {
      name: "nvidia",
      binary: "nvidia-container-runtime",
      folders: ["/usr/local/nvidia/toolkit", "/usr/bin"],
    },
  ];
  return candidates.flatMap(({ name, binary, folders }) => {
    const path = folders.map((folder) => `${folder}/${binary}`).find((each) => files.exists(each));
    return path === undefined ? [] : [{ name, binary: path }];
  });
}

function baseText(
  { program, data, imports }: Release,
  version: 2 | 3,
  handlers: readonly { name: string; binary: string }[],
): string {
  const template = version === 3 ? "config-v3.toml" : "config.toml";
  const folder = `${data}/agent/etc/containerd/${template}.d`;
  const cri = version === 3 ? "io.containerd.cri.v1.runtime" : "io.containerd.grpc.v1.cri";
  const images = version === 3 ? "io.containerd.cri.v1.images" : `${cri}".containerd`;
  const handler = (name: string, options: string) =>
    `\n[plugins."${cri}".containerd.runtimes."${name}"]\n  runtime_type = "io.containerd.runc.v2"\n\n[plugins."${cri}".containerd.runtimes."${name}".options]\n${options}  SystemdCgroup = true\n`;
  return `# File generated by ${program}. DO NOT EDIT. Use ${template}.tmpl instead.
version = ${version}
${imports ? `imports = ["${folder}/*.toml"]\n` : ""}root = "${data}/agent/containerd"
state = "/run/k3s/containerd"

[grpc]
  address = "/run/k3s/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "${data}/agent/containerd"

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "10010"
${version === 3 ? `\n[plugins."${cri}"]\n` : ""}  enable_selinux = false
  enable_unprivileged_ports = false

${version === 3 ? `[plugins."${images}"]` : `[plugins."${images}]`}
  snapshotter = "overlayfs"
  disable_snapshot_annotations = true
${handler("runc", "")}${handlers.map(({ name, binary }) => handler(name, `  BinaryName = "${binary}"\n`)).join("")}
[plugins."${version === 3 ? "io.containerd.cri.v1.images" : cri}".registry]
  config_path = "${data}/agent/etc/containerd/certs.d"
`;
}
