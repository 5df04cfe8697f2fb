import { describe, expect, test } from "bun:test";
import { type Generation, k0sFolder, k0sInto, k0sRoot, renderByK0s } from "../support/k0s_merge.ts";
import { k0sNode } from "../support/k0s_node.ts";
import type { Node } from "../support/node.ts";

const generations: readonly (readonly [Generation, version: string, plugin: string, schema: number])[] = [
  ["1.35", "1.7.24", "io.containerd.grpc.v1.cri", 2],
  ["1.36", "2.3.4", "io.containerd.cri.v1.runtime", 3],
];

const dropIn = (owner = "default") => `${k0sFolder}/50-shimctl-${owner}.toml`;

async function handlersOn(node: Node): Promise<Record<string, string | null>> {
  const { handlers } = (await node.run(["status", "--json"])).json();
  return Object.fromEntries(
    (handlers as { name: string; owner: string | null }[]).map(({ name, owner }) => [name, owner ?? null]),
  );
}

for (const [generation, version, plugin, schema] of generations) {
  const define = (name: string, type = `io.containerd.${name}.v1`) =>
    `version = ${schema}\n[plugins."${plugin}".containerd.runtimes.${name}]\nruntime_type = "${type}"\n`;

  describe(`k0s ${generation}`, () => {
    test("an install is one drop-in of its own, and what k0s renders is not touched", async () => {
      using node = k0sNode(generation, version);
      const before = node.tree();
      expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
      const { [dropIn()]: ours, ...rest } = node.tree();
      expect([typeof ours, rest]).toEqual(["string", before]);
      expect(node.text(dropIn())).toStartWith(`version = ${schema} `);
      expect(node.text(dropIn())).toContain(`[plugins."${plugin}".containerd.runtimes.kata-qemu]\n`);
      expect(node.text(dropIn())).not.toContain("imports");
    });

    test("a second owner leaves the first one's handlers as they are, and so does its uninstall", async () => {
      using node = k0sNode(generation, version);
      const before = node.tree();
      await node.run(["install", "kata-qemu", "--owner", "a"]);
      const first = node.text(dropIn("a"));
      await node.run(["install", "kata-clh", "runsc", "--owner", "b"]);
      renderByK0s(node.root, generation);
      expect(node.text(dropIn("a"))).toBe(first);
      const served = await handlersOn(node);
      expect(served).toEqual({ "kata-clh": "b", "kata-qemu": "a", runc: null, runsc: "b" });
      await node.run(["uninstall", "--all", "--owner", "b"]);
      renderByK0s(node.root, generation);
      expect(await handlersOn(node)).toEqual({ "kata-qemu": "a", runc: null });
      expect(node.text(dropIn("a"))).toBe(first);
      await node.run(["uninstall", "--all", "--owner", "a"]);
      renderByK0s(node.root, generation);
      expect(node.tree()).toEqual(before);
    });

    test("nothing has to be done again after k0s was started anew", async () => {
      using node = k0sNode(generation, version);
      await node.run(["install", "kata-qemu"]);
      renderByK0s(node.root, generation);
      const before = node.tree();
      expect((await node.run(["install", "kata-qemu", "--json"])).json()["result"]).toBe("unchanged");
      expect((await node.run(["status", "--json"])).json()).toMatchObject({ result: "in sync", drift: [] });
      expect(node.tree()).toEqual(before);
    });

    test("a handler of somebody else's drop-in is a conflict, and is taken over without another byte of it", async () => {
      const theirs = `# of the platform team\n${define("runsc")}\n[timeouts]\n"io.containerd.timeout.shim.load" = "7s" # slow disks\n`;
      using node = k0sNode(generation, version, { "gvisor.toml": theirs });
      const refused = await node.run(["install", "runsc"]);
      expect([refused.code, refused.err]).toEqual([
        5,
        expect.stringContaining(`at: ${k0sFolder}/gvisor.toml:3\n`),
      ]);
      expect((await node.run(["install", "runsc", "--adopt"])).code).toBe(0);
      renderByK0s(node.root, generation);
      expect(await handlersOn(node)).toEqual({ runc: null, runsc: "default" });
      expect(node.text(`${k0sFolder}/gvisor.toml`)).toBe(theirs.replace(/\[plugins.*\n.*\n/, ""));
    });

    test("a file that k0s does not manage any more is the administrator's, and the refusal says what to do", async () => {
      using node = k0sNode(generation, version);
      node.place(k0sRoot, node.text(k0sRoot).replace("# k0s_managed=true\n", ""));
      const before = node.tree();
      const { code, err } = await node.run(["install", "kata-qemu"]);
      expect([code, err]).toEqual([
        6,
        `shimctl: Cannot install here, as k0s does not manage this file: its first line is not '# k0s_managed=true'
  at: ${k0sRoot}:1
  state: nothing was written
  next: move this file away and restart k0s, which then writes and manages its own; or add the handlers to it by hand
`,
      ]);
      expect(node.tree()).toEqual(before);
    });

    test.skipIf(generation === "1.36")(
      "the empty line that k0s before 1.30 left above its mark does not make the file the administrator's",
      async () => {
        using node = k0sNode(generation, version);
        node.place(k0sRoot, `\n${node.text(k0sRoot)}`);
        expect((await node.run(["install", "kata-qemu"])).code).toBe(0);
      },
    );

    test("before its first start nothing is decided", async () => {
      using node = k0sNode(generation, version);
      node.remove(k0sRoot);
      const before = node.tree();
      const { code, err } = await node.run(["install", "kata-qemu"]);
      expect([code, err]).toEqual([
        6,
        expect.stringContaining("Cannot configure k0s before its first start"),
      ]);
      expect(err).toContain("next: start k0s on this node, then run the same command again\n");
      expect(node.tree()).toEqual(before);
    });

    test("a repair mends drop-ins, and leaves what k0s writes anew to k0s", async () => {
      using node = k0sNode(generation, version, { "theirs.toml": define("theirs") });
      await node.run(["install", "kata-qemu"]);
      const before = node.tree();
      node.place(`${k0sFolder}/theirs.toml`, `${define("theirs")}3s"\n`);
      expect((await node.run(["repair", "--yes", "--no-restart"])).code).toBe(0);
      expect(node.tree()[`${k0sFolder}/theirs.toml`]).toBe(before[`${k0sFolder}/theirs.toml`]);
      for (const path of generation === "1.35" ? [k0sRoot, k0sInto] : [k0sRoot]) {
        node.place(path, `${node.text(path)}3s"\n`);
        const tree = node.tree();
        const { code, out } = await node.run(["repair", "--yes", "--no-restart"]);
        expect([code, out]).toEqual([11, expect.stringContaining(`  at: ${path}:`)]);
        expect(out).toMatch(/ {2}next: .*restart k0s, which writes (this file|it) anew\n/);
        expect(node.tree()).toEqual(tree);
        renderByK0s(node.root, generation);
      }
      expect((await node.run(["repair"])).out).toBe("nothing to repair\n");
    });

    test("a rollback takes the last change back, from and to what k0s reads", async () => {
      using node = k0sNode(generation, version);
      await node.run(["install", "kata-qemu"]);
      renderByK0s(node.root, generation);
      const before = node.tree();
      await node.run(["install", "runsc"]);
      renderByK0s(node.root, generation);
      expect((await node.run(["rollback"])).code).toBe(0);
      renderByK0s(node.root, generation);
      expect(node.tree()).toEqual(before);
    });

    test("a broken drop-in of somebody else is named, and nothing is written", async () => {
      using node = k0sNode(generation, version);
      node.place(`${k0sFolder}/99-theirs.toml`, "[plugins\n");
      const before = node.tree();
      const { code, err } = await node.run(["install", "kata-qemu"]);
      expect([code, err]).toEqual([3, expect.stringContaining(`at: ${k0sFolder}/99-theirs.toml:1`)]);
      expect(node.tree()).toEqual(before);
    });
  });
}

describe("k0s 1.35, which merges drop-ins by itself", () => {
  const [, version] = generations[0] as (typeof generations)[number];
  const table = 'plugins."io.containerd.grpc.v1.cri"';

  test("a handler of the last start whose drop-in is gone is nobody's, and no conflict", async () => {
    using node = k0sNode("1.35", version);
    await node.run(["install", "kata-qemu", "--owner", "a"]);
    renderByK0s(node.root, "1.35");
    await node.run(["uninstall", "--all", "--owner", "a"]);
    expect(node.text(k0sInto)).toContain("kata-qemu");
    expect(await handlersOn(node)).toEqual({ runc: null });
    expect((await node.run(["install", "kata-qemu", "--owner", "b"])).code).toBe(0);
  });

  test("a drop-in without a table of the CRI plugin stays an import, and its bytes", async () => {
    const theirs = 'version = 2\n[proxy_plugins.nydus]\ntype = "snapshot"\naddress = "/run/nydus.sock"\n';
    using node = k0sNode("1.35", version, { "nydus.toml": theirs });
    expect((await node.run(["install", "kata-qemu", "--snapshotter", "nydus"])).code).toBe(0);
    expect(node.text(`${k0sFolder}/nydus.toml`)).toBe(theirs);
    renderByK0s(node.root, "1.35");
    expect(node.text(k0sRoot)).toContain(`imports = [ "${k0sFolder}/nydus.toml", "${k0sInto}" ]`);
  });

  test("what an administrator's drop-in says of runc is taken over by handlers that are like it", async () => {
    const theirs = `version = 2\n[${table}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n`;
    using node = k0sNode("1.35", version, { "cgroup.toml": theirs });
    expect((await node.run(["install", "crun"])).code).toBe(0);
    expect(node.text(dropIn())).toContain("SystemdCgroup = true\n");
  });

  test("k0s' own handler cannot be defined, nor adopted", async () => {
    using node = k0sNode("1.35", version);
    node.place("/h.toml", 'format = 1\n[handlers.runc.containerd]\nruntime_type = "io.containerd.runc.v2"\n');
    for (const more of [[], ["--adopt"], ["--adopt=replace"]]) {
      const { code, err } = await node.run(["install", "-f", `${node.root}/h.toml`, ...more]);
      expect([code, err]).toEqual([
        5,
        expect.stringContaining("Cannot define handler 'runc', as k0s defines it by itself\n"),
      ]);
    }
  });

  test("an import of a drop-in that would mask everything is refused, and what is ours can go", async () => {
    using node = k0sNode("1.35", version);
    await node.run(["install", "kata-qemu"]);
    node.place(
      "/etc/nvidia/config.toml",
      `version = 2\n[${table}.containerd.runtimes.nvidia]\nruntime_type = "a.b"\n`,
    );
    node.place(`${k0sFolder}/nvidia.toml`, 'version = 2\nimports = ["/etc/nvidia/config.toml"]\n');
    const { code, err } = await node.run(["install", "runsc"]);
    expect([code, err]).toEqual([3, expect.stringContaining("at: /etc/nvidia/config.toml\n")]);
    expect(err).toContain(
      `next: move it into ${k0sFolder}, where it is merged, and take it out of imports\n`,
    );
    expect(await handlersOn(node)).toEqual({ nvidia: null });
    const { [dropIn()]: _, ...others } = node.tree();
    expect((await node.run(["uninstall", "--all"])).code).toBe(0);
    expect(node.tree()).toEqual(others);
  });

  test("a drop-in of version 3 stops the engine, and nothing is added beside it", async () => {
    using node = k0sNode("1.35", version, { "gvisor.toml": "version = 3\n" });
    const { code, err } = await node.run(["install", "kata-qemu"]);
    expect([code, err]).toEqual([3, expect.stringContaining(`at: ${k0sFolder}/gvisor.toml:1\n`)]);
  });

  test("an upgrade that stopped at our drop-in is named, and goes on once it is uninstalled", async () => {
    using old = k0sNode("1.35", version);
    await old.run(["install", "kata-qemu"]);
    // The newer k0s has placed its engine, and has not come as far as to write its files.
    const run = (...args: string[]) => old.run(args, { SHIMCTL_ENGINE_VERSION: "2.3.4" });
    expect(() => renderByK0s(old.root, "1.36")).toThrow(dropIn());
    const refused = await run("install", "runsc");
    expect([refused.code, refused.err]).toEqual([
      6,
      expect.stringContaining("k0s has written this file for containerd 1.x, and its engine is 2.3.4 by now"),
    ]);
    expect(refused.err).toContain(
      `next: uninstall or remove ${dropIn()}, on which the newer k0s does not start, and restart k0s\n`,
    );
    expect((await run("uninstall", "--all")).code).toBe(0);
    renderByK0s(old.root, "1.36");
    expect((await run("install", "kata-qemu", "runsc")).code).toBe(0);
    renderByK0s(old.root, "1.36");
  });
});

describe("k0s 1.36, which imports drop-ins", () => {
  for (const [what, text, line] of [
    ["of the old plugin id", '[plugins."io.containerd.grpc.v1.cri"]\nenable_cdi = true\n', 1],
    ["of version 2", "# theirs\nversion = 2\n", 2],
  ] as const) {
    test(`a drop-in ${what}, on which it would not start, is broken already`, async () => {
      using node = k0sNode("1.36", "2.3.4");
      node.place(`${k0sFolder}/theirs.toml`, text);
      const { code, err } = await node.run(["install", "kata-qemu"]);
      expect([code, err]).toEqual([
        3,
        expect.stringContaining("broken already: k0s does not start on this drop-in"),
      ]);
      expect(err).toContain(`at: ${k0sFolder}/theirs.toml:${line}\n`);
      expect((await node.run(["status"])).code).toBe(11);
    });
  }

  test("what was installed on 1.35 is written anew by the owner's next install", async () => {
    using node = k0sNode("1.35", "1.7.24");
    await node.run(["install", "kata-qemu"]);
    const old = node.text(dropIn());
    node.remove(dropIn());
    renderByK0s(node.root, "1.36");
    node.place(dropIn(), old);
    const ran = await node.run(["install", "kata-qemu"], { SHIMCTL_ENGINE_VERSION: "2.3.4" });
    expect([ran.code, ran.err]).toEqual([0, ""]);
    expect(node.text(dropIn())).toStartWith("version = 3 ");
    renderByK0s(node.root, "1.36");
  });
});
