import { describe, expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import type { HostFiles } from "../../src/host/host.ts";
import { detect } from "../../src/layout/detect.ts";
import type { Daemon, Found, Wish } from "../../src/layout/layout.ts";
import { MemoryNode } from "../support/memory.ts";

const any: Wish = { engine: "auto", config: undefined, version: "2.1.9" };

function find(
  files: Readonly<Record<string, string>>,
  daemons: readonly Daemon[] = [],
  wish: Partial<Wish> = {},
): Found {
  const { host } = new MemoryNode("2.1.9", files);
  return detect(host, { ...any, ...wish }, daemons, () => undefined);
}

function refusal(...args: Parameters<typeof find>): { message: string; hint: string | undefined } {
  try {
    find(...args);
  } catch (error) {
    if (error instanceof ShimctlError && error.code === "unsupported-node")
      return { message: error.message, hint: error.facts.hint };
    throw error;
  }
  throw new Error("nothing was refused");
}

function daemon(command: string, more: Partial<Daemon> = {}): Daemon {
  return {
    unit: undefined,
    argv: command.split(" "),
    environment: {},
    active: true,
    source: "a process",
    ...more,
  };
}

const rendered = (data: string) => ({ [`${data}/agent/etc/containerd/config.toml`]: "version = 3\n" });

for (const { name, title, server, agent } of [
  { name: "k3s", title: "k3s", server: "k3s.service", agent: "k3s-agent.service" },
  { name: "rke2", title: "RKE2", server: "rke2-server.service", agent: "rke2-agent.service" },
]) {
  const data = `/var/lib/rancher/${name}`;
  const prefix = name.toUpperCase();

  describe(title, () => {
    test("that is stopped is refused beside an engine that runs, which is not the kubelet's", () => {
      const files = {
        ...rendered(data),
        [`/etc/systemd/system/${server}`]: "",
        "/etc/containerd/config.toml": "version = 2\n",
      };
      const other = daemon("/usr/bin/containerd", { unit: "containerd.service" });
      const stopped = daemon(`/usr/local/bin/${name} server`, { unit: server, active: false });
      for (const daemons of [[other, stopped], [other]]) {
        const { message, hint } = refusal(files, daemons);
        expect([message, hint]).toEqual([
          expect.stringContaining("Cannot choose between two engines on this node"),
          `pass --layout vanilla or --layout ${name}-server`,
        ]);
      }
    });

    test("is found by its tree while it is stopped, and never taken for containerd from packages", () => {
      const stopped = { ...rendered(data), [`/etc/systemd/system/${server}`]: "" };
      for (const files of [stopped, { ...rendered(data), [`${data}/server/token`]: "" }])
        expect(find(files).layout.name).toBe(`${name}-server`);
      const worker = { ...rendered(data), [`/usr/lib/systemd/system/${agent}`]: "" };
      expect(find(worker).layout.name).toBe(`${name}-agent`);
      const idle = daemon(`/usr/local/bin/${name} agent`, { active: false, unit: agent });
      expect(find(rendered(data), [idle]).layout.name).toBe(`${name}-agent`);
    });

    test("renders the configuration in its tree from templates and drop-ins beside it", () => {
      const { site, places, layout } = find({ ...rendered(data), [`/etc/systemd/system/${server}`]: "" });
      const folder = `${data}/agent/etc/containerd`;
      expect(site.rootFile).toBe(`${folder}/config.toml`);
      expect(places.socket).toBe("/run/k3s/containerd/containerd.sock");
      expect([layout.unit, layout.family, layout.isServer]).toEqual([server, name, true]);
      expect(site.source).toMatchObject({
        kind: "rendered",
        by: title,
        dropIns: [`${folder}/config-v3.toml.d`, `${folder}/config.toml.d`],
        templates: [
          { path: `${folder}/config-v3.toml.tmpl`, schema: 3 },
          { path: `${folder}/config.toml.tmpl`, schema: 2 },
        ],
      });
    });

    test("is not restarted on a guess: where files fit both roles, each must be named", () => {
      const both = { [`/etc/systemd/system/${server}`]: "", [`/etc/systemd/system/${agent}`]: "" };
      const converted = { [`${data}/server/token`]: "", [`/etc/systemd/system/${agent}`]: "" };
      for (const files of [
        rendered(data),
        { ...rendered(data), ...both },
        { ...rendered(data), ...converted },
      ]) {
        const { message, hint } = refusal(files);
        expect(message).toBe(
          `Cannot tell which of ${title} server and ${title} agent this node is, and each is restarted by another unit: ${data}/agent/etc/containerd`,
        );
        expect(hint).toBe(`pass --layout ${name}-server or --layout ${name}-agent`);
        expect(refusal(files, [], { layout: name }).hint).toBe(hint);
        expect(find(files, [], { layout: `${name}-agent` }).layout.unit).toBe(agent);
      }
    });

    test("with the units of both roles is the one that starts with the machine, or the one that runs", () => {
      const files = {
        ...rendered(data),
        [`/usr/local/lib/systemd/system/${server}`]: "",
        [`/usr/local/lib/systemd/system/${agent}`]: "",
      };
      const wants = { [`/etc/systemd/system/multi-user.target.wants/${agent}`]: "" };
      expect(find({ ...files, ...wants }).layout.name).toBe(`${name}-agent`);
      const idle = [
        daemon(`/usr/local/bin/${name} server`, { active: false, unit: server }),
        daemon(`/usr/local/bin/${name} agent`, { active: false, unit: agent }),
      ];
      expect(find({ ...files, ...wants }, idle).layout.name).toBe(`${name}-agent`);
      expect(refusal(files, idle).hint).toContain(`--layout ${name}-server`);
      const runs = idle.map((each, at) => ({ ...each, active: at === 0 }));
      expect(find({ ...files, ...wants }, runs).layout.name).toBe(`${name}-server`);
    });

    test("is known by what runs, whatever its unit is called", () => {
      for (const [command, role] of [
        [`/usr/local/bin/${name} server --disable traefik`, "server"],
        [`/opt/bin/${name} --debug agent --node-label server=no`, "agent"],
        [`/var/lib/rancher/${name}/data/current/bin/${name}-server`, "server"],
        [`${name}-agent --token x`, "agent"],
      ] as const) {
        const found = find(rendered(data), [daemon(command, { unit: `${name}-blue.service` })]);
        expect(found.layout.name).toBe(`${name}-${role}`);
        expect(found.daemon?.unit).toBe(`${name}-blue.service`);
      }
    });

    test("keeps its way of being edited when its file is named by --config, and reads no other", () => {
      const file = `${data}/agent/etc/containerd/config.toml`;
      const files = { ...rendered(data), [`/etc/systemd/system/${server}`]: "", "/srv/own.toml": "" };
      const named = (config: string) => ({ config, configOption: "--config" });
      expect(find(files, [], named(file)).site).toEqual(find(files).site);
      expect(refusal(files, [], named("/srv/own.toml"))).toEqual({
        message: `Cannot use --config, as ${title} server has its containerd read a file that it writes itself: ${file}`,
        hint: "leave --config out",
      });
      // To look at a file it may be any.
      expect(find(files, [], { config: "/srv/own.toml" }).site.source).toBeUndefined();
      // Where no daemon says which folder it is, --config may.
      const elsewhere = "/srv/data/agent/etc/containerd";
      const { source } = find(files, [], named(`${elsewhere}/config.toml`)).site;
      expect(source).toMatchObject({
        kind: "rendered",
        dropIns: [`${elsewhere}/config-v3.toml.d`, `${elsewhere}/config.toml.d`],
      });
      const running = daemon(`/usr/bin/${name} server`);
      expect(refusal(files, [running], named(`${elsewhere}/config.toml`)).hint).toBe("leave --config out");
    });

    test("whose folder cannot be told is not guessed", () => {
      const word = "${WHERE}";
      for (const command of [
        `/usr/bin/${name} server --data-dir ${word}`,
        `/usr/bin/${name} server ${word}`,
      ]) {
        const told = [daemon(command, { unit: server })];
        expect(refusal(rendered(data), told)).toEqual({
          message: `Cannot tell which file ${title} writes, as ${server} (a process) starts it on a folder that cannot be told from here: ${word}`,
          hint: "pass --config with the file that it writes",
        });
        const config = `${data}/agent/etc/containerd/config.toml`;
        const { site } = find(rendered(data), told, { config, configOption: "--config" });
        expect(site).toEqual(find(rendered(data), [daemon(`/usr/bin/${name} server`)]).site);
      }
    });

    test("whose configuration this user may not read is not guessed either", () => {
      const folder = `/etc/rancher/${name}`;
      for (const denied of [folder, `${folder}/config.yaml`]) {
        const { host } = new MemoryNode("2.1.9", rendered(data));
        const blind: HostFiles = {
          ...host,
          exists: (path) => host.exists(path) || (path === folder && denied !== folder),
          read: (path) =>
            path === denied ? { kind: "unreadable", path, reason: "permission is denied" } : host.read(path),
        };
        const look = () => detect(blind, any, [daemon(`/usr/bin/${name} server`)], () => undefined);
        expect(look).toThrow("Cannot read this file, as permission is denied");
      }
    });

    test("that uses another engine is not edited", () => {
      const endpoint = "unix:///run/containerd/containerd.sock";
      const files = { ...rendered(data), "/etc/containerd/config.toml": "version = 3\n" };
      const yaml = `/etc/rancher/${name}/config.yaml`;
      const cases: [Record<string, string>, Daemon[]][] = [
        [files, [daemon(`/usr/bin/${name} server --container-runtime-endpoint=${endpoint}`)]],
        [
          { ...files, [yaml]: `container-runtime-endpoint: "${endpoint}"\n` },
          [daemon(`/usr/bin/${name} agent`)],
        ],
        [{ ...files, [yaml]: `container-runtime-endpoint: "${endpoint}"\n` }, []],
      ];
      for (const [files, daemons] of cases) {
        expect(find(files, daemons).layout.name).toBe("vanilla");
        const alone = { ...files };
        delete alone["/etc/containerd/config.toml"];
        const role = daemons[0]?.argv[1] ?? "server";
        expect(find(alone, daemons, { layout: `${name}-${role}` }).refusal).toMatchObject({
          why: `pods run by another engine: ${endpoint}`,
          hint: "leave --layout out",
        });
      }
      for (const [more, command] of [
        [{}, `/usr/bin/${name} server --docker`],
        [{ [yaml]: "docker: true\n" }, `/usr/bin/${name} server`],
      ] as const)
        expect(find({ ...rendered(data), ...more }, [daemon(command)]).refusal).toMatchObject({
          why: "pods run by another engine: docker",
          hint: `start ${title} without its option docker`,
        });
      expect(
        find(rendered(data), [daemon(`/usr/bin/${name} server --docker=false`)]).refusal,
      ).toBeUndefined();
    });

    test("is not seen in its other commands, or in a program of a similar name", () => {
      for (const command of [`/usr/local/bin/${name} kubectl get pods`, `/usr/bin/${name}d server`])
        expect(refusal({}, [daemon(command)], { version: undefined }).message).toContain(
          "Cannot find a container engine",
        );
    });

    test("keeps its tree where the daemon says, else where its configuration says", () => {
      const root = (...args: Parameters<typeof find>) => find(...args).site.rootFile;
      const at = (folder: string) => `${folder}/agent/etc/containerd/config.toml`;
      const config = { [`/etc/rancher/${name}/config.yaml`]: "data-dir: /configured/\n" };
      const unit = { [`/etc/systemd/system/${server}`]: "", [`/usr/local/bin/${name}`]: "" };
      const run = (rest: string, more: Partial<Daemon> = {}) => [daemon(`/bin/${name} server${rest}`, more)];
      expect(root({ ...unit })).toBe(at(data));
      expect(root({ ...unit, ...config })).toBe(at("/configured"));
      expect(root(config, run(" --data-dir /a --data-dir=/b"))).toBe(at("/b"));
      expect(root(config, run(" -d /c"))).toBe(at("/c"));
      expect(root(config, run(" -data-dir=/e"))).toBe(at("/e"));
      // The rendered import names the cleaned path, and the folder of drop-ins is known by that.
      expect(root(config, run(" --data-dir /f/../g//h/./"))).toBe(at("/g/h"));
      expect(root(config, run(" --data-dir ./i"))).toBe(at("/i"));
      // What its configuration says is put on the command line, which counts more than a variable.
      const named = { environment: { [`${prefix}_DATA_DIR`]: "/d" } };
      expect(root({}, run("", named))).toBe(at("/d"));
      expect(root(config, run("", named))).toBe(at("/configured"));
      expect(root(config, run(""))).toBe(at("/configured"));
      const other = { ...config, "/srv/own.yaml": "data-dir: /own\n" };
      expect(root(other, run(" --config /srv/own.yaml"))).toBe(at("/own"));
      const variable = { environment: { [`${prefix}_CONFIG_FILE`]: "/srv/own.yaml" } };
      expect(root(other, run("", variable))).toBe(at("/own"));
      expect(root(other, run(` --config /etc/rancher/${name}/config.yaml`, variable))).toBe(at("/own"));
      // A stopped one with its tree elsewhere.
      expect(root({ ...config, ...rendered("/configured"), "/configured/server/token": "" })).toBe(
        at("/configured"),
      );
    });

    test.each([
      "data-dir:\n  /x\n",
      "data-dir: >-\n  /x\n",
      "data-dir: &folder /x\n",
      "{data-dir: /x}\n",
      "  data-dir: /x\n  token: t\n",
    ])("is not guessed where its configuration names the folder in a way that is not read: %j", (yaml) => {
      const path = `/etc/rancher/${name}/config.yaml`;
      // One is left of the time before the data folder was moved.
      const files = { ...rendered(data), ...rendered("/x"), [path]: yaml };
      const told = [daemon(`/usr/bin/${name} server`, { unit: server })];
      expect(refusal(files, told)).toEqual({
        message: `Cannot tell which file ${title} writes, as ${server} (a process) starts it on a folder that cannot be told from here: \${data-dir in ${path}}`,
        hint: "pass --config with the file that it writes",
      });
      const config = "/x/agent/etc/containerd/config.toml";
      expect(find(files, told, { config, configOption: "--config" }).site.rootFile).toBe(config);
    });

    test("reads data-dir out of plain YAML, the last file's", () => {
      const folder = `/etc/rancher/${name}`;
      const unit = { [`/etc/systemd/system/${server}`]: "" };
      const data = (yaml: string, more: Record<string, string> = {}) =>
        find({ ...unit, [`${folder}/config.yaml`]: yaml, ...more }).site.rootFile.replace(/\/agent\/.*/, "");
      for (const yaml of [
        "data-dir: /x",
        "token: t\r\ndata-dir:   /x   # moved\r\n",
        '"data-dir": "/x"\n',
        "data-dir: '/x' # it's ours\n",
        "tls-san:\n  - data-dir: /no\n# data-dir: /no\ndata-dir: /x\nx-data-dir: /no\n",
        "data-dir: /no\ndata-dir+: /x\n",
        // As tools write it.
        '{"token":"t","data-dir":"/x"}',
      ])
        expect(data(yaml)).toBe("/x");
      expect(data("data-dir: /with space#hash\n")).toBe("/with space#hash");
      for (const yaml of ["token: t\n", "data-dir:\ntoken: t\n", 'data-dir: ""\n', '{"data-dir":null}'])
        expect(data(yaml)).toBe(`/var/lib/rancher/${name}`);
      expect(data("data-dir: /x\n", { [`${folder}/config.yaml.d/10.yaml`]: "data-dir: /y\n" })).toBe("/y");
      expect(data("data-dir: /x\n", { [`${folder}/config.yaml.d/10.txt`]: "data-dir: /y\n" })).toBe("/x");
    });
  });
}

test("a node with k3s and containerd from packages is not guessed: k3s where it runs, else each is named", () => {
  const files = {
    ...rendered("/var/lib/rancher/k3s"),
    "/etc/systemd/system/k3s.service": "",
    "/etc/containerd/config.toml": 'disabled_plugins = ["cri"]\n',
  };
  expect(refusal(files).hint).toBe("pass --layout vanilla or --layout k3s-server");
  expect(find(files, [daemon("/usr/local/bin/k3s server")]).layout.name).toBe("k3s-server");
  // docker's; k3s may be stopped for the moment.
  expect(refusal(files, [daemon("/usr/bin/containerd")]).hint).toBe(refusal(files).hint);
});

test("a version string of k3s' containerd without the word k3s says nothing: it is never looked at", () => {
  const { site } = find(
    { ...rendered("/var/lib/rancher/k3s"), "/etc/systemd/system/k3s.service": "", "/usr/local/bin/k3s": "" },
    [],
    { version: "2.1.5" },
  );
  expect([site.layout, site.version?.source]).toEqual(["k3s-server", "--engine-version"]);
});

test("a process that hides its arguments behind a title is known by it, and not its containerd in its place", () => {
  const files = rendered("/var/lib/rancher/k3s");
  for (const role of ["server", "agent"]) {
    const hidden = { ...daemon(""), argv: [`/usr/local/bin/k3s ${role}`, "", ""] };
    expect(find(files, [hidden]).layout.name).toBe(`k3s-${role}`);
  }
  for (const argv of [["/usr/local/bin/k3s kubectl"], ["/usr/local/bin/k3s server", "x"]])
    expect(refusal(files, [{ ...daemon(""), argv }]).message).toContain("Cannot tell which of");
});

test("a process that hides its arguments keeps its tree where its containerd was told", () => {
  const config = "/data/k3s/agent/etc/containerd/config.toml";
  const files = { ...rendered("/var/lib/rancher/k3s"), [config]: "version = 3\n" };
  const hidden = { ...daemon(""), argv: ["/usr/local/bin/k3s server"] };
  const startedOne = ["containerd", "-c", config, "-a", "/run/k3s/containerd/containerd.sock"];
  expect(find(files, [{ ...hidden, startedOne }]).site.rootFile).toBe(config);
});

test("words of the command line that nobody can tell may name another data folder: it is asked for", () => {
  const unit = { ...rendered("/var/lib/rancher/k3s"), ...rendered("/data/k3s") };
  const run = (...rest: string[]) => [
    daemon("", {
      argv: ["/usr/local/bin/k3s", "server", ...rest],
      unit: "k3s.service",
      source: "/x/k3s.service",
    }),
  ];
  for (const rest of [["${ARGS}"], ["--data-dir", "${DIR}"], ["-c", "${FILE}"]])
    expect(refusal(unit, run(...rest))).toEqual({
      message: `Cannot tell which file k3s writes, as k3s.service (/x/k3s.service) starts it on a folder that cannot be told from here: ${rest.at(-1)}`,
      hint: "pass --config with the file that it writes",
    });
  expect(find(unit, run("--token", "${TOKEN}")).site.rootFile).toStartWith("/var/lib/rancher/k3s/");
  const named = { config: "/data/k3s/agent/etc/containerd/config.toml", configOption: "--config" };
  const { site } = find(unit, run("${ARGS}"), named);
  expect([site.rootFile, site.source?.kind]).toEqual([named.config, "rendered"]);
});
