import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { ShimctlError } from "../../src/error.ts";
import type { HostFiles } from "../../src/host/host.ts";
import { partsOf } from "../../src/host/mounts.ts";
import { openHost } from "../../src/host/root.ts";
import { engineSettings, isEngine, shownCommand } from "../../src/layout/command_line.ts";
import { detect } from "../../src/layout/detect.ts";
import { settleMade } from "../../src/layout/elsewhere.ts";
import type { Daemon, Wish } from "../../src/layout/layout.ts";
import { layouts } from "../../src/layout/registry.ts";

const roots: string[] = [];
afterAll(() => {
  for (const root of roots) rmSync(root, { recursive: true });
});

function hostWith(...paths: readonly string[]): HostFiles {
  const root = mkdtempSync(`${tmpdir()}/shimctl-detect-`);
  roots.push(root);
  for (const path of paths) {
    mkdirSync(dirname(root + path), { recursive: true });
    writeFileSync(root + path, "");
  }
  return openHost(root);
}

/** The same where only these folders of it are mounted. */
function partly(host: HostFiles, ...mounted: readonly string[]): HostFiles {
  const isOfNode = partsOf(
    host.root,
    mounted.map((path) => host.root + path),
  );
  return { ...host, unmounted: (path) => (isOfNode?.(host.root + path) === true ? undefined : path) };
}

const daemon = (unit: string | undefined, active: boolean | undefined, ...argv: string[]): Daemon => ({
  unit,
  argv,
  environment: {},
  active,
  source: unit === undefined ? "/proc/9" : `${unit}, over D-Bus`,
});

const any: Wish = { engine: "auto", config: undefined, version: undefined };

function found(host: HostFiles, daemons: readonly Daemon[], wish: Partial<Wish> = {}) {
  try {
    const {
      layout,
      places,
      daemon: own,
      evidence,
    } = detect(host, { ...any, ...wish }, daemons, () => undefined);
    return { name: layout.name, socket: places.socket, unit: own?.unit, evidence };
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    return { refused: error.message, hint: error.facts.hint };
  }
}

const both = ["/etc/containerd/config.toml", "/etc/crio/crio.conf"] as const;

describe("of two engines", () => {
  const containerd = (active: boolean | undefined) =>
    daemon("containerd.service", active, "/usr/bin/containerd");
  const crio = (active: boolean | undefined) => daemon("crio.service", active, "/usr/bin/crio");

  test("the one that runs is meant where the other does not", () => {
    expect(found(hostWith(...both), [containerd(true), crio(false)])).toMatchObject({ name: "vanilla" });
    expect(found(hostWith(...both), [crio(true), containerd(false)])).toMatchObject({
      name: "crio",
      evidence: ["crio.service, over D-Bus: crio", "/etc/crio/crio.conf"],
    });
    expect(found(hostWith(...both), [crio(true)])).toMatchObject({ name: "crio" });
  });

  test("none is chosen where both run, none does, or nobody can tell of one", () => {
    for (const daemons of [
      [],
      [containerd(true), crio(true)],
      [containerd(false), crio(false)],
      [crio(true), containerd(undefined)],
    ])
      expect(found(hostWith(...both), daemons)).toMatchObject({
        refused: expect.stringMatching(/^Cannot choose between two engines on this node: /),
        hint: "pass --engine containerd or --engine crio",
      });
  });

  test("one that is stopped is found by what it left, also where nothing runs", () => {
    expect(found(hostWith(), [crio(false)])).toMatchObject({
      name: "crio",
      evidence: ["crio.service, over D-Bus (stopped): crio"],
    });
  });
});

describe("of two daemons of one engine", () => {
  const one = daemon("containerd.service", true, "/usr/bin/containerd");
  const other = daemon("edge.service", true, "/usr/bin/containerd", "-a", "/run/edge.sock");

  test("the one that runs, that a unit starts, or that is named is meant", () => {
    const host = hostWith();
    expect(found(host, [other, { ...one, active: false }])).toMatchObject({
      unit: "edge.service",
      socket: "/run/edge.sock",
    });
    expect(found(host, [other, { ...one, unit: undefined }])).toMatchObject({ unit: "edge.service" });
    expect(found(host, [one, other], { unit: "edge" })).toMatchObject({ unit: "edge.service" });
    expect(
      found(host, [
        { ...other, active: false },
        { ...one, active: false },
      ]),
    ).toMatchObject({
      unit: "containerd.service",
    });
  });

  test("none is chosen where both run", () => {
    expect(found(hostWith(), [one, other])).toEqual({
      refused:
        "Cannot choose between 2 daemons of containerd from packages on this node: containerd.service, over D-Bus: containerd and edge.service, over D-Bus: containerd -a /run/edge.sock",
      hint: "pass --unit containerd.service or --unit edge.service",
    });
  });

  test("without units, each is told by the file that it reads, as the hint says", () => {
    const host = hostWith("/etc/containerd/config.toml", "/etc/own.toml");
    const plain = daemon(undefined, true, "/usr/bin/containerd");
    const own = daemon(undefined, true, "/usr/bin/containerd", "-c", "/etc/own.toml", "-a", "/run/own.sock");
    expect(found(host, [plain, own])).toMatchObject({
      hint: "pass --config /etc/containerd/config.toml or --config /etc/own.toml",
    });
    const given = (config: string) => ({ config, configOption: "--config" });
    expect(found(host, [plain, own], given("/etc/own.toml"))).toMatchObject({ socket: "/run/own.sock" });
    expect(found(host, [plain, own], given("/etc/containerd/config.toml"))).toMatchObject({
      socket: "/run/containerd/containerd.sock",
    });
    expect(found(host, [plain, { ...plain, source: "/proc/10" }])).toMatchObject({
      hint: "stop those that the kubelet does not use",
    });
    // With units, too, the file that is named says which is meant.
    const stopped = [one, { ...own, unit: "own.service" }].map((each) => ({ ...each, active: false }));
    expect(found(host, stopped, given("/etc/own.toml"))).toMatchObject({ unit: "own.service" });
  });
});

test("a file that something else makes is settled by who makes it, whatever it is made of", () => {
  const [layout] = layouts;
  const rootFile = "/snap/args/containerd-template.toml";
  const source = { kind: "template", by: "a snap" } as const;
  if (layout === undefined) throw new Error("no layout");
  const settle = (config?: string, configOption?: string) =>
    settleMade(
      hostWith(rootFile, "/snap/args/containerd.toml"),
      layout,
      undefined,
      { rootFile, source, socket: "/run/a.sock", binaries: [] },
      { ...any, config, configOption },
    );
  expect(settle()).toMatchObject({ rootFile, source });
  expect(settle(rootFile, "--config")).toMatchObject({ rootFile, source });
  expect(() => settle("/snap/args/containerd.toml", "--config")).toThrow(
    `Cannot use --config, as ${layout.title} has its containerd read a file that it writes itself, made of this one: ${rootFile}`,
  );
  // To look at a file it may be any.
  expect(settle("/snap/args/containerd.toml")).toEqual({ rootFile: "/snap/args/containerd.toml" });
});

test("variables that nobody can see may name another file", () => {
  const crio = daemon("crio.service", true, "/usr/bin/crio", "${CRIO_CONFIG_OPTIONS}", "--debug");
  expect(found(hostWith(), [crio])).toEqual({
    refused:
      "Cannot tell which file crio reads, as crio.service (over D-Bus) starts crio on one that cannot be told from here: ${CRIO_CONFIG_OPTIONS}",
    hint: "pass --config with the file that it reads",
  });
  const given = { config: "/etc/crio/crio.conf", configOption: "--config" };
  expect(found(hostWith(), [crio], given)).toMatchObject({ name: "crio" });
});

describe("where only parts of the node are mounted", () => {
  for (const layout of layouts) {
    const { rootFile, socket } = layout.places(hostWith(), undefined);
    const folder = dirname(rootFile);
    const run = dirname(socket);
    const named = { layout: layout.name };

    test(`${layout.name} is not guessed from files: what only a running engine leaves must speak for it`, () => {
      const host = partly(hostWith(rootFile, `${run}/other`), folder, run);
      expect(found(host, [], { engine: layout.engine })).toHaveProperty("refused");
    });

    test(`${layout.name} is refused where its configuration or its socket is not mounted`, () => {
      const host = hostWith();
      for (const [mounted, missing] of [
        [[run], folder],
        [[folder], run],
      ] as const)
        expect(found(partly(host, "/somewhere", ...mounted), [], named)).toEqual({
          refused: `Cannot use this node, as its ${missing} is not mounted below ${host.root}`,
          hint: `mount the node's ${missing} at ${host.root}${missing}`,
        });
    });
  }

  test.each([
    ["k3s", { unseen: ["/etc/default/k3s"] }, ["/etc/rancher/k3s"], "/etc/default/k3s"],
    ["rke2", {}, [], "/etc/rancher/rke2"],
  ] as const)("%s may have its tree elsewhere, which --config says", (name, more, mounted, unseen) => {
    const [usual, moved] = ["/var/lib/rancher", "/data"].map(
      (data) => `${data}/${name}/agent/etc/containerd`,
    );
    const config = `${moved}/config.toml`;
    const host = hostWith(
      config,
      `${usual}/other`,
      "/run/k3s/containerd/containerd.sock",
      "/etc/rancher/k3s/x",
    );
    const running = { ...daemon("any.service", true, `/usr/bin/${name}`, "agent"), ...more };
    const all = ["/var/lib/rancher", "/data", "/run", "/usr/lib", ...mounted];
    expect(found(partly(host, ...all), [running])).toEqual({
      refused: `Cannot tell which file ${name === "k3s" ? "k3s" : "RKE2"} writes, as this one is not there, and what may name another cannot be seen: ${unseen}`,
      hint: `pass --config with the file that it writes, or start ${name === "k3s" ? "k3s" : "RKE2"} once where that is this one`,
    });
    expect(found(partly(host, ...all), [running], { config, configOption: "--config" })).toMatchObject({
      name: `${name}-agent`,
    });
  });

  test("the refusal names what was found, and what would tell", () => {
    const host = hostWith("/etc/containerd/config.toml", "/run/containerd/other");
    const mounted = ["/etc/containerd", "/run/containerd"];
    expect(found(partly(host, ...mounted), [])).toEqual({
      refused: `Cannot tell whether containerd from packages runs on this node, as only parts of it are mounted below ${host.root} and none of them shows a running engine: /etc/containerd/config.toml`,
      hint: `mount the node's /run/dbus at ${host.root}/run/dbus, or pass --layout vanilla`,
    });
    expect(found(partly(host, ...mounted, "/run/dbus"), [])).toMatchObject({
      hint: "start the engine, or pass --layout vanilla",
    });
    expect(found(partly(host, ...mounted), [], { layout: "vanilla" })).toMatchObject({ name: "vanilla" });
    const none = partly(hostWith(), "/etc", "/run");
    expect(found(none, [])).toMatchObject({
      refused: expect.stringContaining("Cannot find a container engine below "),
      hint: `mount the folders of the node's engine below ${none.root}: its configuration, and that of its socket`,
    });
  });

  test("a socket speaks for its engine", () => {
    const host = hostWith("/etc/containerd/config.toml", "/run/containerd/containerd.sock");
    const mounted = ["/etc/containerd", "/run", "/usr/lib"];
    expect(found(partly(host, ...mounted), [])).toMatchObject({ name: "vanilla" });
  });

  test("a running unit speaks for its engine", () => {
    const host = partly(hostWith("/etc/containerd/config.toml"), "/etc/containerd", "/run", "/usr/lib");
    const running = daemon("containerd.service", true, "/usr/bin/containerd");
    expect(found(host, [running])).toMatchObject({ name: "vanilla" });
    expect(found(host, [{ ...running, active: false }])).toHaveProperty("refused");
  });
});

describe("a command line", () => {
  test("says where the engine's files are, in every spelling, the last one counting, a flag before a variable", () => {
    for (const argv of [
      ["-c", "/x"],
      ["--config", "/x"],
      ["--config=/x"],
      ["-config=/x"],
      ["--config", "/y", "-c", "/x", "--log-level", "debug"],
    ])
      expect(engineSettings("containerd", daemon("a", true, "/usr/bin/containerd", ...argv))).toEqual({
        config: "/x",
      });
    const crio = daemon("a", true, "crio", "--listen=/s", "-d", "/d");
    expect(
      engineSettings("crio", { ...crio, environment: { CONTAINER_CONFIG: "/e", CONTAINER_LISTEN: "/t" } }),
    ).toEqual({ config: "/e", configDir: "/d", socket: "/s" });
    expect(engineSettings("containerd", daemon("a", true, "k3s", "-c", "/x"))).toBeUndefined();
  });

  test("with one of the engine's other commands is no daemon", () => {
    expect(isEngine("containerd", ["/usr/bin/containerd", "--log-level", "config"])).toBe(true);
    expect(
      isEngine("containerd", ["/usr/bin/containerd", "--address", "/s", "publish", "--topic", "/x"]),
    ).toBe(false);
    expect(isEngine("crio", ["crio", "config", "--default"])).toBe(false);
    expect(isEngine("crio", ["crio", "--log-level", "info"])).toBe(true);
    expect(isEngine("containerd", ["/usr/bin/containerd-shim-runc-v2"])).toBe(false);
  });

  test("is shown without anything that may be a secret", () => {
    expect(
      shownCommand([
        "/usr/local/bin/k3s",
        "server",
        "--token",
        "hunter2",
        "--data-dir",
        "/data",
        "--token=hunter2",
        "hunter2",
      ]),
    ).toBe("k3s server --data-dir /data …");
    expect(shownCommand(["k3s", "agent"])).toBe("k3s agent");
  });
});
