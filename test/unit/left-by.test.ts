import { describe, expect, test } from "bun:test";
import { crio } from "../../src/engine/crio/backend.ts";
import { leftBy } from "../../src/engine/left_by.ts";
import { kataHandler, kataHandlerCrio, nvidiaHandler } from "../support/leftovers.ts";
import { MemoryNode } from "../support/memory.ts";

const root = "/etc/containerd/config.toml";
const left = (version: string, files: Readonly<Record<string, string>>) => {
  const node = new MemoryNode(version, files);
  return leftBy(node.view().state, node.host.exists);
};

describe("what kata-deploy leaves", () => {
  test("in its drop-in of containerd 2.0, with the import that reaches it", () => {
    const dropIn = "/opt/kata/containerd/config.d/kata-deploy.toml";
    const found = left("2.1.9", {
      [root]: `version = 3\nimports = ["${dropIn}"]\n`,
      [dropIn]: kataHandler(3, "qemu") + kataHandler(3, "clh"),
    });
    expect(found).toEqual([
      { tool: "kata-deploy", mode: "drop-in", path: dropIn, handlers: ["kata-clh", "kata-qemu"] },
      { tool: "kata-deploy", mode: "import", path: root, handlers: [] },
    ]);
  });

  test("as an import whose file is gone", () => {
    const found = left("2.1.9", {
      [root]: 'version = 3\nimports = ["/opt/kata-dev/containerd/config.d/kata-deploy.toml"]\n',
    });
    expect(found).toMatchObject([{ tool: "kata-deploy", mode: "import", path: root }]);
  });

  test("in conf.d, with a suffix, and beside it the user's drop-in", () => {
    const found = left("2.2.7", {
      [root]: 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
      "/etc/containerd/conf.d/kata-deploy-dev.toml": kataHandler(3, "qemu"),
      "/etc/containerd/conf.d/zz-kata-deploy-user.toml": "[debug]\nlevel = 'debug'\n",
    });
    expect(found.map(({ mode, handlers }) => [mode, handlers])).toEqual([
      ["drop-in in conf.d", ["kata-qemu"]],
      ["user drop-in", []],
    ]);
  });

  test("in the administrator's own file on 1.7, with its backup", () => {
    const files = { [root]: `version = 2\n\n${kataHandler(2, "qemu")}` };
    expect(left("1.7.24", files)).toEqual([
      { tool: "kata-deploy", mode: "edited file", path: root, handlers: ["kata-qemu"] },
    ]);
    expect(left("1.7.24", { ...files, [`${root}.bak`]: "version = 2\n" })).toMatchObject([
      { backup: `${root}.bak` },
    ]);
  });

  test("in a file that it made itself, and would remove", () => {
    const files = { [root]: `version = 2\n${kataHandler(2, "qemu")}`, [`${root}.kata-deploy-created`]: "" };
    expect(left("1.7.24", files)).toMatchObject([{ mode: "file that it made", path: root }]);
  });

  test("in drop-ins of k3s and k0s", () => {
    for (const path of [
      "/etc/containerd/config-v3.toml.d/kata-deploy.toml",
      "/etc/k0s/containerd.d/kata-deploy.toml",
    ]) {
      const found = left("2.1.9", {
        [root]: `version = 3\nimports = ["${path.slice(0, path.lastIndexOf("/"))}/*.toml"]\n`,
        [path]: kataHandler(3, "qemu"),
      });
      expect(found).toMatchObject([{ tool: "kata-deploy", path, handlers: ["kata-qemu"] }]);
    }
  });

  test("in CRI-O's drop-in folder, its debug file included", () => {
    const folder = "/etc/crio/crio.conf.d";
    const node = new MemoryNode(
      "1.36.3",
      {
        "/etc/crio/crio.conf": "",
        [`${folder}/99-kata-deploy`]: kataHandlerCrio("qemu"),
        [`${folder}/100-debug`]: "",
      },
      "/etc/crio/crio.conf",
      crio,
    );
    expect(leftBy(node.view().state, node.host.exists)).toEqual([
      { tool: "kata-deploy", mode: "debug drop-in", path: `${folder}/100-debug`, handlers: [] },
      { tool: "kata-deploy", mode: "drop-in", path: `${folder}/99-kata-deploy`, handlers: ["kata-qemu"] },
    ]);
  });
});

describe("what nvidia-ctk leaves", () => {
  test("in its drop-in, without the handlers that it copied from elsewhere", () => {
    const path = "/etc/containerd/conf.d/99-nvidia.toml";
    const found = left("2.1.9", {
      [root]: 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
      [path]: `version = 3\n${kataHandler(3, "qemu")}${nvidiaHandler(3)}`,
    });
    expect(found).toEqual([{ tool: "nvidia-ctk", mode: "drop-in", path, handlers: ["nvidia"] }]);
  });

  test("in the administrator's own file", () => {
    expect(left("1.7.24", { [root]: `version = 2\n${nvidiaHandler(2)}` })).toEqual([
      { tool: "nvidia-ctk", mode: "edited file", path: root, handlers: ["nvidia"] },
    ]);
  });
});

describe("what is not theirs", () => {
  test("the administrator's handlers, and ours", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: `version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kata]\nruntime_type = "io.containerd.kata.v2"\n`,
    });
    node.install("default", ["kata-qemu", "nvidia"]);
    expect(leftBy(node.view().state, node.host.exists)).toEqual([]);
  });
});
