import { describe, expect, test } from "bun:test";
import { MemoryNode } from "../support/memory.ts";

/** What others do to a node between our runs. Each case was found against a real engine first. */
const root = "/etc/containerd/config.toml";
const v2 = 'plugins."io.containerd.grpc.v1.cri".containerd';
const v3 = 'plugins."io.containerd.cri.v1.runtime".containerd';
const runtime = (id: string, name: string) =>
  `[${id}.runtimes.${name}]\nruntime_type = "io.containerd.runc.v2"\n`;
const names = (node: MemoryNode) => node.view().state.handlers.map((handler) => handler.name);
const errors = (node: MemoryNode) =>
  node
    .view()
    .check(node.host)
    .filter((problem) => problem.severity === "error")
    .map((problem) => problem.rule);

describe("the built-in handler of 1.x", () => {
  test("stays for handlers that the administrator added while ours were there", () => {
    for (const before of [undefined, "version = 2\n"]) {
      const node = new MemoryNode("1.7.24", before === undefined ? {} : { [root]: before });
      node.install("a", ["kata-qemu"]);
      node.write(root, `${node.text()}${runtime(v2, "foo")}`);
      node.uninstall("a");
      expect([errors(node), names(node), node.text()?.includes("shimctl")]).toEqual([
        [],
        ["foo", "runc"],
        false,
      ]);
    }
  });

  test("goes where the file had lost it before we came", () => {
    const before = `version = 2\n${runtime(v2, "other")}`;
    const node = new MemoryNode("1.7.24", { [root]: before });
    node.install("a", ["kata-qemu"]);
    node.uninstall("a");
    expect(node.text()).toBe(before);
  });

  test("stays served when the default becomes another handler", () => {
    const node = new MemoryNode("1.7.24", {
      [root]: `version = 2\n[${v2}]\ndefault_runtime_name = "runc"\n`,
    });
    node.install("a", ["crun"]);
    node.write(root, node.text()?.replace('"runc"', '"crun"') ?? "");
    node.install("a", ["runsc"]);
    expect(names(node)).toEqual(["crun", "runc", "runsc"]);
  });

  test("an empty default_runtime_name is an error", () => {
    const node = new MemoryNode("1.7.24", { [root]: `version = 2\n[${v2}]\ndefault_runtime_name = ""\n` });
    expect(errors(node)).toContain("default-handler-defined");
  });
});

describe("files of others", () => {
  test("a drop-in without version that wins on 1.x comes back byte for byte", () => {
    const extra = "/etc/containerd/extra.toml";
    const node = new MemoryNode("1.7.24", {
      [root]: `version = 2\nimports = ["${extra}"]\n`,
      [extra]: runtime(v2, "runc"),
    });
    const before = node.tree();
    node.install("a", ["crun"]);
    expect(node.text(extra)).not.toContain("version");
    node.uninstall("a");
    expect(node.tree()).toEqual(before);
  });

  test("a folder elsewhere that is imported is another tool's own", () => {
    const node = new MemoryNode("2.2.7", {
      [root]: 'version = 3\nimports = ["/opt/kata/containerd/config.d/*.toml"]\n',
    });
    node.install("a", ["crun"]);
    expect([...node.files.keys()].sort()).toEqual(["/etc/containerd/conf.d/50-shimctl-a.toml", root]);
  });

  test("one file that is imported by two names is edited once", () => {
    const node = new MemoryNode("1.7.24", {
      [root]: 'version = 2\nimports = ["/etc/containerd/a.toml"]\n',
      "/etc/containerd/a.toml": runtime(v2, "runc"),
    });
    expect(node.install("a", ["crun"])).toHaveLength(1);
  });

  test("a list on 1.x that happens to hold our pattern is left alone", () => {
    const before = 'version = 2\nimports = ["/etc/containerd/conf.d/*-shimctl-*.toml"]\n';
    const node = new MemoryNode("1.7.24", { [root]: before });
    node.install("a", ["crun"]);
    node.uninstall("a");
    expect(node.text()).toBe(before);
  });

  test("a key that the administrator doubled is an error until it is mended", () => {
    const node = new MemoryNode("2.2.7", { [root]: "version = 3\n" });
    node.install("a", ["crun"]);
    node.write(root, `imports = ["/etc/containerd/conf.d/*.toml"]\n${node.text()}`);
    expect(errors(node)).toEqual(["shared-piece-doubled"]);
    node.install("a", ["runsc"]);
    expect(errors(node)).toEqual([]);
  });

  test("a pattern with a reversed range matches nothing", () => {
    const node = new MemoryNode("2.2.7", {
      [root]: 'version = 3\nimports = ["/etc/containerd/[z-a]*.toml"]\n',
      "/etc/containerd/b.toml": "",
    });
    expect(node.view().state.loaded).toEqual([root]);
  });
});

describe("2.3 migrates each file before it merges", () => {
  const conf = "/etc/containerd/conf.d/99-nvidia.toml";
  const imports = 'imports = ["/etc/containerd/conf.d/*.toml"]\n';

  test("a handler of an older drop-in is served, and may be the default", () => {
    const node = new MemoryNode("2.3.4", {
      [root]: `version = 3\n${imports}[${v3}]\ndefault_runtime_name = "nvidia"\n`,
      [conf]: `version = 2\n${runtime(v2, "nvidia")}`,
    });
    expect([errors(node), names(node)]).toEqual([[], ["nvidia", "runc"]]);
    expect(node.install("a", ["crun"])).not.toBeEmpty();
  });

  test("a handler of an older drop-in is theirs", () => {
    const node = new MemoryNode("2.3.4", {
      [root]: `version = 3\n${imports}`,
      [conf]: `version = 2\n${runtime(v2, "nvidia")}`,
    });
    expect(() => node.install("a", ["nvidia"])).toThrow("as this file defines it already");
  });

  test("the cgroup driver of an old root file is taken over beside a newer drop-in", () => {
    const node = new MemoryNode("2.3.4", {
      [root]: `version = 2\n${imports}${runtime(v2, "runc")}[${v2}.runtimes.runc.options]\nSystemdCgroup = true\n`,
      [conf]: `version = 2\n${runtime(v3, "wasm")}`,
    });
    node.install("a", ["crun"]);
    expect(node.view().handlersOf("a")[0]?.containerd?.options["SystemdCgroup"]).toBe(true);
  });
});

describe("what can no longer be added to can still be cleaned", () => {
  const cases: readonly (readonly [
    what: string,
    version: string,
    change: (text: string) => Record<string, string>,
  ])[] = [
    [
      "a drop-in of another version",
      "2.2.7",
      (text) => ({ [root]: text, "/etc/containerd/conf.d/99-shimctl-x.toml": "version = 2\n" }),
    ],
    [
      "a CRI plugin that is disabled by now",
      "2.2.7",
      (text) => ({ [root]: `disabled_plugins = ["io.containerd.grpc.v1.cri"]\n${text}` }),
    ],
  ];
  for (const [what, version, change] of cases) {
    test(what, () => {
      const node = new MemoryNode(version, { [root]: "version = 3\n" });
      node.install("a", ["crun"]);
      for (const [path, text] of Object.entries(change(node.text() ?? ""))) node.write(path, text);
      expect(() => node.install("a", ["runsc"])).toThrow();
      node.uninstall("a");
      expect(node.text("/etc/containerd/conf.d/50-shimctl-a.toml")).toBeUndefined();
    });
  }

  test("a handler under the plugin id that no longer counts is drift", () => {
    const node = new MemoryNode("2.2.7", {
      [root]: 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
    });
    node.install("a", ["crun"]);
    node.write("/etc/containerd/conf.d/60-wasm.toml", `version = 2\n${runtime(v3, "wasm")}`);
    expect(node.view().state.holdings.map((holding) => holding.loaded)).toEqual([false]);
    node.install("a", ["crun"]);
    expect(node.view().state.holdings.map((holding) => holding.loaded)).toEqual([true]);
  });
});
