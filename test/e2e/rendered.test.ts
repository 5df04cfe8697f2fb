import { describe, expect, test } from "bun:test";
import { existsSync, symlinkSync } from "node:fs";
import {
  folderOf,
  k3sNode,
  middleK3s,
  newK3s,
  oldK3s,
  type Release,
  renderedFile,
  startK3s,
} from "../support/k3s_render.ts";
import type { Node } from "../support/node.ts";

interface Case {
  readonly name: string;
  readonly version: string;
  readonly release: Release;
  /** Where an owner's handlers end up. */
  place(owner: string): string;
}

const cases: readonly Case[] = [
  {
    name: "k3s whose containerd imports drop-ins",
    version: "2.2.7",
    release: newK3s,
    place: (owner) => `${folderOf(newK3s)}/config-v3.toml.d/50-shimctl-${owner}.toml`,
  },
  {
    name: "k3s with containerd 2 and no imports",
    version: "2.1.9",
    release: middleK3s,
    place: () => `${folderOf(middleK3s)}/config-v3.toml.tmpl`,
  },
  {
    name: "k3s with containerd 1.7",
    version: "1.7.24",
    release: oldK3s,
    place: () => `${folderOf(oldK3s)}/config.toml.tmpl`,
  },
];
const rke2: Release = { ...middleK3s, program: "rke2", data: "/data/rke2" };
const all: readonly Case[] = [
  ...cases,
  {
    name: "RKE2 with its data elsewhere",
    version: "2.1.9",
    release: rke2,
    place: () => `${folderOf(rke2)}/config-v3.toml.tmpl`,
  },
];

const folder = folderOf(newK3s);
const v3 = `${folder}/config-v3.toml.tmpl`;
const v2 = `${folder}/config.toml.tmpl`;
const header = (name: string, version = 3) =>
  `[plugins."${version === 3 ? "io.containerd.cri.v1.runtime" : "io.containerd.grpc.v1.cri"}".containerd.runtimes.${name}]`;
const times = (node: Node, path: string, text: string) => node.text(path).split(text).length - 1;

async function done(node: Node, ...args: string[]): Promise<Record<string, unknown>> {
  const ran = await node.run([...args, "--json"]);
  expect([ran.json()["error"], ran.code]).toEqual([null, 0]);
  return ran.json();
}

async function refused(node: Node, ...args: string[]): Promise<Record<string, unknown>> {
  const before = node.tree();
  const ran = await node.run([...args, "--json"]);
  expect(node.tree()).toEqual(before);
  return { exit: ran.code, ...(ran.json()["error"] as object) };
}

async function state(node: Node): Promise<unknown> {
  return (await node.run(["status", "--json"])).json()["result"];
}

for (const { name, version, release, place } of all) {
  describe(name, () => {
    const rendered = renderedFile(release);

    test("serves a handler from its next start on, and is as before once it was uninstalled", async () => {
      using node = k3sNode(version, release);
      const before = node.tree();
      const text = node.text(rendered);
      const { changes } = await done(node, "install", "kata-qemu", "runsc");
      expect((changes as { path: string }[]).map(({ path }) => path)).toEqual([place("default")]);
      // The rendered file itself is nobody's to edit.
      expect(node.text(rendered)).toBe(text);
      expect(await state(node)).toBe("in sync");
      expect(startK3s(node, release)).toBe(place("default").endsWith(".tmpl") ? place("default") : undefined);
      expect(await state(node)).toBe("in sync");
      const { handlers, owners, layout } = (await node.run(["status", "--json"])).json();
      expect(layout).toMatchObject({ name: `${release.program}-server` });
      expect(handlers).toContainEqual(
        expect.objectContaining({ name: "kata-qemu", owner: "default", path: place("default") }),
      );
      expect(handlers).toContainEqual(expect.objectContaining({ name: "runc", path: rendered }));
      expect(owners).toMatchObject([
        { owner: "default", path: place("default"), handlers: ["kata-qemu", "runsc"], loaded: true },
      ]);
      // Nothing is left to do, before and after a start.
      expect((await done(node, "install", "kata-qemu"))["result"]).toBe("unchanged");
      expect((await node.run(["check"])).code).toBe(0);

      await done(node, "uninstall", "--all");
      expect(await state(node)).toBe("in sync");
      startK3s(node, release);
      expect(await state(node)).toBe("in sync");
      expect(node.tree()).toEqual(before);
    });

    test("keeps the handlers of one owner when another leaves", async () => {
      using node = k3sNode(version, release);
      const before = node.tree();
      await done(node, "install", "kata-qemu");
      startK3s(node, release);
      await done(node, "install", "kata-clh", "--owner", "dev");
      startK3s(node, release);
      const taken = await refused(node, "install", "kata-qemu", "--owner", "dev");
      expect([taken["exit"], taken["message"]]).toEqual([
        5,
        "Cannot define handler 'kata-qemu', as owner 'default' has installed it",
      ]);
      await done(node, "uninstall", "--all", "--owner", "dev");
      startK3s(node, release);
      expect(await state(node)).toBe("in sync");
      const { handlers } = (await node.run(["status", "--json"])).json();
      const names = (handlers as { name: string }[]).map((handler) => handler.name);
      expect([names.includes("kata-qemu"), names.includes("kata-clh")]).toEqual([true, false]);
      await done(node, "uninstall", "--all");
      startK3s(node, release);
      expect(node.tree()).toEqual(before);
    });

    test("does not get a second table of a handler that it renders by itself, nor loses its own by --adopt", async () => {
      using node = k3sNode(version, release);
      expect(times(node, rendered, 'runtimes."crun"]')).toBe(1);
      for (const args of [
        ["crun"],
        ["crun", "--adopt"],
        ["crun", "--adopt=replace"],
        ["kata-qemu", "crun"],
      ]) {
        const title = release.program === "rke2" ? "RKE2" : "k3s";
        const error = await refused(node, "install", ...args);
        const line = node.text(rendered).split("\n")[Number(error["line"]) - 1];
        expect(line).toContain('runtimes."crun"]');
        expect(error).toMatchObject({
          exit: 5,
          message: `Cannot define handler 'crun', as ${title} renders it by itself`,
          path: rendered,
          hint: "it is served under this name already and needs no install: leave 'crun' out of the command; --adopt takes nothing out of a rendered file",
        });
      }
    });

    test("is refused before its first start, and where its files cannot be seen", async () => {
      using node = k3sNode(version, release);
      node.remove(rendered);
      const title = release.program === "rke2" ? "RKE2" : "k3s";
      expect(await refused(node, "install", "kata-qemu")).toMatchObject({
        exit: 6,
        message: `Cannot tell what ${title} configures, as it has not written this file yet`,
        path: rendered,
        hint: `start ${title} once, then run the same command again`,
      });
      node.remove(release.data);
      node.place(`/etc/rancher/${release.program}/x`, "");
      expect(
        await refused(node, "install", "kata-qemu", "--layout", `${release.program}-server`),
      ).toMatchObject({
        exit: 6,
        message: `Cannot tell what ${title} configures, as this folder is not there, or not mounted`,
        path: folderOf(release),
        hint: `where shimctl runs in a container, mount it as the node has it; else start ${title} once`,
      });
    });

    test("gets its record back from the markers, and its last state by rollback", async () => {
      using node = k3sNode(version, release);
      await done(node, "install", "kata-qemu");
      startK3s(node, release);
      const first = node.text(place("default"));
      await done(node, "install", "kata-clh");
      startK3s(node, release);
      node.remove("/var/lib/shimctl/record.json");
      expect((await done(node, "install", "kata-clh"))["result"]).toBe("unchanged");
      await done(node, "rollback");
      expect(node.text(place("default"))).toBe(first);
      startK3s(node, release);
      expect(await state(node)).toBe("in sync");
      await done(node, "uninstall", "--all");
      await done(node, "rollback");
      expect(node.text(place("default"))).toBe(first);
    });
  });
}

describe("a template that is there", () => {
  const own = `# the platform team's {{/* and not rendered */}}
{{ template "base" . }}

${header("theirs", 2)}
  runtime_type = "io.containerd.theirs.v1"`;
  const own3 = own.replace("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime");

  test.each([
    ["on containerd 1.7", "1.7.24", oldK3s, v2, own],
    ["on containerd 2", "2.1.9", middleK3s, v3, own3],
    ["of version 2 on containerd 2", "2.1.9", middleK3s, v2, own],
    ["with other line ends", "2.1.9", middleK3s, v3, own3.replaceAll("\n", "\r\n")],
  ] as const)("gets a block and its bytes back: %s", async (_, version, release, path, content) => {
    using node = k3sNode(version, release, { [path]: content });
    const before = node.tree();
    await done(node, "install", "kata-qemu");
    // Never the rendered copy in its place, and no table of another version.
    expect(node.text(path).startsWith(content)).toBe(true);
    expect(times(node, path, header("kata-qemu", path === v2 ? 2 : 3))).toBe(1);
    expect(times(node, path, header("kata-qemu", path === v2 ? 3 : 2))).toBe(0);
    startK3s(node, release);
    expect(await state(node)).toBe("in sync");
    await done(node, "uninstall", "--all");
    startK3s(node, release);
    expect(node.tree()).toEqual(before);
  });

  test("defines a handler that is not installed again: the refusal names its line", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v3]: own3 });
    for (const args of [["kata-qemu"], ["kata-qemu", "--adopt=replace"]]) {
      node.place(v3, own3.replace(".theirs]", ".kata-qemu]"));
      for (const isRendered of [false, true]) {
        if (isRendered) startK3s(node, middleK3s);
        expect(await refused(node, "install", ...args)).toMatchObject({
          exit: 5,
          message: "Cannot define handler 'kata-qemu', as this template defines it already",
          path: v3,
          line: 4,
        });
      }
    }
  });

  test("of another version than what was rendered last is waited for", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v2]: own });
    node.place(v3, own3);
    expect(await refused(node, "install", "kata-qemu")).toMatchObject({
      exit: 3,
      message:
        "Cannot add to a configuration of version 2, as k3s renders version 3 from this template at its next start",
      path: v3,
      hint: "restart k3s first, then run the same command again",
    });
    startK3s(node, middleK3s);
    await done(node, "install", "kata-qemu");
    expect([times(node, v3, "BEGIN shimctl"), times(node, v2, "BEGIN shimctl")]).toEqual([1, 0]);
  });

  test("renders the version that it says itself, as a copy of a rendered file does, whatever its name", async () => {
    for (const [release, path, version] of [
      [middleK3s, v2, 3],
      [oldK3s, v3, 2],
    ] as const) {
      using node = k3sNode("2.1.9", release);
      const copy = node.text(renderedFile(release));
      node.place(path, copy);
      startK3s(node, middleK3s);
      expect(node.text(renderedFile(release))).toBe(copy);
      const before = node.tree();
      await done(node, "install", "kata-qemu");
      startK3s(node, middleK3s);
      expect(times(node, renderedFile(release), header("kata-qemu", version))).toBe(1);
      expect(await state(node)).toBe("in sync");
      await done(node, "uninstall", "--all");
      startK3s(node, middleK3s);
      expect(node.tree()).toEqual(before);
    }
  });

  test("takes the block of the other one when it takes its place", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v2]: own });
    await done(node, "install", "kata-qemu");
    startK3s(node, middleK3s);
    node.place(v3, own3);
    // Until the start, what is there stays; it can be removed from wherever it is.
    expect((await done(node, "install", "kata-qemu"))["result"]).toBe("unchanged");
    startK3s(node, middleK3s);
    expect(await state(node)).toBe("drifted");
    await done(node, "install", "kata-qemu");
    expect([node.text(v2), times(node, v3, header("kata-qemu"))]).toEqual([own, 1]);
    await done(node, "uninstall", "--all");
    expect([node.text(v2), node.text(v3)]).toEqual([own, own3]);
  });

  test.each([
    ["{{/* not\n", "it ends inside a template action or comment", "close what it ends in", "*/}}\n"],
    [
      "{{ if .X }}\n",
      "it ends inside a template action that has no {{ end }}",
      "close what it ends in",
      "{{ end }}\n",
    ],
    ["[a]\nx = '''\n", "it ends inside a string over several lines", "close what it ends in", "'''\n"],
    [
      "{{ .X -}}\n",
      "its last action takes away the line ends behind it, by -}}",
      "end it with a line of its own",
      "# end\n",
    ],
  ])(
    "that ends in the middle of something takes no block until that is mended: %j",
    async (end, why, step, mended) => {
      using node = k3sNode("2.1.9", middleK3s, { [v3]: own3 });
      node.place(v3, `${own3}\n${end}`);
      expect(await refused(node, "install", "kata-qemu")).toMatchObject({
        exit: 3,
        message: `Cannot add a block to this template, as ${why}`,
        path: v3,
        hint: `${step}, then run the same command again`,
      });
      node.place(v3, `${own3}\n${end}${mended}`);
      await done(node, "install", "kata-qemu");
    },
  );

  test("that names our handler as the default from its next start on keeps it", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v3]: '{{ template "base" . }}\n' });
    await done(node, "install", "kata-qemu", "runsc");
    const named = `[plugins."io.containerd.cri.v1.runtime".containerd]\n  default_runtime_name = "kata-qemu"\n`;
    const text = node.text(v3);
    node.place(v3, text.replace("\n", `\n${named}`));
    for (const what of ["kata-qemu", "--all"])
      expect(await refused(node, "uninstall", what)).toMatchObject({
        exit: 5,
        message: "Cannot remove handler 'kata-qemu', as default_runtime_name names it",
        hint: "set default_runtime_name to another handler first",
      });
    await done(node, "uninstall", "runsc");
    node.place(v3, node.text(v3).replace('= "kata-qemu"', '= "runc"'));
    await done(node, "uninstall", "kata-qemu");
  });

  test("that is whole by itself, and was put there since the last start, takes the block: it will import nothing", async () => {
    const plain = `version = 3\n${header("runc")}\n  runtime_type = "io.containerd.runc.v2"\n`;
    for (const [before, whole] of [
      [true, plain],
      [false, plain],
      [false, `# our template, which has no imports\n${plain}`],
    ] as const) {
      using node = k3sNode("2.2.7", newK3s);
      if (before) await done(node, "install", "runsc");
      node.place(v3, whole);
      await done(node, "install", "runsc", "kata-qemu");
      startK3s(node, newK3s);
      expect(await state(node)).toBe("in sync");
      expect(times(node, renderedFile(newK3s), header("runsc"))).toBe(1);
      await done(node, "uninstall", "--all");
      expect(node.text(v3)).toBe(whole);
    }
  });

  test("that renders an inline table of handlers takes no block: containerd would not start", async () => {
    const inline = `version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd]\n  runtimes = { runc = { runtime_type = "io.containerd.runc.v2" } }\n`;
    using node = k3sNode("2.1.9", middleK3s, { [v3]: inline });
    expect(await refused(node, "install", "runsc")).toMatchObject({
      exit: 3,
      message:
        "Cannot add a handler to what k3s renders, as `runtimes` is an inline table, which TOML does not allow to extend: rewrite it as [table] headers",
      path: renderedFile(middleK3s),
      line: 3,
      hint: "write it as [headers] in the template that it comes from, restart k3s, then run the same command again",
    });
    node.place(v3, own3);
    startK3s(node, middleK3s);
    await done(node, "install", "runsc");
  });

  test("with an edited block of ours is left alone", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v3]: own3 });
    await done(node, "install", "kata-qemu");
    startK3s(node, middleK3s);
    node.place(v3, node.text(v3).replace(/(# BEGIN shimctl.*\n.*\nruntime_type = ")/, "$1x"));
    expect(await state(node)).toBe("drifted");
    for (const args of [
      ["install", "runsc"],
      ["uninstall", "--all"],
    ])
      expect(await refused(node, ...args)).toMatchObject({
        exit: 5,
        message: "Cannot change the block of owner 'default', as somebody edited inside it",
        path: v3,
      });
  });

  test("with keys behind our block keeps them in their table: nothing is cut", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v3]: own3 });
    await done(node, "install", "kata-qemu");
    node.place(v3, `${node.text(v3)}\nsnapshotter = "native"\n`);
    expect(await refused(node, "uninstall", "--all")).toMatchObject({
      exit: 5,
      message: "Cannot change a shimctl block whose last table goes on behind it: default",
      path: v3,
    });
  });

  test("with a damaged marker is neither edited nor mended by a guess", async () => {
    using node = k3sNode("2.1.9", middleK3s, { [v3]: own3 });
    await done(node, "install", "kata-qemu");
    node.place(v3, node.text(v3).replace(/# END shimctl.*/, "# END shimctl"));
    expect(await refused(node, "install", "runsc")).toMatchObject({
      exit: 5,
      message: "Cannot trust the blocks in this template: a marker line is damaged",
      path: v3,
      hint: "restore the lines of these blocks, or remove them with their markers, then run the same command again",
    });
    const before = node.tree();
    const ran = await node.run(["repair", "--yes", "--json"]);
    expect([ran.code, node.tree()]).toEqual([11, before]);
    expect(ran.json()["findings"]).toMatchObject([
      { path: v3, hint: expect.stringContaining("mend it by hand: it is a template of k3s") },
    ]);
    expect(await refused(node, "repair", v3, "--from", "store", "--yes")).toMatchObject({
      exit: 2,
      path: v3,
    });
    expect(await refused(node, "repair", renderedFile(newK3s), "--from", "bak")).toMatchObject({ exit: 2 });
  });
});

describe("a rendered file", () => {
  test("of another data folder than the unit's is not edited, nor the template beside it", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    const elsewhere = { ...middleK3s, data: "/data/k3s" };
    startK3s(node, elsewhere);
    const before = node.tree();
    const named = ["--config", renderedFile(elsewhere)];
    expect(await refused(node, "install", "kata-qemu", ...named)).toMatchObject({
      exit: 6,
      message: expect.stringContaining(`a file that it writes itself: ${renderedFile(middleK3s)}`),
      hint: "leave --config out",
    });
    expect(node.tree()).toEqual(before);
  });

  test("is not edited by another name either", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    const rendered = renderedFile(middleK3s);
    const text = node.text(rendered);
    node.place("/mnt/x", "");
    symlinkSync("/var/lib/rancher", `${node.root}/mnt/rancher`);
    for (const path of [
      rendered,
      rendered.replace("/config.toml", "/./config.toml"),
      rendered.replace("/config.toml", "//config.toml"),
      rendered.replace("/var/lib", "/mnt"),
    ]) {
      const { changes } = await done(node, "install", "kata-qemu", "--config", path);
      expect(changes).toMatchObject([{ path: v3 }]);
      expect(node.text(rendered)).toBe(text);
      await done(node, "uninstall", "--all");
    }
    node.place("/etc/containerd/x", "");
    symlinkSync(rendered, `${node.root}/etc/containerd/config.toml`);
    expect(await refused(node, "install", "kata-qemu", "--layout", "vanilla")).toMatchObject({
      exit: 6,
      message: `Cannot edit this file, as it is the one that k3s writes anew at each start: ${rendered}`,
      path: "/etc/containerd/config.toml",
      hint: "pass --layout k3s-server",
    });
    await done(node, "install", "kata-qemu", "--layout", "k3s-server");
  });

  test("that is damaged is not mended, but written anew by a start", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    const rendered = renderedFile(middleK3s);
    for (const [content, what] of [
      ["version = 3\n[a\n", "as TOML 1.0: the table header is not closed"],
      ["version = 3\n# BEGIN shimctl\n", "Cannot trust what k3s has rendered: a marker line is damaged"],
    ] as const) {
      node.place(rendered, content);
      const error = await refused(node, "install", "kata-qemu");
      expect(error).toMatchObject({
        message: expect.stringContaining(what),
        path: rendered,
        hint: "mend what it is made from, then restart k3s, which writes this file anew",
      });
      const before = node.tree();
      const repair = await node.run(["repair", "--yes", "--json"]);
      expect([repair.code, node.tree()]).toEqual([11, before]);
      expect(repair.json()["findings"]).toMatchObject([
        { path: rendered, hint: "mend what it is made from, then restart k3s, which writes it anew" },
      ]);
    }
  });

  test.each([
    ['version = "3"', "write version = 2 without quotes"],
    ["version = 1", "migrate it first: containerd config migrate"],
    ['version = 3\nimports = "x"', 'write imports = [ "…" ]'],
    ["version = 3\nplugins = 1", "mend that"],
    [
      'version = 3\nimports = ["/nope.toml"]',
      "create the file, or take the entry out of imports: `shimctl repair` shows how",
    ],
  ])("that cannot be used is mended where it is made: %j", async (content, step) => {
    using node = k3sNode("2.1.9", middleK3s);
    const path = renderedFile(middleK3s);
    node.place(path, content);
    expect(await refused(node, "install", "kata-qemu")).toMatchObject({
      exit: 3,
      path,
      hint: `${step}; not in this file, but in what k3s makes it from at each start`,
    });
  });

  test("that is no file is told so, whatever else is known", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    const rendered = renderedFile(middleK3s);
    node.remove(rendered);
    node.place(`${rendered}/x`, "");
    expect(await refused(node, "install", "kata-qemu")).toMatchObject({
      exit: 3,
      message: "Cannot read the engine's configuration file, as it is a folder",
      path: rendered,
    });
  });

  test("without a version takes nothing, and what is ours leaves all the same", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    const before = node.tree();
    await done(node, "install", "kata-qemu");
    node.place(renderedFile(middleK3s), "");
    expect(await refused(node, "install", "runsc")).toMatchObject({
      exit: 3,
      message: "Cannot add to what k3s renders, as this file has no version",
    });
    await done(node, "uninstall", "--all");
    startK3s(node, middleK3s);
    expect(node.tree()).toEqual(before);
  });

  test("is not what another tool has left, where k3s has found its program", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    expect(node.text(renderedFile(middleK3s))).toContain("nvidia-container-runtime");
    expect((await node.run(["status", "--json"])).json()["leftBy"]).toEqual([]);
  });
});

describe("a template of ours", () => {
  test("is the base one and says so in a comment that is not rendered", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    await done(node, "install", "kata-qemu");
    const [first] = node.text(v3).split("\n");
    expect(first).toMatch(/^\{\{ template "base" \. \}\}\{\{\/\* made by shimctl: .* \*\/\}\}$/);
    startK3s(node, middleK3s);
    expect(node.text(renderedFile(middleK3s))).not.toContain("made by shimctl");
  });

  test("stays, without our block, when somebody has added to it", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    await done(node, "install", "kata-qemu");
    const added = `\n${header("theirs")}\n  runtime_type = "io.containerd.theirs.v1"\n`;
    node.place(v3, node.text(v3) + added);
    startK3s(node, middleK3s);
    await done(node, "uninstall", "--all");
    expect(node.text(v3).split("\n").slice(1).join("\n")).toBe(added);
  });

  test("is not made for containerd 1.6, whose k3s may not know the base one", async () => {
    using node = k3sNode("1.6.20", oldK3s);
    expect(await refused(node, "install", "kata-qemu")).toMatchObject({ exit: 3, path: v2 });
    node.place(v2, '{{ template "base" . }}\n');
    await done(node, "install", "kata-qemu");
  });

  test("does not get a handler that k3s renders at its next start, as its program was just installed", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    node.remove("/usr/bin/crun");
    startK3s(node, middleK3s);
    node.place("/usr/bin/crun", "#!/bin/sh\n", 0o755);
    expect(await refused(node, "install", "crun")).toMatchObject({
      exit: 5,
      path: v3,
      message: expect.stringContaining("as k3s renders it by itself once it finds its binary"),
    });
  });

  test("does not get it either from a drop-in that nothing imports any more: it is named, and uninstalled", async () => {
    using node = k3sNode("2.2.7", newK3s);
    node.remove("/usr/bin/nvidia-container-runtime");
    startK3s(node, newK3s);
    await done(node, "install", "nvidia", "--allow-missing");
    startK3s(node, middleK3s);
    expect(await refused(node, "install", "runsc")).toMatchObject({
      exit: 5,
      path: v3,
      message: expect.stringContaining("Cannot define handler 'nvidia' in a template"),
      hint: "shimctl uninstall nvidia --owner default",
    });
    await done(node, "uninstall", "nvidia", "--owner", "default");
    await done(node, "install", "runsc");
    node.place("/usr/bin/nvidia-container-runtime", "", 0o755);
    startK3s(node, middleK3s);
    expect(await state(node)).toBe("in sync");
    expect(times(node, renderedFile(middleK3s), "runtimes.nvidia]")).toBe(0);
  });

  test("does not get what Go would take for an action", async () => {
    using node = k3sNode("2.1.9", middleK3s);
    node.place(
      "/handlers.toml",
      'format = 1\n[handlers.odd]\npod_annotations = ["{{ .X }}"]\n[handlers.odd.containerd]\nruntime_type = "io.containerd.runc.v2"\n',
    );
    const error = await refused(node, "install", "--file", `${node.root}/handlers.toml`);
    expect([error["exit"], error["message"]]).toEqual([
      3,
      "Cannot put handler 'odd' into a template, which would read a part of it as an action: {{ or }}",
    ]);
  });
});

describe("after an upgrade of k3s", () => {
  test("to one that imports drop-ins, the next apply moves the block there, and uninstall finds it before that", async () => {
    for (const moves of [true, false]) {
      using node = k3sNode("2.1.9", middleK3s);
      await done(node, "install", "kata-qemu");
      startK3s(node, newK3s);
      if (moves) {
        await done(node, "install", "kata-qemu");
        const dropIn = `${folder}/config-v3.toml.d/50-shimctl-default.toml`;
        expect([existsSync(node.root + v3), times(node, dropIn, header("kata-qemu"))]).toEqual([false, 1]);
        startK3s(node, newK3s);
        expect(await state(node)).toBe("in sync");
        expect(times(node, renderedFile(newK3s), header("kata-qemu"))).toBe(0);
      }
      await done(node, "uninstall", "--all");
      startK3s(node, newK3s);
      using fresh = k3sNode("2.1.9", newK3s);
      expect(node.tree()).toEqual(fresh.tree());
    }
  });

  test("back to one that imports none, the handlers return to a template", async () => {
    using node = k3sNode("2.2.7", newK3s);
    await done(node, "install", "kata-qemu");
    startK3s(node, middleK3s);
    expect(await state(node)).toBe("drifted");
    await done(node, "install", "kata-qemu");
    startK3s(node, middleK3s);
    expect(await state(node)).toBe("in sync");
    await done(node, "uninstall", "--all");
    startK3s(node, middleK3s);
    using fresh = k3sNode("2.2.7", middleK3s);
    expect(node.tree()).toEqual(fresh.tree());
  });

  test.each([
    ["to one that imports drop-ins", middleK3s, newK3s],
    ["back to one that imports none", newK3s, middleK3s],
  ])("%s, the last operation is taken back: nobody has changed what it left", async (_, from, to) => {
    using node = k3sNode("2.2.7", from);
    await done(node, "install", "kata-qemu");
    await done(node, "install", "runsc");
    startK3s(node, to);
    await done(node, "rollback");
    startK3s(node, to);
    expect(await state(node)).toBe("in sync");
    const { handlers } = (await node.run(["status", "--json"])).json();
    const names = (handlers as { name: string }[]).map(({ name }) => name);
    expect([names.includes("kata-qemu"), names.includes("runsc")]).toEqual([true, false]);
    await done(node, "uninstall", "--all");
    startK3s(node, to);
    using fresh = k3sNode("2.2.7", to);
    expect(node.tree()).toEqual(fresh.tree());
  });

  test("a handler that it renders by itself now is told, and uninstall mends the node", async () => {
    using node = k3sNode("2.1.9", middleK3s, { "/usr/local/nvidia/bin/runtime": "" });
    node.place(
      "/handlers.toml",
      'format = 1\n[handlers.later]\n[handlers.later.containerd]\nruntime_type = "io.containerd.runc.v2"\n',
    );
    await done(node, "install", "--file", `${node.root}/handlers.toml`);
    startK3s(node, middleK3s);
    const rendered = renderedFile(middleK3s);
    // As a release would that has learned of it.
    node.place(rendered, `${node.text(rendered)}\n${header("later")}\n  runtime_type = "x"\n`);
    const ran = await node.run(["status", "--json"]);
    expect(ran.json()["result"]).toBe("broken");
    expect(ran.json()["problems"]).toContainEqual({
      severity: "error",
      rule: "rendered-twice",
      message:
        "containerd does not start, as k3s renders handler 'later' by itself, and the block of owner 'default' defines it again",
      path: v3,
      line: 3,
      handler: "later",
      hint: "uninstall it: shimctl uninstall later --owner default",
    });
    await done(node, "uninstall", "later");
    expect(existsSync(node.root + v3)).toBe(false);
  });
});

describe("a drop-in of ours that a program has written anew without comments", () => {
  const dropIn = `${folder}/config-v3.toml.d/50-shimctl-default.toml`;
  const stripped = async () => {
    const node = k3sNode("2.2.7", newK3s);
    await done(node, "install", "kata-qemu");
    node.place(dropIn, node.text(dropIn).replace(/^#.*\n/gm, ""));
    return node;
  };

  test("gets its markers back", async () => {
    using node = await stripped();
    const { drift, leftBy } = (await node.run(["status", "--json"])).json();
    expect([drift, leftBy]).toMatchObject([
      [{ message: expect.stringContaining("without its markers") }],
      [],
    ]);
    await done(node, "install", "kata-qemu");
    expect(await state(node)).toBe("in sync");
    expect([times(node, dropIn, "BEGIN shimctl default"), times(node, dropIn, header("kata-qemu"))]).toEqual([
      1, 1,
    ]);
  });

  test("holds nothing of ours after an uninstall", async () => {
    using node = await stripped();
    await done(node, "uninstall", "kata-qemu");
    expect(existsSync(node.root + dropIn) && node.text(dropIn).includes("kata")).toBe(false);
    expect(await state(node)).toBe("in sync");
  });
});

describe("drop-ins of other tools in the folder that k3s imports", () => {
  const theirs = `${folder}/config-v3.toml.d/kata-deploy.toml`;

  test("are kept, and an identical definition in them is adopted", async () => {
    using node = k3sNode("2.2.7", newK3s);
    await done(node, "install", "kata-qemu");
    const [, table = ""] = /^\[[\s\S]*?(?=# END)/m.exec(
      node.text(`${folder}/config-v3.toml.d/50-shimctl-default.toml`),
    ) ?? ["", ""];
    const ours = node.text(`${folder}/config-v3.toml.d/50-shimctl-default.toml`);
    const body = table === "" ? ours.replace(/^(?:version|#).*\n/gm, "").trim() : table;
    await done(node, "uninstall", "--all");
    node.place(theirs, `# by kata-deploy\n${body}\n`);
    startK3s(node, newK3s);
    expect(await refused(node, "install", "kata-qemu")).toMatchObject({ exit: 5, path: theirs });
    const { adopted } = await done(node, "install", "kata-qemu", "--adopt");
    expect(adopted).toMatchObject([{ handler: "kata-qemu", path: theirs }]);
    expect(await state(node)).toBe("in sync");
    expect(node.text(theirs)).not.toContain("kata-qemu]");
    await done(node, "rollback");
    expect(node.text(theirs)).toBe(`# by kata-deploy\n${body}\n`);
  });
});
