import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Engine, engines } from "../../build/engines.ts";
import { type Daemon, daemonProblem, type Output, startDaemon } from "../engine/harness.ts";
import { artefact, whyNotArtefacts } from "../support/artefacts.ts";
import { Node } from "../support/node.ts";

const cannot = daemonProblem();
const problem = whyNotArtefacts("the image under containerd", {
  root: true,
  ...(cannot === undefined ? {} : { also: cannot }),
});
const all = problem === undefined ? await engines() : [];
/** The oldest and the newest of those that can run a container. */
const tried = all.filter((engine) => engine.runc !== undefined);
const judges = [tried.at(0), tried.at(-1)].filter((engine) => engine !== undefined);

/** containerd's default capabilities, all of which go: on files that belong to root, shimctl needs none. */
const capabilities = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FSETID",
  "FOWNER",
  "MKNOD",
  "NET_RAW",
  "SETGID",
  "SETUID",
  "SETFCAP",
  "SETPCAP",
  "NET_BIND_SERVICE",
  "SYS_CHROOT",
  "KILL",
  "AUDIT_WRITE",
];

/** The folders of the node that a container gets: those that it changes, and those in which it looks for runtimes. */
const mounts = [
  ...["/etc/containerd", "/var/lib/shimctl", "/run"].map((path) => [path, "rw"]),
  ...["/opt/kata", "/usr"].map((path) => [path, "ro"]),
];

/** runc wants cgroups, and has only this machine's: one of our own, removed at the end. */
const cgroup = `/shimctl-test-${process.pid}`;

function inJail(daemon: Daemon, script: string): void {
  const argv = ["--target", String(daemon.pid), "--mount", "--pid", "--root", "--wd", "sh", "-euc", script];
  const { status, stderr } = spawnSync("nsenter", argv, { encoding: "utf8" });
  if (status !== 0) throw new Error(`cannot prepare the jail: ${stderr}`);
}

const eachCgroupMount = (command: string) =>
  `while read -r _ at _; do case $at in /sys/fs/cgroup*) ${command};; esac; done </proc/self/mounts`;

let runs = 0;

/** How a DaemonSet would run the image: read-only root, default seccomp, no capability, no network of the host's. */
function confinement(engine: Engine, name: string): string[] {
  return [
    "--read-only",
    "--seccomp",
    ...capabilities.flatMap((each) => ["--cap-drop", `CAP_${each}`]),
    ...mounts.flatMap(([path, mode]) => [
      "--mount",
      `type=bind,src=${path},dst=/host${path},options=rbind:${mode}`,
    ]),
    ...["SHIMCTL_ROOT=/host", `SHIMCTL_ENGINE_VERSION=${engine.version}`].flatMap((each) => ["--env", each]),
    artefact.reference,
    name,
  ];
}

function shimctl(daemon: Daemon, engine: Engine, ...args: readonly string[]): Output {
  const name = `run-${runs++}`;
  const own = ["--rm", "--cgroup", `${cgroup}/${name}`];
  return daemon.ctr("run", ...own, ...confinement(engine, name), "/opt/shimctl/shimctl", ...args);
}

/** What the engine has made of the flags. */
function specOf(daemon: Daemon, engine: Engine): Spec {
  const name = `spec-${runs++}`;
  expect(daemon.ctr("containers", "create", ...confinement(engine, name))).toMatchObject({ rc: 0 });
  return (JSON.parse(daemon.ctr("containers", "info", name).stdout) as { Spec: Spec }).Spec;
}

interface Spec {
  readonly root: { readonly readonly: boolean };
  readonly process: { readonly capabilities?: object; readonly noNewPrivileges: boolean };
  readonly linux: { readonly seccomp?: object; readonly namespaces: readonly object[] };
}

describe.skipIf(problem !== undefined)("a container of the image, confined, on mounted host folders", () => {
  test("is tried on two engines", () => {
    expect(judges).toHaveLength(2);
  });

  for (const engine of judges)
    for (const [kind, path] of [
      ["zstd", artefact.image],
      ["gzip", artefact.gzipImage],
    ] as const)
      test(`installs and uninstalls under containerd ${engine.version}, from ${kind}`, async () => {
        using node = new Node(
          engine.version,
          engine.version.startsWith("1.") ? "version = 2\n" : "version = 3\n",
        );
        for (const [folder] of mounts) mkdirSync(join(node.root, folder ?? ""), { recursive: true });
        mkdirSync(join(node.root, "image"));
        cpSync(path, join(node.root, "image", "oci.tar"));
        const daemon = await startDaemon(engine, node.root);
        try {
          inJail(daemon, eachCgroupMount('mount -o remount,bind,rw "$at"'));
          const imported = daemon.ctr("images", "import", "/image/oci.tar");
          expect(imported).toMatchObject({ rc: 0 });

          const spec = specOf(daemon, engine);
          expect(spec.root.readonly).toBe(true);
          expect(Object.values(spec.process.capabilities ?? {}).flat()).toEqual([]);
          expect(spec.process.noNewPrivileges).toBe(true);
          expect(spec.linux.seccomp).toBeDefined();
          // A network of its own, in which there is nothing.
          expect(spec.linux.namespaces).toContainEqual({ type: "network" });

          const status = () => shimctl(daemon, engine, "status", "--json").stdout;
          const installed = shimctl(daemon, engine, "install", "kata-qemu", "--restart", "none", "--json");
          expect(installed).toMatchObject({ rc: 0 });
          expect(JSON.parse(installed.stdout).result).toBe("changed");
          expect(status()).toContain('"kata-qemu"');
          const uninstalled = shimctl(daemon, engine, "uninstall", "--all", "--restart", "none", "--json");
          expect(JSON.parse(uninstalled.stdout).result).toBe("changed");
          expect(status()).not.toContain('"kata-qemu"');
        } finally {
          inJail(daemon, eachCgroupMount(`rmdir "$at${cgroup}" 2>/dev/null || true`));
          await daemon.stop();
        }
      });
});
