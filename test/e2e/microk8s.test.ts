import { describe, expect, test } from "bun:test";
import {
  microk8sConfig,
  microk8sNode,
  microk8sTemplate,
  ownTemplate,
  startMicroK8s,
} from "../support/microk8s_sed.ts";

for (const version of ["1.7.24", "2.2.7", "2.3.4"]) {
  describe(`MicroK8s with containerd ${version}`, () => {
    test("an install is a block in the template, and its variables stay as they are", async () => {
      using node = microk8sNode(version);
      const before = node.tree();
      const ran = await node.run(["install", "kata-qemu", "--json"]);
      expect([ran.code, ran.json()["changes"]]).toEqual([
        0,
        [expect.objectContaining({ path: microk8sTemplate, action: "edit" })],
      ]);
      const text = node.text(microk8sTemplate);
      expect(text.startsWith(ownTemplate)).toBe(true);
      expect(text.slice(ownTemplate.length)).toStartWith("\n# BEGIN shimctl default");
      expect(text.slice(ownTemplate.length)).toContain(
        '\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-qemu]\n',
      );
      expect(Object.keys(node.tree())).toEqual(Object.keys(before));
      expect((await node.run(["uninstall", "--all"])).code).toBe(0);
      expect(node.tree()).toEqual(before);
    });

    test("owners come and go in the one template, through starts of the snap", async () => {
      using node = microk8sNode(version);
      startMicroK8s(node.root);
      const before = node.tree();
      for (const owner of ["a", "b"])
        expect(
          (await node.run(["install", owner === "a" ? "kata-qemu" : "runsc", "--owner", owner])).code,
        ).toBe(0);
      startMicroK8s(node.root);
      expect(node.text(microk8sConfig)).toContain("runtimes.runsc]");
      expect(node.text(microk8sConfig)).not.toContain("${");
      expect((await node.run(["uninstall", "--all", "--owner", "a"])).code).toBe(0);
      expect(node.text(microk8sTemplate)).toContain("runtimes.runsc]");
      expect((await node.run(["uninstall", "--all", "--owner", "b"])).code).toBe(0);
      startMicroK8s(node.root);
      expect(node.tree()).toEqual(before);
    });

    test("the template's own kata handler is a conflict, and is taken over where that is wished", async () => {
      using node = microk8sNode(version);
      node.place(
        "/h.toml",
        'format = 1\n[handlers.kata.containerd]\nruntime_type = "io.containerd.kata.v2"\noptions = { ConfigPath = "/etc/kata.toml" }\n',
      );
      const install = ["install", "-f", `${node.root}/h.toml`, "--allow-missing"];
      const refused = await node.run(install);
      expect([refused.code, refused.err]).toEqual([
        5,
        expect.stringContaining(
          `Cannot define handler 'kata', as this file defines it already\n  at: ${microk8sTemplate}:22\n`,
        ),
      ]);
      expect((await node.run([...install, "--adopt=replace"])).code).toBe(0);
      expect(node.text(microk8sTemplate)).not.toContain("kata-runtime");
    });

    test("a default handler that the snap fills in is no reason for a warning where each of them is defined", async () => {
      using node = microk8sNode(version);
      const { err } = await node.run(["install", "kata-qemu"]);
      expect(err).not.toContain("filled in later");
      node.place(microk8sTemplate, ownTemplate.replaceAll("nvidia-container-runtime", "renamed"));
      expect((await node.run(["install", "kata-qemu"])).err).toContain("filled in later");
    });

    test("an import that names a variable is followed", async () => {
      using node = microk8sNode(version, `imports = ["\${SNAP_DATA}/args/more.toml"]\n${ownTemplate}`);
      node.place(
        "/var/snap/microk8s/7394/args/more.toml",
        'version = 2\n[proxy_plugins.nydus]\ntype = "snapshot"\naddress = "/run/nydus.sock"\n',
      );
      const { loaded } = (await node.run(["status", "--json"])).json()["engine"] as { loaded: string[] };
      expect(loaded).toEqual([microk8sTemplate, "/var/snap/microk8s/current/args/more.toml"]);
      expect((await node.run(["check"])).code).toBe(0);
    });
  });
}
