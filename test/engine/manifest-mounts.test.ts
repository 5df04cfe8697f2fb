import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { allMounts } from "../../src/managed/kubernetes.ts";
import { type NodeKind, nodeKinds } from "../../src/managed/mounts.ts";
import { whyNot } from "../support/needs.ts";

const problem = whyNot("pods with the folders of their manifests", {
  root: true,
  programs: ["unshare", "setpriv", "mount"],
});
const temp = mkdtempSync(join(tmpdir(), "shimctl-mounts-"));
afterAll(() => rmSync(temp, { recursive: true }));

const rancher = (name: string) =>
  `printf 'version = 3\\nimports = ["/var/lib/rancher/${name}/agent/etc/containerd/config-v3.toml.d/*.toml"]\\n' > $N/var/lib/rancher/${name}/agent/etc/containerd/config.toml`;

/** What a node of each kind has, and where its engine listens; no bus says which role a node has. */
const nodes: Readonly<Record<string, { make: string; socket: string; options?: readonly string[] }>> = {
  containerd: {
    make: "printf 'version = 3\\n' > $N/etc/containerd/config.toml",
    socket: "/run/containerd/containerd.sock",
  },
  crio: { make: "printf '[crio]\\n' > $N/etc/crio/crio.conf", socket: "/run/crio/crio.sock" },
  k3s: {
    make: rancher("k3s"),
    socket: "/run/k3s/containerd/containerd.sock",
    options: ["--layout", "k3s-agent"],
  },
  rke2: {
    make: rancher("rke2"),
    socket: "/run/k3s/containerd/containerd.sock",
    options: ["--layout", "rke2-agent"],
  },
  k0s: {
    make: `printf '# k0s_managed=true\\nversion = 3\\nimports = ["/etc/k0s/containerd.d/*.toml"]\\n' > $N/etc/k0s/containerd.toml`,
    socket: "/run/k0s/containerd.sock",
    options: ["--layout", "k0s-worker"],
  },
  microk8s: {
    make: [
      "mkdir -p $N/var/snap/microk8s/7394/args $N/var/snap/microk8s/common/run",
      "ln -s 7394 $N/var/snap/microk8s/current",
      "printf 'version = 3\\n' > $N/var/snap/microk8s/current/args/containerd-template.toml",
      "chgrp -R 4712 $N/var/snap/microk8s/7394/args",
      "chmod -R ug+rwX $N/var/snap/microk8s/7394/args",
    ].join("\n"),
    socket: "/var/snap/microk8s/common/run/containerd.sock",
  },
};

/** Installs as the pod of a manifest does: with these folders of a node below another root, and these capabilities. */
function install(kind: NodeKind, capabilities: readonly string[]) {
  const node = nodes[kind.name];
  if (node === undefined) throw new Error(`no such node: ${kind.name}`);
  const kept = ["-all", ...capabilities.map((each) => `+${each.toLowerCase()}`)].join(",");
  const command = [
    process.execPath,
    join(import.meta.dirname, "../../src/main.ts"),
    ...["install", "kata-qemu", "--allow-missing", "--no-restart", "--root", "$H"],
    ...["--engine-version", kind.engine === "crio" ? "1.34.0" : "2.1.0"],
    ...(node.options ?? []),
  ];
  const script = `set -eu
mount -t tmpfs node ${temp}
N=${temp}/node H=${temp}/host
umask 022
mkdir -p $N/usr/lib
printf 'ID=debian\\n' > $N/usr/lib/os-release
${allMounts(kind)
  .map(({ path }) => `mkdir -p $N${path} $H${path}`)
  .join("\n")}
${node.make}
${process.execPath} -e "require('node:net').createServer().listen('$N${node.socket}', () => process.kill(process.pid, 'SIGKILL'))" || true
test -S $N${node.socket}
${allMounts(kind)
  .map(({ path, writes }) =>
    [
      `mount --bind $N${path} $H${path}`,
      ...(writes === true ? [] : [`mount -o remount,ro,bind $H${path}`]),
    ].join("\n"),
  )
  .join("\n")}
KUBERNETES_SERVICE_HOST=10.0.0.1 setpriv --bounding-set ${kept} --no-new-privs ${command.join(" ")}
`;
  const { status, stdout, stderr } = spawnSync("unshare", ["--mount", "bash", "-c", script], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

describe.skipIf(problem !== undefined)("the folders and capabilities of a manifest", () => {
  for (const kind of nodeKinds)
    test(`are enough to install on ${kind.title}`, () => {
      expect(install(kind, kind.capabilities ?? [])).toMatchObject({
        status: 0,
        stdout: expect.stringContaining("installed kata-qemu"),
      });
    });

  test("are no more capabilities than MicroK8s needs", () => {
    for (const kind of nodeKinds.filter(({ capabilities }) => capabilities !== undefined))
      expect(install(kind, [])).toMatchObject({
        status: 6,
        stderr: expect.stringContaining("its owner cannot be kept"),
      });
  });
});
