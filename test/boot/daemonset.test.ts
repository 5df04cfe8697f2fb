import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bootProblem, bringRoots } from "../../build/boot.ts";
import { imageRoot, whyNotArtefacts } from "../support/artefacts.ts";
import { BootedNode } from "./boot.ts";

const cannot = bootProblem();
const problem = whyNotArtefacts(
  "pods that install on booted nodes",
  cannot === undefined ? {} : { also: cannot },
);
const roots = problem === undefined ? (await bringRoots()).roots : [];

/** What a DaemonSet mounts: folders, as a restart replaces the sockets in them. */
const mounts = [
  "/etc/containerd",
  "/run/containerd",
  "/run/dbus",
  "/run/lock",
  "/run/shimctl",
  "/var/lib/shimctl",
];
const readOnly = ["/usr/bin", "/usr/lib", "/usr/local/bin"];

/** Where the node sees what is in the image. */
const files = "/usr/libexec/shimctl-image";

/** Runs shimctl as a container does: the image's own files and these mounts, in mount and PID namespaces of its own. */
function inPod(args: string, host = "/host"): string[] {
  const image = "/run/pod";
  const script = [
    `mkdir -p ${image} ${mounts.join(" ")}`,
    `mount -t tmpfs pod ${image}`,
    `cp -a ${files}/. ${image}`,
    `mkdir -p ${image}/proc ${image}/host`,
    `mount -t proc proc ${image}/proc`,
    ...mounts.map((path) => `mkdir -p ${image}/host${path}; mount --bind ${path} ${image}/host${path}`),
    ...readOnly.map(
      (path) => `mkdir -p ${image}/host${path}; mount --bind -o ro ${path} ${image}/host${path}`,
    ),
    `exec env -i KUBERNETES_SERVICE_HOST=10.96.0.1 /usr/sbin/chroot ${image} /opt/shimctl/shimctl ${args} --root ${host}`,
  ];
  return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", script.join("\n")];
}

for (const root of roots) {
  describe(`on a booted Debian ${root.suite}, containerd ${root.version}`, () => {
    let node: BootedNode;
    beforeAll(async () => {
      node = await BootedNode.start(root, { binds: [[imageRoot, files]] });
    });
    afterAll(() => node.stop());

    test("a pod with the node's folders mounted installs, restarts, proves, and uninstalls", () => {
      const before = node.tree();
      const starts = node.starts();
      const installed = node.run(inPod("install crun --json"));
      const document = JSON.parse(installed.out || "{}") as Record<string, unknown>;
      expect([installed.code, document["error"], document["proof"]]).toEqual([
        0,
        null,
        { rules: "passed", "engine-parser": "not run", served: "passed" },
      ]);
      expect(node.starts() - starts).toBe(1);
      expect(node.json("status")["handlers"]).toContainEqual(
        expect.objectContaining({ name: "crun", served: true }),
      );
      expect(node.run(inPod("uninstall --all")).code).toBe(0);
      expect([node.starts() - starts, node.tree()]).toEqual([2, before]);
    });

    test("a pod finds the engine over the node's bus, and does not take its own root for the node's", () => {
      const { layout } = JSON.parse(node.run(inPod("status --json")).out || "{}") as {
        layout?: { evidence: string[] };
      };
      expect(layout?.evidence[0]).toBe("containerd.service, over D-Bus: containerd");
      const { code, err } = node.run(inPod("install crun", "/"));
      expect([code, err]).toEqual([
        2,
        "shimctl: Cannot use --root /, as this is a container, whose files are its image's\n  state: nothing was written\n  next: mount the node's folders below /host, and pass --root /host or set SHIMCTL_ROOT=/host\n",
      ]);
    });

    test("SIGTERM at any moment leaves nothing that is not finished or undone, and never uninstalls", async () => {
      expect(node.shimctl("install", "kata-qemu", "--allow-missing").code).toBe(0);
      const without = node.tree();
      for (let round = 0; round < 16; round++) {
        const run = node.spawn(["/usr/local/bin/shimctl", "install", "crun"]);
        await sleep(30 + round * 14);
        node.run([
          "sh",
          "-c",
          'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = shimctl ] && kill -TERM ${p#/proc/}; done; true',
        ]);
        const { code } = await run.ended;
        const status = node.json("status");
        expect([status["result"], status["unfinished"]]).toEqual(["in sync", []]);
        const names = (status["handlers"] as { name: string; served: boolean }[])
          .filter(({ served }) => served)
          .map(({ name }) => name);
        expect(names).toContain("kata-qemu");
        if (code === 0) expect(names).toContain("crun");
        else expect(node.tree()).toBe(without);
        expect(node.shimctl("uninstall", "crun").code).toBe(0);
      }
      expect(node.shimctl("uninstall", "--all").code).toBe(0);
    });
  });
}
