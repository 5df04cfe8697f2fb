import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type BootRoot, bootProblem, bringRoots } from "../../build/boot.ts";
import { bringCrioRoots } from "../../build/crio_root.ts";
import { openCri } from "../../src/host/cri/client.ts";
import { openSystemd } from "../../src/host/systemd.ts";
import { BootedNode } from "./boot.ts";
import { placePause } from "./pause.ts";

const problem = bootProblem() ?? (process.arch === "x64" ? undefined : "the pause image is for x86-64");
if (problem !== undefined) console.log(`(skip) what the booted nodes are good for: ${problem}`);
const roots: readonly BootRoot[] =
  problem === undefined ? [...(await bringRoots()).roots, ...(await bringCrioRoots()).roots] : [];

/** Handlers on the node's own programs, beside what its packages have configured. */
const handlers = {
  crio: [
    "/etc/crio/crio.conf.d/20-test.conf",
    '[crio.runtime.runtimes.runsc]\nruntime_path = "/usr/bin/runsc"\nruntime_root = "/run/runsc"\n',
  ],
  containerd: [
    "/etc/containerd/config.toml",
    ["crun", "runsc"]
      .map((name) => [`PLUGIN.containerd.runtimes.${name}`, `/usr/bin/${name}`] as const)
      .map(
        ([at, path]) =>
          `[${at}]\nruntime_type = "io.containerd.runc.v2"\n[${at}.options]\nBinaryName = "${path}"\n`,
      )
      .join(""),
  ],
} as const;

for (const root of roots) {
  describe(`a booted Debian ${root.suite} with ${root.engine} ${root.version}`, () => {
    let node: BootedNode;
    beforeAll(async () => {
      node = await BootedNode.start(root);
      const [path, text] = handlers[root.engine];
      const old = root.version.startsWith("1.");
      const plugin = `plugins."${old ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime"}"`;
      const version = root.engine === "crio" ? "" : `version = ${old ? 2 : 3}\n`;
      const runc = `[${plugin}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n`;
      node.place(path, version + (version === "" ? "" : runc) + text.replaceAll("PLUGIN", plugin));
      expect(node.run(["systemctl", "restart", node.unit]).code).toBe(0);
      await placePause(node);
    });
    afterAll(() => node.stop());

    test("a restart is a new invocation and one start", () => {
      const { InvocationID } = node.unitState();
      const starts = node.starts();
      expect(node.run(["systemctl", "restart", node.unit]).code).toBe(0);
      expect([node.starts(), node.unitState()["ActiveState"]]).toEqual([starts + 1, "active"]);
      expect(node.unitState()["InvocationID"]).not.toBe(InvocationID);
    });

    test("its engine serves CRI, to this machine too", async () => {
      const status = await openCri(`${node.outside}${node.socket}`).status();
      expect(status).toMatchObject({ kind: "up", ready: true });
      expect(status).toHaveProperty("version", expect.stringContaining(root.version));
    });

    for (const handler of ["runc", "crun", "runsc"]) {
      test(`a pod runs on ${handler}`, async () => {
        await openCri(`${node.outside}${node.socket}`).probe(handler);
      });
    }

    test("its unit is known on the system bus, from another mount and PID namespace that has only that folder", async () => {
      const systemd = await openSystemd({
        system: `${node.outside}/run/dbus/system_bus_socket`,
        direct: "/nowhere",
      });
      expect(await systemd?.unit(node.unit)).toMatchObject({
        active: "active",
        // CRI-O's unit names none, and that is systemd's default.
        killMode: root.engine === "crio" ? "control-group" : "process",
      });
      systemd?.close();

      const script = [
        "mount -t tmpfs tmpfs /mnt",
        "mkdir -p /mnt/usr /mnt/host/run/dbus",
        "mount --bind /usr /mnt/usr",
        "mount --bind /run/dbus /mnt/host/run/dbus",
        "ln -s usr/lib usr/lib64 usr/bin /mnt",
        'exec chroot /mnt busctl --address=unix:path=/host/run/dbus/system_bus_socket call "$@"',
      ].join("\n");
      const manager = [
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
      ];
      const asked = [...manager, "GetUnit", "s", node.unit];
      const pod = ["unshare", "--mount", "--pid", "--fork", "sh", "-euc", script, "sh", ...asked];
      expect(node.run(pod)).toMatchObject({
        code: 0,
        out: expect.stringContaining(`/${root.engine}_2eservice`),
      });
    });
  });
}

describe.skipIf(problem !== undefined)("booted nodes side by side", () => {
  test("do not see each other's units, and end whole", async () => {
    const [root] = roots;
    if (root === undefined) throw new Error("no root file system");
    await using first = await BootedNode.start(root);
    await using second = await BootedNode.start(root);
    const before = second.unitState();
    expect(first.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", first.unit]).code).toBe(0);
    expect(second.unitState()).toEqual(before);
    const { outside } = first;
    await first.stop();
    await first.stop();
    expect(existsSync(join(outside, "etc"))).toBe(false);
    expect(second.unitState()).toEqual(before);
  });
});
