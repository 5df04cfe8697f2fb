import { describe, expect, test } from "bun:test";
import { openHost } from "../../src/host/root.ts";
import { detect } from "../../src/layout/detect.ts";
import type { Layout } from "../../src/layout/layout.ts";
import { layouts } from "../../src/layout/registry.ts";
import { type Distribution, distributions, evidentOn, nodeOf } from "../support/distributions.ts";
import { Node, type Ran } from "../support/node.ts";

function layoutOf({ layout }: Distribution): Layout {
  const found = layouts.find(({ name }) => name === layout);
  if (found === undefined) throw new Error(`no such layout: ${layout}`);
  return found;
}

const refines = (one: Layout, other: Layout): boolean => [one.refines].flat().includes(other.name);
/** An evidence may say more of its file, after a space or a colon. */
const pathIn = (evidence: string) => evidence.split(/:? /)[0] ?? "";
const isAt = (path: string, place: string) => path === place || path.startsWith(`${place}/`);
const unmade = layouts.filter(({ name }) => !distributions.some(({ layout }) => layout === name));
for (const { name } of unmade)
  console.log(`(skip) layout ${name}: no node of it in test/support/distributions.ts`);

interface Status {
  readonly engine: { readonly rootFile: string };
  readonly layout: { readonly name: string; readonly evidence: string[]; readonly wipes: string | null };
}

async function statusOf(node: Node): Promise<Status> {
  const ran = await node.run(["status", "--json"]);
  expect([ran.err, ran.json()["error"]]).toEqual(["", null]);
  return ran.json() as unknown as Status;
}

describe.each(distributions)("$name", (distribution) => {
  const layout = layoutOf(distribution);

  test("is found by what only such a node has", async () => {
    using node = nodeOf(distribution);
    const status = await statusOf(node);
    expect(status.layout.name).toBe(distribution.layout);
    const { rootFile } = layout.places(openHost(node.root), undefined);
    expect(status.engine.rootFile).toBe(rootFile);
    if (distribution.rootFile !== undefined) expect(rootFile).toBe(distribution.rootFile);
    for (const evidence of status.layout.evidence.filter((each) => each.startsWith("/")))
      expect(Object.keys(distribution.files).some((path) => isAt(path, pathIn(evidence)))).toBe(true);
  });

  test("has nothing that speaks for another layout but for those that this one refines", () => {
    using node = nodeOf(distribution);
    const others = Object.keys(evidentOn(openHost(node.root))).filter((name) => name !== distribution.layout);
    const refined = layouts.filter((other) => refines(layout, other)).map(({ name }) => name);
    expect(others.filter((name) => !refined.includes(name))).toEqual([]);
  });

  test("without that is another one, or none", () => {
    using node = nodeOf(distribution);
    const host = openHost(node.root);
    for (const evidence of layout.evidence(host, [])) node.remove(pathIn(evidence));
    for (const evidence of layout.evidence(host, [])) node.remove(pathIn(evidence));
    expect(layout.evidence(openHost(node.root), [])).toEqual([]);
  });

  test("is found where its engine runs, too", () => {
    // An engine within a daemon of its own has tests of its own.
    if (
      !layout.isDaemon({
        unit: layout.unit,
        argv: [`/usr/bin/${layout.engine}`],
        environment: {},
        active: true,
        source: "",
      })
    )
      return;
    using node = nodeOf(distribution);
    const host = openHost(node.root);
    const { rootFile } = layout.places(host, undefined);
    const { engine, unit } = layout;
    const argv = [`/usr/bin/${engine}`, ...(engine === "containerd" ? ["--config", rootFile] : [])];
    const daemon = { unit, argv, environment: {}, active: true, source: unit };
    const wish = { engine: "auto", config: undefined, version: distribution.version } as const;
    const found = detect(host, wish, [daemon], () => undefined);
    expect([found.layout.name, found.site.rootFile, found.daemon?.unit]).toEqual([
      layout.name,
      rootFile,
      unit,
    ]);
    expect(found.refusal === undefined).toBe(distribution.refused === undefined);
  });

  test("is what --layout may say, and no other", async () => {
    using node = nodeOf(distribution);
    const named = (name: string) => node.run(["status", "--json", "--layout", name]);
    expect((await named(layout.name)).json()["error"]).toBeNull();
    for (const other of layouts.filter(({ name }) => name !== layout.name)) {
      const ran = await named(other.name);
      const { message, hint } = ran.json()["error"] as { message: string; hint: string };
      expect([ran.code, hint]).toEqual([6, `pass --layout ${layout.name}, or leave it out`]);
      expect(message).toStartWith(`Cannot use --layout ${other.name}, as this node is ${layout.title}: /`);
    }
  });
});

/** Two nodes in one can only be told by files that they do not share; the configuration itself says nothing. */
function shareWhatTells(one: Distribution, other: Distribution): boolean {
  return Object.entries(one.files).some(
    ([path, content]) => (other.files[path] ?? content) !== content && /release$|crictl/.test(path),
  );
}

const first = distributions.filter(
  ({ layout }, at) => distributions.findIndex((each) => each.layout === layout) === at,
);
const pairs = first.flatMap((one, at) =>
  first.slice(at + 1).flatMap((other) => (shareWhatTells(one, other) ? [] : [[one, other] as const])),
);

describe("two of them on one node", () => {
  test.each(pairs.map(([one, other]) => [one.name, other.name, one, other] as const))(
    "%s and %s",
    async (_, __, one, other) => {
      const both = layouts.filter(({ name }) => name === one.layout || name === other.layout);
      const [left = layoutOf(one), right = layoutOf(other)] = both;
      const special = [one, other].find((each) => both.some((layout) => refines(layoutOf(each), layout)));
      using node = special === one ? nodeOf(other, one) : nodeOf(one, other);
      if (special !== undefined) {
        expect((await statusOf(node)).layout.name).toBe(special.layout);
        return;
      }
      const before = node.tree();
      const ran = await node.run(["install", "kata-qemu", "--json"]);
      const { message, hint } = ran.json()["error"] as { message: string; hint: string };
      const option = (layout: Layout) =>
        left.engine === right.engine ? `--layout ${layout.name}` : `--engine ${layout.engine}`;
      expect([ran.code, hint]).toEqual([6, `pass ${option(left)} or ${option(right)}`]);
      const host = openHost(node.root);
      expect(message).toMatch(
        /^Cannot (choose between two engines on this node|tell which of .* this node is)/,
      );
      for (const layout of both)
        expect(layout.evidence(host, []).some((each) => message.includes(pathIn(each)))).toBe(true);
      expect(node.tree()).toEqual(before);
      // Each of the two settles it.
      for (const [meant, beside] of [
        [one, other],
        [other, one],
      ] as const) {
        using same = nodeOf(beside, meant);
        const settled = await same.run(["status", "--json", ...option(layoutOf(meant)).split(" ")]);
        const error = settled.json()["error"] as { hint: string } | null;
        // A node of one engine may have another's programs, too, which then are two again.
        if (error !== null) expect(error.hint).toContain(`--layout ${meant.layout}`);
        else expect((settled.json() as unknown as Status).layout.name).toBe(meant.layout);
      }
    },
  );

  test("each pair is there", () => {
    expect(pairs.length).toBeGreaterThan(50);
  });
});

function nodeNamed(name: string): Node {
  const found = distributions.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no such node: ${name}`);
  return nodeOf(found);
}

async function refusal(node: Node, line: string): Promise<Ran> {
  const before = node.tree();
  const ran = await node.run(line.split(" "));
  expect([ran.code, ran.out, node.tree()]).toEqual([6, "", before]);
  return ran;
}

describe("a system that would take an edit away is left alone", () => {
  test.each([
    [
      "Talos",
      "install kata-qemu runsc",
      `Cannot change handlers on Talos Linux, as it makes this file from its machine config: /etc/cri/conf.d/00-base.part
  at: /etc/cri/containerd.toml
  state: nothing was written
  next: put them into its own document: \`shimctl render --for talos kata-qemu runsc\` makes it and says how to apply it`,
    ],
    [
      "Talos",
      "uninstall runsc",
      `Cannot change handlers on Talos Linux, as it makes this file from its machine config: /etc/cri/conf.d/00-base.part
  at: /etc/cri/containerd.toml
  state: nothing was written
  next: take them out of its own document: \`shimctl render --for talos runsc\` says how`,
    ],
    [
      "Flatcar as it comes",
      "install kata-qemu --prefix /opt/it's",
      `Cannot change handlers on Flatcar Container Linux, as its containerd reads a file of the read-only image: /etc/os-release (ID=flatcar)
  at: /usr/share/containerd/config.toml
  state: nothing was written
  next: put them into its own document: \`shimctl render --for flatcar --prefix '/opt/it'\\''s' kata-qemu\` makes it and says how to apply it`,
    ],
    [
      "Flatcar as it comes",
      "uninstall --all",
      `Cannot change handlers on Flatcar Container Linux, as its containerd reads a file of the read-only image: /etc/os-release (ID=flatcar)
  at: /usr/share/containerd/config.toml
  state: nothing was written
  next: take them out of its own document: \`shimctl render --for flatcar HANDLER...\` says how`,
    ],
    [
      "Bottlerocket",
      "install kata-qemu",
      `Cannot change handlers on Bottlerocket, as it renders this file from its settings: /etc/os-release (ID=bottlerocket)
  at: /etc/containerd/config.toml
  state: nothing was written
  next: no document of it can hold them either: \`shimctl render --for bottlerocket --engine-version 1.7 kata-qemu\` says what there is instead`,
    ],
    [
      "minikube with docker",
      "install kata-qemu",
      `Cannot change handlers on minikube, as pods run by another engine: unix:///var/run/cri-dockerd.sock
  at: /etc/crictl.yaml
  state: nothing was written
  next: start it with containerd: minikube start --container-runtime containerd`,
    ],
  ])("%s: %s", async (name, line, text) => {
    using node = nodeNamed(name);
    const { err } = await refusal(node, line);
    expect(err).toBe(`shimctl: ${text}\n`);
  });

  test("one that only --layout names is refused by that word", async () => {
    using node = new Node("2.1.9");
    const { err } = await refusal(node, "install kata-qemu --layout talos");
    expect(err).toContain("as it makes this file from its machine config: --layout talos\n");
  });

  test("a handler file is named as it was given, also on an old engine", async () => {
    using node = nodeNamed("Talos");
    node.place("/handlers of mine.toml", "format = 1\n[handlers.kata-qemu]\npreset = 'kata-qemu'\n");
    const ran = await node.run(["apply", "-f", `${node.root}/handlers of mine.toml`], {
      SHIMCTL_ENGINE_VERSION: "1.7.24",
    });
    expect(ran.code).toBe(6);
    expect(ran.err).toContain(
      `shimctl render --for talos --engine-version 1.7 -f '${node.root}/handlers of mine.toml'`,
    );
  });

  test("the refusal is a document with --json", async () => {
    using node = nodeNamed("Talos");
    const ran = await node.run(["install", "kata-qemu", "--json"]);
    expect([ran.code, ran.json()["result"], ran.json()["changes"]]).toEqual([6, "refused", []]);
    expect(ran.json()["error"]).toMatchObject({
      code: "unsupported-node",
      path: "/etc/cri/containerd.toml",
      state: "nothing was written",
      hint: expect.stringContaining("`shimctl render --for talos kata-qemu`"),
    });
  });

  test("what the hint names makes a document with those handlers in it", async () => {
    for (const { layout, name } of distributions.filter((each) => each.refused === true)) {
      using node = nodeNamed(name);
      if (layout === "minikube" || layout === "bottlerocket") continue;
      const { err } = await refusal(node, "install kata-qemu runsc");
      const [, line = ""] = /`shimctl (render .*?)`/.exec(err) ?? [];
      const { code, out } = await node.run(line.split(" "));
      expect(code).toBe(0);
      for (const handler of ["kata-qemu", "runsc"]) expect(out).toContain(`containerd.runtimes.${handler}]`);
    }
  });

  const refused = distributions.filter((each) => each.refused === true);
  test.each(refused)("$name: every change is refused, and everything else works", async (distribution) => {
    using node = nodeOf(distribution);
    for (const line of ["install runsc --dry-run", "uninstall --all", "repair --yes"])
      await refusal(node, line);
    const looks = ["status", "check", "diff install runsc", "repair", "presets", "render --for talos runsc"];
    for (const line of looks) expect([line, (await node.run(line.split(" "))).code]).toEqual([line, 0]);
    expect((await node.run(["status"])).out).toContain("\nnote      nothing is changed on ");
  });
});

describe("an edit that something takes away later", () => {
  const ordinary = distributions.filter((each) => each.refused !== true);
  test.each(ordinary)(
    "$name: is told of where that is so, once, and where nothing is changed not again",
    async (distribution) => {
      const { wipes, document } = layoutOf(distribution);
      using node = nodeOf(distribution);
      const told = ({ err }: Ran) => err.split("\n").filter((line) => line.includes("does not outlive"));
      const instead =
        document === undefined
          ? ""
          : /; `shimctl render --for \S+ (--engine-version 1\.7 )?kata-qemu` makes a document that lasts$/;
      for (const line of ["install kata-qemu --dry-run", "install kata-qemu"]) {
        const ran = await node.run(line.split(" "));
        expect([ran.code, told(ran).length]).toEqual([0, wipes === undefined ? 0 : 1]);
        if (wipes === undefined) continue;
        expect(told(ran)[0]).toStartWith(`warn: this does not outlive ${wipes}`);
        expect(told(ran)[0]).toMatch(instead);
      }
      for (const line of ["install kata-qemu", "uninstall --all"]) {
        const ran = await node.run(line.split(" "));
        expect([line, ran.code, told(ran)]).toEqual([line, 0, []]);
      }
      const { out } = await node.run(["status"]);
      expect(out.split("\n").filter((line) => line.startsWith("note "))).toHaveLength(
        wipes === undefined ? 0 : 1,
      );
    },
  );

  test("stands in the JSON documents too", async () => {
    using node = nodeNamed("EKS with containerd 2.1.9");
    const note =
      "this does not outlive the next boot, at which nodeadm writes /etc/containerd/config.toml anew; `shimctl render --for nodeadm kata-qemu` makes a document that lasts";
    expect((await node.run(["install", "kata-qemu", "--json"])).json()["notes"]).toEqual([note]);
    expect((await node.run(["status", "--json"])).json()["layout"]).toEqual({
      name: "eks",
      title: "Amazon EKS on Amazon Linux 2023",
      evidence: expect.arrayContaining(["/usr/bin/nodeadm", "SHIMCTL_ENGINE_VERSION 2.1.9"]),
      survives: "restarts of containerd",
      wipes: "the next boot, at which nodeadm writes /etc/containerd/config.toml anew",
      document: "nodeadm",
      refusal: null,
    });
  });
});

describe("the files of OpenShift's Machine Config Operator", () => {
  const kata =
    '[crio.runtime.runtimes.kata-qemu]\nruntime_type = "vm"\nruntime_path = "/opt/kata/bin/containerd-shim-kata-v2"\n';
  const kept = (
    step: string,
  ) => `shimctl: Cannot edit this file, as the Machine Config Operator keeps it as a MachineConfig has it: /etc/machine-config-daemon/currentconfig
  at: /etc/crio/crio.conf.d/00-default
  state: nothing was written
  next: ${step}
`;

  test("are not edited to take a handler over, and others beside them are", async () => {
    using node = nodeNamed("OpenShift");
    node.place("/etc/crio/crio.conf.d/99-kata-deploy", kata);
    const before = node.text("/etc/crio/crio.conf.d/00-default");
    for (const more of [[], ["--dry-run"]]) {
      const { err } = await refusal(node, ["install", "crun", "--adopt=replace", ...more].join(" "));
      expect(err).toBe(kept("change the MachineConfig that brings it"));
    }
    const taken = await node.run(["install", "kata-qemu", "--adopt=replace"]);
    expect([taken.code, node.text("/etc/crio/crio.conf.d/99-kata-deploy")]).toEqual([0, ""]);
    expect(node.text("/etc/crio/crio.conf.d/00-default")).toBe(before);
  });

  test("are not repaired either", async () => {
    using node = nodeNamed("OpenShift");
    const path = "/etc/crio/crio.conf.d/00-default";
    node.place(path, `${node.text(path)}3s"\n`);
    expect((await node.run(["repair"])).code).toBe(11);
    const { err } = await refusal(node, "repair --yes");
    expect(err).toBe(kept("change the MachineConfig that brings it"));
  });

  test("are nobody's where what says so cannot be read", async () => {
    using node = nodeNamed("OpenShift");
    node.place("/etc/machine-config-daemon/currentconfig", "{ cut off");
    expect((await node.run(["install", "crun", "--adopt=replace"])).code).toBe(0);
  });
});

describe("minikube, whose images have every engine", () => {
  const docker = () => {
    const node = nodeNamed("minikube with docker");
    node.remove("/etc/crictl.yaml");
    return node;
  };

  test("is not guessed at where nothing says which of them runs pods", async () => {
    using node = docker();
    const { err } = await refusal(node, "install kata-qemu");
    expect(err).toContain("pass --engine containerd or --engine crio");
    const [one, other] = /: (\S+ \(with .*?\)) and (\S+ \(with .*?\))$/m.exec(err)?.slice(1) ?? [];
    expect([one, other]).toEqual([
      expect.stringContaining("(with /usr/bin/containerd)"),
      expect.stringContaining("(with /usr/bin/crio)"),
    ]);
  });

  test("is the one whose program is there, where there is only one", async () => {
    using node = docker();
    node.remove("/usr/bin/crio");
    expect((await statusOf(node)).layout.name).toBe("minikube");
    node.remove("/usr/bin/containerd");
    node.place("/usr/bin/crio", "#!/bin/sh\n", 0o755);
    node.remove("/etc/containerd");
    const status = await node.run(["status", "--json", "--engine-version", "1.36.3"]);
    expect((status.json() as unknown as Status).layout.name).toBe("minikube-crio");
  });
});

describe("what other tools got wrong", () => {
  test("docker's file, which disables CRI, is refused with its line and what to do", async () => {
    using node = nodeNamed("docker's package, with CRI enabled");
    node.place(
      "/etc/containerd/config.toml",
      '# docker\'s\n\ndisabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n',
    );
    const before = node.tree();
    const { code, err } = await node.run(["install", "kata-qemu"]);
    expect([code, node.tree()]).toEqual([3, before]);
    expect(err).toContain("Cannot install handlers, as this file disables the CRI plugin: cri");
    expect(err).toContain("/etc/containerd/config.toml:3");
    expect(err).toContain("this is the file that docker's containerd package brings");
  });
});
