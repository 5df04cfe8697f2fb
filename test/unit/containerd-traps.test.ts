import { describe, expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { handler, MemoryNode } from "../support/memory.ts";

const root = "/etc/containerd/config.toml";
const v2 = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes';
const v3 = 'plugins."io.containerd.cri.v1.runtime".containerd.runtimes';

function refusal(work: () => unknown): ShimctlError {
  try {
    work();
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

function errors(node: MemoryNode): string[] {
  return node
    .view()
    .check(node.host)
    .filter((problem) => problem.severity === "error")
    .map((problem) => problem.rule);
}

describe("trap 1: on 1.x any handler makes the built-in default vanish", () => {
  for (const version of ["1.6.20", "1.7.24"]) {
    test(`on ${version} the default handler is written with ours, and goes with the last of ours`, () => {
      const before = `version = 2\n`;
      const node = new MemoryNode(version, { [root]: before });
      node.install("a", ["kata-qemu"]);
      node.install("b", ["runsc"]);
      expect(node.text()?.match(/runtimes\.runc\]/g)).toHaveLength(1);
      node.uninstall("a");
      expect(node.text()).toContain("runtimes.runc]");
      node.uninstall("b");
      expect(node.text()).toBe(before);
    });
  }

  test("the administrator's own default handler is not doubled", () => {
    const node = new MemoryNode("1.7.24", {
      [root]: `version = 2\n[${v2}.runc]\nruntime_type = "io.containerd.runc.v2"\n`,
    });
    node.install("a", ["kata-qemu"]);
    expect(node.text()?.match(/runtimes\.runc\]/g)).toHaveLength(1);
  });

  test("our default handler gives way when the administrator defines it later", () => {
    const node = new MemoryNode("1.7.24", { [root]: "version = 2\n" });
    node.install("a", ["kata-qemu"]);
    const theirs = `\n[${v2}.runc]\nruntime_type = "io.containerd.runc.v2"\n`;
    node.write(root, `${node.text()}${theirs}`);
    node.install("a", ["runsc"]);
    expect(node.text()?.match(/runtimes\.runc\]/g)).toHaveLength(1);
    node.uninstall("a");
    expect(node.text()).toBe(`version = 2\n${theirs}`);
  });

  test("a default handler that nobody defines is reported as broken", () => {
    const node = new MemoryNode("1.7.24", {
      [root]:
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "gone"\n',
    });
    expect(errors(node)).toContain("default-handler-defined");
  });
});

describe("trap 2: on 1.x an imported file replaces a whole plugin table", () => {
  const nvidia = "/etc/containerd/conf.d/99-nvidia.toml";
  const node = () =>
    new MemoryNode("1.7.24", {
      [root]: `version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n[${v2}.runc]\nruntime_type = "io.containerd.runc.v2"\n`,
      [nvidia]: `version = 2\n[${v2}.nvidia]\nruntime_type = "io.containerd.runc.v2"\n[${v2}.runc]\nruntime_type = "io.containerd.runc.v2"\n`,
    });

  test("the handler is written into the file that wins, and the root file is left alone", () => {
    const winning = node();
    const before = winning.text();
    winning.install("a", ["kata-qemu"]);
    expect(winning.text()).toBe(before ?? "");
    expect(winning.text(nvidia)).toContain("BEGIN shimctl a");
  });

  test("no drop-in is ever made", () => {
    const winning = node();
    winning.install("a", ["kata-qemu"]);
    expect([...winning.files.keys()].sort()).toEqual([nvidia, root]);
  });

  test("a block in a file that another has since masked is reported, and moved by the next install", () => {
    const masked = new MemoryNode("1.7.24", {
      [root]: 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
    });
    masked.install("a", ["kata-qemu"]);
    masked.write(nvidia, `version = 2\n[${v2}.nvidia]\nruntime_type = "io.containerd.runc.v2"\n`);
    expect(masked.view().state.holdings.map((holding) => holding.loaded)).toEqual([false]);
    masked.install("a", ["kata-qemu"]);
    expect(masked.view().state.holdings.map((holding) => [holding.path, holding.loaded])).toEqual([
      [nvidia, true],
    ]);
  });
});

describe("trap 3: conf.d is read only where a file imports it", () => {
  test("without an import the root file gets one that matches only our files", () => {
    const node = new MemoryNode("2.2.7", {
      [root]: "version = 3\n",
      "/etc/containerd/conf.d/admin.toml": "oom_score = 1\n",
    });
    node.install("a", ["kata-qemu"]);
    expect(node.text()).toContain('imports = ["/etc/containerd/conf.d/*-shimctl-*.toml"]');
    expect(node.view().state.loaded).not.toContain("/etc/containerd/conf.d/admin.toml");
  });

  test("an existing import that reaches the drop-in is used, and the root file is not touched", () => {
    const before = 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n';
    const node = new MemoryNode("2.2.7", { [root]: before });
    node.install("a", ["kata-qemu"]);
    expect(node.text()).toBe(before);
  });

  test("our import gives way when the administrator's list reaches as far", () => {
    const node = new MemoryNode("2.2.7", { [root]: "version = 3\n" });
    node.install("a", ["kata-qemu"]);
    const theirs = 'imports = ["/etc/containerd/conf.d/*.toml"]';
    node.write(root, `version = 3\n${theirs}\n${node.text()?.split("\n")[1]}\n`);
    node.install("a", ["runsc"]);
    expect(node.text()).toBe(`version = 3\n${theirs}\n`);
  });
});

describe("trap 4: versions must not be mixed", () => {
  test("the drop-in states the root file's version", () => {
    for (const [release, version] of [
      ["2.1.9", 2],
      ["2.1.9", 3],
      ["2.3.4", 3],
      ["2.3.4", 4],
    ] as const) {
      const node = new MemoryNode(release, { [root]: `version = ${version}\n` });
      node.install("a", ["kata-qemu"]);
      expect(node.text("/etc/containerd/conf.d/50-shimctl-a.toml")).toStartWith(`version = ${version} `);
    }
  });

  test("a node whose files state different versions already is refused", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: 'version = 2\nimports = ["/etc/containerd/x.toml"]\n',
      "/etc/containerd/x.toml": "version = 3\n",
    });
    expect(refusal(() => node.install("a", ["kata-qemu"])).facts.path).toBe("/etc/containerd/x.toml");
  });

  test("2.3 migrates an older drop-in of others by itself, so that is accepted", () => {
    const node = new MemoryNode("2.3.4", {
      [root]: 'version = 3\nimports = ["/etc/containerd/x.toml"]\n',
      "/etc/containerd/x.toml": "version = 2\n",
    });
    expect(node.install("a", ["kata-qemu"])).not.toBeEmpty();
  });
});

describe("trap 5: version does not tell the plugin id", () => {
  const mixed = `version = 2\n[${v3}.runc]\nruntime_type = "io.containerd.runc.v2"\n[${v2}.kata]\nruntime_type = "io.containerd.kata.v2"\n`;

  test("where the v3 table exists in a version 2 file, 2.x gets the v3 id", () => {
    const node = new MemoryNode("2.1.9", { [root]: mixed });
    node.install("a", ["crun"]);
    expect(node.text("/etc/containerd/conf.d/50-shimctl-a.toml")).toContain("io.containerd.cri.v1.runtime");
  });

  test("the handlers under the id that the engine ignores are warned of", () => {
    const node = new MemoryNode("2.1.9", { [root]: mixed });
    expect(
      node
        .view()
        .check(node.host)
        .map((problem) => problem.rule),
    ).toContain("ignored-plugin-id");
  });

  test("1.x gets the v2 id in the same file", () => {
    const node = new MemoryNode("1.7.24", { [root]: mixed });
    node.install("a", ["crun"]);
    expect(node.text()).toContain(`[${v2}.crun]`);
  });
});

describe("trap 6: config dump does not see what stops the daemon", () => {
  test("an import of a file that is not there is an error", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: 'version = 3\nimports = ["/etc/containerd/gone.toml"]\n',
    });
    expect(errors(node)).toEqual(["import-must-exist"]);
  });

  test("a glob without a match is none", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: 'version = 3\nimports = ["/etc/containerd/gone/*.toml"]\n',
    });
    expect(errors(node)).toEqual([]);
  });

  test("a folder that a glob matches is an error", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: 'version = 3\nimports = ["/etc/containerd/conf.d/*"]\n',
      "/etc/containerd/conf.d/folder/x": "",
    });
    expect(errors(node)).toEqual(["import-must-exist"]);
  });
});

describe("trap 7: docker's file disables the CRI plugin", () => {
  test("without a version it is refused for that reason", () => {
    const node = new MemoryNode("1.7.24", { [root]: '# docker\ndisabled_plugins = ["cri"]\n' });
    const error = refusal(() => node.install("a", ["kata-qemu"]));
    expect([error.exitCode, error.facts.line]).toEqual([3, 2]);
    expect(error.message).toContain("CRI plugin");
  });

  test("with the full id it is refused too", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: 'version = 3\ndisabled_plugins = ["io.containerd.cri.v1.images"]\n',
    });
    expect(refusal(() => node.install("a", ["kata-qemu"])).exitCode).toBe(3);
  });
});

describe("what else is refused before anything is written, with a next step", () => {
  const cases: readonly (readonly [
    name: string,
    version: string | undefined,
    config: string,
    message: RegExp,
  ])[] = [
    ["a file without version that is not empty", "1.7.24", 'root = "/x"\n', /without 'version'/],
    ["a file of version 1", "1.7.24", "version = 1\n", /version 1/],
    ["a version that the release does not read", "2.2.7", "version = 4\n", /reads versions up to 3/],
    ["a version nobody knows", "2.4.0", "version = 5\n", /version 5/],
    ["a version as a string", "1.7.24", 'version = "2"\n', /whole number/],
    ["a version 2 file of an unknown engine", undefined, "version = 2\n", /1\.x from 2\.x/],
    ["a plugin id that 1.x does not start with", "1.7.24", "version = 2\n[plugins.cri]\n", /plugin id 'cri'/],
    ["imports that are no list", "2.1.9", 'version = 3\nimports = "x"\n', /of strings/],
    ["a key that only 2.x would read", "2.1.9", "version = 3\nImports = []\n", /'Imports'/],
    [
      "a relative glob where the release resolves it against its working folder",
      "1.6.20",
      'version = 2\nimports = ["conf.d/*.toml"]\n',
      /relative glob/,
    ],
    [
      "handlers in an inline table on 1.x",
      "1.7.24",
      `version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\nruntimes = { runc = { runtime_type = "io.containerd.runc.v2" } }\n`,
      /inline table/,
    ],
  ];
  for (const [name, version, config, message] of cases) {
    test(name, () => {
      const node = new MemoryNode(version, { [root]: config });
      const error = refusal(() => node.install("a", ["kata-qemu"]));
      expect(error.message).toMatch(message);
      expect([error.exitCode, error.facts.hint === undefined]).toEqual([3, false]);
    });
  }
});

describe("files that hold nothing", () => {
  for (const version of ["1.6.20", "1.7.24", "2.1.9", "2.3.4"]) {
    for (const [name, content] of [
      ["empty", ""],
      ["of comments only", "# nothing here\n"],
    ] as const) {
      test(`a root file that is ${name} works on ${version} and comes back`, () => {
        const node = new MemoryNode(version, { [root]: content });
        node.install("a", ["kata-qemu"]);
        expect(node.view().state.handlers.map((entry) => entry.name)).toEqual(["kata-qemu", "runc"]);
        node.uninstall("a");
        expect(node.tree()).toEqual({ [root]: content });
      });
    }

    test(`an absent root file works on ${version} and is absent again`, () => {
      const node = new MemoryNode(version, {});
      node.install("a", ["kata-qemu"]);
      node.install("b", ["runsc"]);
      expect(node.view().state.handlers.map((entry) => entry.name)).toEqual(["kata-qemu", "runc", "runsc"]);
      node.uninstall("a");
      node.uninstall("b");
      expect(node.tree()).toEqual({});
    });
  }

  test("what somebody adds to a file that we made stays, and so does the file", () => {
    const node = new MemoryNode("2.1.9", {});
    node.install("a", ["kata-qemu"]);
    node.write(root, `${node.text()}oom_score = -999\n`);
    node.uninstall("a");
    expect(node.tree()).toEqual({ [root]: "version = 3\noom_score = -999\n" });
  });
});

describe("owners", () => {
  test("a second owner's handler of the same name is a conflict that names the first", () => {
    const node = new MemoryNode("2.1.9", { [root]: "version = 3\n" });
    node.install("a", ["kata-qemu"]);
    const error = refusal(() => node.install("b", ["kata-qemu"]));
    expect([error.exitCode, error.message]).toEqual([
      5,
      "Cannot define handler 'kata-qemu', as owner 'a' has installed it",
    ]);
  });

  test("a handler of the administrator's is a conflict that names file and line", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: `version = 3\n\n[${v3}.kata-qemu]\nruntime_type = "io.containerd.kata.v2"\n`,
    });
    const error = refusal(() => node.install("a", ["kata-qemu"]));
    expect([error.exitCode, error.facts.path, error.facts.line]).toEqual([5, root, 3]);
  });

  test("a block that somebody edited is reported and not trampled", () => {
    const drop = "/etc/containerd/conf.d/50-shimctl-a.toml";
    const node = new MemoryNode("2.1.9", { [root]: "version = 3\n" });
    node.install("a", ["kata-qemu"]);
    node.write(drop, (node.text(drop) ?? "").replace("runtime_type", 'snapshotter = "x"\nruntime_type'));
    expect(refusal(() => node.install("a", ["runsc"])).exitCode).toBe(5);
    expect(node.view().state.holdings.map((holding) => holding.intact)).toEqual([false]);
  });

  test("an install that changes nothing makes no edit", () => {
    for (const version of ["1.7.24", "2.1.9"]) {
      const node = new MemoryNode(version, { [root]: "version = 2\n" });
      node.install("a", ["kata-qemu", "crun"]);
      expect(node.install("a", ["crun"])).toEqual([]);
    }
  });

  test("the order of installs does not matter for the bytes of a drop-in", () => {
    const [one, two] = [
      ["kata-qemu", "crun"],
      ["crun", "kata-qemu"],
    ].map((names) => {
      const node = new MemoryNode("2.1.9", { [root]: "version = 3\n" });
      for (const name of names) node.install("a", [name]);
      return node.tree();
    });
    expect(one).toEqual(two);
  });
});

describe("handlers", () => {
  test("a runc-like handler takes over runc's cgroup driver and base spec", () => {
    const node = new MemoryNode("2.1.9", {
      [root]: `version = 3\n[${v3}.runc]\nruntime_type = "io.containerd.runc.v2"\nbase_runtime_spec = "/etc/containerd/base.json"\n[${v3}.runc.options]\nSystemdCgroup = true\nBinaryName = "/opt/runc"\n`,
    });
    node.install("a", ["crun"]);
    const crun = node.view().handlersOf("a")[0];
    expect(crun?.base_runtime_spec).toBe("/etc/containerd/base.json");
    expect(crun?.containerd?.options).toEqual({ BinaryName: "/usr/bin/crun", SystemdCgroup: true });
  });

  test("a handler's snapshotter is told to the image plugin as well where that has a place for it", () => {
    const node = new MemoryNode("2.1.9", { [root]: "version = 3\n" });
    node.make(node.view().plan("a", [{ ...handler("kata-fc"), snapshotter: "devmapper" }]));
    expect(node.text("/etc/containerd/conf.d/50-shimctl-a.toml")).toContain(
      '[plugins."io.containerd.cri.v1.images".runtime_platforms.kata-fc]',
    );
  });

  test("a snapshotter that the engine does not have is an error", () => {
    const node = new MemoryNode("2.1.9", { [root]: "version = 3\n" });
    node.make(node.view().plan("a", [{ ...handler("kata-qemu"), snapshotter: "nydus" }]));
    expect(errors(node)).toEqual(["snapshotter-known"]);
  });

  test("a handler's own snapshotter is an error on 1.6, unless the whole node has that one", () => {
    const cri = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\n';
    for (const [config, expected] of [
      ["", ["snapshotter-per-handler"]],
      [`${cri}snapshotter = "overlayfs"\n`, ["snapshotter-per-handler"]],
      [`${cri}snapshotter = "devmapper"\n`, []],
    ] as const) {
      const node = new MemoryNode("1.6.20", { [root]: config });
      node.install("a", ["kata-fc"]);
      expect([config, errors(node)]).toEqual([config, [...expected]]);
    }
  });

  test("a placeholder that a template fills in is not judged", () => {
    const node = new MemoryNode("1.7.24", {
      [root]: `version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\ndefault_runtime_name = "\${RUNTIME}"\n[${v2}.runc]\nruntime_type = "io.containerd.runc.v2"\n`,
    });
    node.install("a", ["kata-qemu"]);
    expect(errors(node)).toEqual([]);
  });

  test("a dotted-key file of 1.x is extended", () => {
    const before = `version = 2\n${v2}.runc.runtime_type = "io.containerd.runc.v2"\n`;
    const node = new MemoryNode("1.7.24", { [root]: before });
    node.install("a", ["kata-qemu"]);
    expect(node.view().state.handlers.map((entry) => entry.name)).toEqual(["kata-qemu", "runc"]);
    node.uninstall("a");
    expect(node.text()).toBe(before);
  });
});

test("a drop-in that somebody imports by its name stays, empty, as its absence would stop the engine", () => {
  const drop = "/etc/containerd/conf.d/50-shimctl-a.toml";
  const node = new MemoryNode("2.1.9", { [root]: "version = 3\n" });
  node.install("a", ["kata-qemu"]);
  node.write(root, `version = 3\nimports = ["${drop}"]\n`);
  node.uninstall("a");
  expect(node.text(drop)).toBe("");
  expect(errors(node)).toEqual([]);
});
