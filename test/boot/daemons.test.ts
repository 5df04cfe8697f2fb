import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { bootProblem, bringRoots } from "../../build/boot.ts";
import type { HostFiles } from "../../src/host/host.ts";
import { loadedServices } from "../../src/host/systemd.ts";
import { daemonsInFiles, started } from "../../src/host/unit_files.ts";
import { runs } from "../../src/layout/layout.ts";
import { BootedNode } from "./boot.ts";

const problem = bootProblem();
if (problem !== undefined) console.log(`(skip) daemons of booted nodes: ${problem}`);
const newest = problem === undefined ? (await bringRoots()).roots.at(-1) : undefined;
const system = "/etc/systemd/system";
const program = "/usr/local/lib/odd/containerd";

/** The node's files as they are, without links: enough for units. */
function filesOf(node: BootedNode): HostFiles {
  const real = (path: string) => node.outside + path;
  const kind = (path: string) => statSync(real(path), { throwIfNoEntry: false });
  return {
    root: node.outside,
    exists: (path) => kind(path) !== undefined,
    isExecutable: (path) => ((kind(path)?.mode ?? 0) & 0o111) !== 0,
    list: (path) => (kind(path)?.isDirectory() === true ? readdirSync(real(path)) : undefined),
    read: (path) => {
      if (kind(path)?.isFile() !== true) return { kind: "absent", path, resolved: path, dangling: false };
      const bytes = readFileSync(real(path));
      return { kind: "file", path, resolved: path, bytes, mode: 0o644, uid: 0, gid: 0, nlink: 1 };
    },
  };
}

/** Lines of a unit's service section; `P` stands for the program. */
const odd: readonly (readonly string[])[] = [
  ['ExecStart=P "--config=/a b" \'c  d\' e\\x20f g"h i"j "" \\101\\u00e9'],
  ['Environment="A=one two" B=b', "ExecStart=P $A ${A} x${B}y $NONE ${NONE} $$B a$B ${B}${B} $B,"],
  ["Environment=B=b", "ExecStart=:P $B ${B} $$B"],
  ["ExecStart=-P a ; P b", "ExecStart=P c"],
  ["ExecStart=P \\", "# a comment \\", "; another one", "  a \\", "  b"],
  ["ExecStart=@P other a"],
  ["ExecStart=/bin/false", "ExecStart=", "ExecStart=P a"],
  ["Environment='A=\"x y\" z' B=b", "EnvironmentFile=-/run/odd/absent", "ExecStart=P $A ${A} '$B' \"${B}\""],
  [
    "Environment=A=a B=b",
    "EnvironmentFile=/run/odd/one",
    "EnvironmentFile=/run/odd/two",
    "ExecStart=P ${A} ${B} ${C}",
  ],
  ["EnvironmentFile=/run/odd/%N", "EnvironmentFile=/run/odd/%n", "ExecStart=P ${A} ${B}"],
  ["EnvironmentFile=/run/odd/quirks", "ExecStart=P ${A} ${B} ${C} ${D} ${E} ${F} ${G} ${H} ${I} $I"],
  ["Environment=A=a", "Environment=", "Environment=B=b", "ExecStart=P ${A} ${B}"],
  [" ExecStart = P a\\tb  c ", "[Install]", "ExecStart=P no"],
  ['ExecStart=P a \\; ";" b;'],
];
const environmentFiles = {
  one: "A=one\nB=one\nC=one\n",
  two: "C=two\n",
  quirks: [
    "# no=comment",
    "; no=comment either",
    "A=plain # is no comment",
    "  B = spaced  ",
    "C='single $X \\n'",
    'D="double \\" \\$ \\n"more',
    "E=one\\",
    "two",
    'F="over',
    'two lines"',
    "export G=no",
    "H=",
    "I=a\\ b  c",
    "",
  ].join("\n"),
};

describe.skipIf(newest === undefined)("on a booted Debian", () => {
  let node: BootedNode;
  beforeAll(async () => {
    if (newest === undefined) throw new Error("nothing to boot");
    node = await BootedNode.start(newest);
  });
  afterAll(() => node.stop());

  const systemctl = (...args: string[]) =>
    expect(node.run(["systemctl", ...args])).toMatchObject({ code: 0 });
  const errorOf = (...args: string[]) => node.json(...args)["error"] as Record<string, unknown> | null;
  const layout = () => node.json("status")["layout"] as { name: string; evidence: string[] };

  test("odd units are read from their files, and over the bus, as systemd itself starts them", async () => {
    node.place(
      program,
      '#!/bin/sh\n[ -e "/run/odd/out-$N" ] && exit\nfor a; do printf "%s\\0" "$a"; done >"/run/odd/out-$N"\n',
      "755",
    );
    for (const [name, text] of Object.entries(environmentFiles)) node.place(`/run/odd/${name}`, text);
    for (const [at, lines] of odd.entries()) {
      const dropIn = lines.some((line) => line === "ExecStart=");
      const all = lines.map((line) => line.replaceAll(/\bP\b(?= |$)/g, program));
      const unit = `${system}/containerd-odd-${at}.service`;
      const stem = `/run/odd/containerd-odd-${at}`;
      node.place(stem, "A=named\n");
      node.place(`${stem}.service`, "B=named in full\n");
      const head = "[Service]\nType=oneshot\n";
      // Where the number went, it is reset: it stands in a drop-in that comes last.
      node.place(`${unit}.d/90-number.conf`, `[Service]\nEnvironment=N=${at}\n`);
      node.place(unit, `${head}${dropIn ? all[0] : all.join("\n")}\n`);
      if (dropIn) node.place(`${unit}.d/10-own.conf`, `[Service]\n${all.slice(1).join("\n")}\n`);
    }
    systemctl("daemon-reload");
    const wanted = {
      units: ["containerd-odd-*.service"],
      isOne: (daemon: Parameters<typeof runs>[0]) => runs(daemon, "containerd"),
    };
    const host = filesOf(node);
    const byFiles = new Map(daemonsInFiles(host, wanted).map(({ unit, argv }) => [unit, argv]));
    const sockets = {
      system: `${node.outside}/run/dbus/system_bus_socket`,
      direct: `${node.outside}/run/systemd/private`,
    };
    const services = (await loadedServices(sockets, wanted.units, [])) ?? [];
    const byBus = new Map(services.map((service) => [service.name, started(host, service).argv]));
    for (const [at, lines] of odd.entries()) {
      const unit = `containerd-odd-${at}.service`;
      systemctl("start", unit);
      const real = readFileSync(`${node.outside}/run/odd/out-${at}`, "utf8").split("\0").slice(0, -1);
      expect([lines, byBus.get(unit)]).toEqual([lines, [program, ...real]]);
      expect([lines, byFiles.get(unit)]).toEqual([lines, [program, ...real]]);
    }
    node.run(["sh", "-c", `rm -r ${system}/containerd-odd-*`]);
    systemctl("daemon-reload");
  }, 60_000);

  test("the engine's unit is found over the bus, running or stopped", () => {
    const source = "containerd.service, over D-Bus";
    expect(layout()).toMatchObject({
      name: "vanilla",
      evidence: expect.arrayContaining([`${source}: containerd`]),
    });
    expect(layout().evidence).not.toContainEqual(expect.stringContaining("/containerd.service"));
    systemctl("stop", "containerd");
    expect(layout().evidence[0]).toBe(`${source} (stopped): containerd`);
    systemctl("start", "containerd");
  });

  test("a drop-in that names another file by a variable is refused, and then its file is taken", () => {
    const own = "/etc/containerd/own.toml";
    const dropIn = `${system}/containerd.service.d/own.conf`;
    node.run(["sh", "-c", `mkdir -p /etc/containerd; cp /etc/containerd/config.toml ${own} || : >${own}`]);
    node.place(
      dropIn,
      `[Service]\nEnvironment=CONTAINERD_CONFIG=${own}\nExecStart=\nExecStart=/usr/bin/containerd --config \${CONTAINERD_CONFIG}\n`,
    );
    systemctl("daemon-reload");
    systemctl("restart", "containerd");
    const before = node.tree();
    const error = errorOf("install", "crun");
    expect(error).toMatchObject({ code: "unsupported-node", hint: `pass --config ${own}` });
    expect(error?.["message"]).toMatch(
      new RegExp(
        `^Cannot use this configuration, as containerd\\.service \\(over D-Bus, /\\S+/containerd\\.service, ${dropIn}\\) starts containerd on another file: ${own}$`,
      ),
    );
    expect(node.tree()).toBe(before);
    const installed = node.json("install", "crun", "--config", own);
    expect([installed.code, installed["proof"]]).toMatchObject([0, { served: "passed" }]);
    expect(node.shimctl("uninstall", "--all", "--config", own).code).toBe(0);
    expect(node.tree()).toBe(before);
    node.run(["rm", "-r", dropIn, own]);
    systemctl("daemon-reload");
    systemctl("restart", "containerd");
  });

  test("through a script, the engine is told by its process, and not at all while it is stopped", () => {
    const own = "/etc/containerd/own.toml";
    const script = "/usr/local/bin/start-engine";
    const dropIn = `${system}/containerd.service.d/own.conf`;
    node.run(["sh", "-c", `mkdir -p /etc/containerd; cp /etc/containerd/config.toml ${own} || : >${own}`]);
    node.place(script, `#!/bin/sh\nexec /usr/bin/containerd --config ${own}\n`, "755");
    node.place(dropIn, `[Service]\nExecStart=\nExecStart=${script}\n`);
    systemctl("daemon-reload");
    systemctl("restart", "containerd");
    expect(errorOf("install", "crun")).toMatchObject({ hint: `pass --config ${own}` });
    const installed = node.json("install", "crun", "--config", own);
    expect([installed.code, installed["proof"]]).toMatchObject([0, { served: "passed" }]);
    expect(node.shimctl("uninstall", "--all", "--config", own).code).toBe(0);
    systemctl("stop", "containerd");
    expect(errorOf("install", "crun")).toMatchObject({
      message: expect.stringContaining(`starts another program, which may name any: ${script}`),
      hint: "pass --config with the file that it reads",
    });
    node.run(["rm", "-r", dropIn, own, script]);
    systemctl("daemon-reload");
    systemctl("start", "containerd");
  });

  test("a unit of any name is found, restarted, and asked on its own socket", () => {
    const socket = "/run/edge/containerd.sock";
    systemctl("stop", "containerd");
    node.place(
      `${system}/kube-engine.service`,
      `[Service]\nType=notify\nDelegate=yes\nKillMode=process\nExecStart=/usr/bin/containerd --address ${socket}\n`,
    );
    systemctl("daemon-reload");
    systemctl("start", "kube-engine");
    const main = () => node.run(["systemctl", "show", "-p", "MainPID", "kube-engine"]).out;
    const first = main();
    expect(layout().evidence[0]).toBe(`kube-engine.service, over D-Bus: containerd --address ${socket}`);
    const installed = node.json("install", "crun");
    expect([installed.code, installed["proof"]]).toMatchObject([0, { served: "passed" }]);
    expect(main()).not.toBe(first);
    expect(node.shimctl("uninstall", "--all").code).toBe(0);

    // Two of them would want the same folders.
    node.place("/usr/local/lib/other/containerd", "#!/bin/sh\nexec sleep infinity\n", "755");
    const dropIn = `${system}/containerd.service.d/other.conf`;
    node.place(dropIn, "[Service]\nType=simple\nExecStart=\nExecStart=/usr/local/lib/other/containerd\n");
    systemctl("daemon-reload");
    systemctl("start", "containerd");
    expect(errorOf("status")).toMatchObject({
      code: "unsupported-node",
      message: `Cannot choose between 2 daemons of containerd from packages on this node: containerd.service, over D-Bus: containerd and kube-engine.service, over D-Bus: containerd --address ${socket}`,
      hint: "pass --unit containerd.service or --unit kube-engine.service",
    });
    systemctl("stop", "kube-engine", "containerd");
    node.run(["rm", `${system}/kube-engine.service`, dropIn]);
    systemctl("daemon-reload");
  });

  test("a pod restarts no other unit than the one that runs the engine, and finds that by its name", () => {
    const own = "/etc/containerd/own.toml";
    const mounts = [
      ...["/etc/containerd", "/run/containerd", "/run/dbus", "/run/lock", "/run/shimctl", "/var/lib/shimctl"],
      ...["/usr/bin", "/usr/lib", "/usr/local/bin"],
    ];
    const inPod = (args: string) =>
      JSON.parse(
        node.run([
          ...["unshare", "--mount", "sh", "-euc"],
          [
            "mkdir -p /run/pod; mount -t tmpfs pod /run/pod",
            ...mounts.map((path) => `mkdir -p ${path} /run/pod${path}; mount --bind ${path} /run/pod${path}`),
            `shimctl ${args} --json --root /run/pod; true`,
          ].join("\n"),
        ]).out,
      ) as Record<string, unknown>;
    systemctl("stop", "containerd");
    node.run(["sh", "-c", `mkdir -p /etc/containerd; cp /etc/containerd/config.toml ${own} || : >${own}`]);
    node.place(
      `${system}/kube-engine.service`,
      `[Service]\nType=notify\nDelegate=yes\nKillMode=process\nExecStart=/usr/bin/containerd --config ${own}\n`,
    );
    systemctl("daemon-reload");
    systemctl("start", "kube-engine");
    const before = node.tree();
    expect(inPod("install crun")["error"]).toMatchObject({
      message:
        "Cannot restart containerd.service, as it is inactive (dead) while the engine runs, which something else has started",
      hint: expect.stringContaining("pass --unit with the unit that has"),
    });
    expect(inPod("install crun --unit kube-engine")["error"]).toMatchObject({ hint: `pass --config ${own}` });
    expect(node.tree()).toBe(before);
    expect(inPod(`install crun --unit kube-engine --config ${own}`)).toMatchObject({
      error: null,
      proof: { served: "passed" },
    });
    expect(inPod(`uninstall --all --unit kube-engine --config ${own}`)["error"]).toBeNull();
    systemctl("stop", "kube-engine");
    node.run(["rm", `${system}/kube-engine.service`, own]);
    systemctl("daemon-reload");
    systemctl("start", "containerd");
  }, 60_000);

  test("a daemon without a unit is found by its process", () => {
    systemctl("stop", "containerd");
    systemctl("mask", "--runtime", "containerd");
    node.run([
      "sh",
      "-c",
      "/usr/bin/containerd >/dev/null 2>&1 </dev/null & echo $! >/run/engine.pid; sleep 0.3",
    ]);
    const [evidence] = layout().evidence;
    expect(evidence).toBe(`/proc/${node.text("/run/engine.pid").trim()}: containerd`);
    node.run([
      "sh",
      "-c",
      "read -r pid </run/engine.pid; kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done",
    ]);
    systemctl("unmask", "--runtime", "containerd");
    systemctl("start", "containerd");
  });

  test("of two engines the one that runs is meant, and neither where both do", () => {
    node.place("/usr/local/bin/crio", "#!/bin/sh\nexec sleep infinity\n", "755");
    node.place("/etc/crio/crio.conf", "");
    node.place(`${system}/crio.service`, "[Service]\nExecStart=/usr/local/bin/crio\n");
    systemctl("daemon-reload");
    expect(layout().name).toBe("vanilla");
    // A pod that has the whole node mounted, and its bus hidden: its processes tell which one runs.
    const inPod = (...hidden: string[]) =>
      JSON.parse(
        node.run([
          ...["unshare", "--mount", "sh", "-euc"],
          `mkdir -p /mnt/node; mount --rbind / /mnt/node; for path in ${hidden.join(" ")}; do umount --lazy /mnt/node$path; done; shimctl status --json --root /mnt/node; true`,
        ]).out,
      ) as { layout?: { name: string; evidence: string[] }; error?: { message: string } };
    expect(inPod().layout?.evidence[0]).toBe("containerd.service, over D-Bus: containerd");
    const seen = inPod("/run").layout;
    expect([seen?.name, seen?.evidence[0]]).toEqual([
      "vanilla",
      expect.stringMatching(/^\/\S+\/containerd\.service: containerd$/),
    ]);
    expect(inPod("/run", "/proc").error?.message).toMatch(
      /^Cannot choose between two engines on this node: \S+\/containerd\.service: containerd and \S+\/crio\.service: crio$/,
    );
    systemctl("start", "crio");
    expect(errorOf("install", "crun")).toMatchObject({
      code: "unsupported-node",
      message:
        "Cannot choose between two engines on this node: containerd.service, over D-Bus: containerd and crio.service, over D-Bus: crio",
      hint: "pass --engine containerd or --engine crio",
    });
    systemctl("stop", "crio");
    node.run(["rm", "-r", "/usr/local/bin/crio", "/etc/crio", `${system}/crio.service`]);
    systemctl("daemon-reload");
  });
});
