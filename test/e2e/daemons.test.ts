import { describe, expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { Node, type Ran } from "../support/node.ts";

const units = "/usr/lib/systemd/system";
const containerd = (command = "/usr/bin/containerd", ...more: string[]) =>
  ["[Service]", ...more, `ExecStart=${command}`, ""].join("\n");

/** A node with units, whose configuration is `version = 3`. */
function nodeWith(files: Readonly<Record<string, string>>): Node {
  const node = new Node("2.1.9", "version = 3\n");
  for (const [path, text] of Object.entries(files)) node.place(path, text);
  return node;
}

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly path: string | undefined;
  readonly hint: string | undefined;
}

function refusal(ran: Ran): Refusal {
  const { code, message, path, hint } = ran.json()["error"] as Refusal;
  return { code, message, path, hint };
}

async function layoutOf(node: Node): Promise<{ name: string; evidence: string[] }> {
  return (await node.run(["status", "--json"])).json()["layout"] as { name: string; evidence: string[] };
}

describe("a unit that starts the engine", () => {
  test("is named as evidence, with what it says about files and nothing that may be a secret", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd(
        "/usr/bin/containerd --address /run/a.sock --log-level hunter2",
      ),
    });
    const words = `${units}/containerd.service: containerd --address /run/a.sock …`;
    expect(await layoutOf(node)).toMatchObject({
      name: "vanilla",
      evidence: [words, "/etc/containerd/config.toml", "SHIMCTL_ENGINE_VERSION 2.1.9"],
    });
    const human = (await node.run(["status"])).out;
    expect(human).toContain(`layout    vanilla (by ${words}, `);
    expect(human).not.toContain("hunter2");
  });

  test("on another file is refused before anything is written, with the unit, its drop-in and the option", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd(
        "/usr/bin/containerd --config ${CONTAINERD_CONFIG}",
        "Environment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml",
      ),
      "/etc/systemd/system/containerd.service.d/10-own.conf":
        "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/own.toml\n",
      "/etc/containerd/own.toml": "version = 3\n",
    });
    const before = node.tree();
    for (const command of [["install", "crun"], ["status"], ["diff", "install", "crun"]])
      expect(refusal(await node.run([...command, "--json"]))).toEqual({
        code: "unsupported-node",
        message: `Cannot use this configuration, as containerd.service (${units}/containerd.service, /etc/systemd/system/containerd.service.d/10-own.conf) starts containerd on another file: /etc/containerd/own.toml`,
        path: "/etc/containerd/config.toml",
        hint: "pass --config /etc/containerd/own.toml",
      });
    expect(node.tree()).toEqual(before);
    const installed = await node.run(["install", "crun", "--config", "/etc/containerd/own.toml"]);
    expect(installed.code).toBe(0);
    expect(node.text("/etc/containerd/config.toml")).toBe("version = 3\n");
  });

  test("is right against a --config that names another file than it does, or than the engine's own default", async () => {
    using node = nodeWith({ [`${units}/containerd.service`]: containerd() });
    node.place("/etc/other.toml", "version = 3\n");
    const before = node.tree();
    expect(refusal(await node.run(["install", "crun", "--config", "/etc/other.toml", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot use --config, as containerd.service (${units}/containerd.service) starts containerd on another file: /etc/containerd/config.toml`,
      path: "/etc/other.toml",
      hint: "pass --config /etc/containerd/config.toml",
    });
    expect(node.tree()).toEqual(before);
    // To look at a file it need not be the engine's.
    expect((await node.run(["check", "/etc/other.toml"])).code).toBe(0);
  });

  test.each(["/etc//containerd/./config.toml", "/etc/containerd/config.toml/", "/etc/link.toml"])(
    "is changed the same way by any path of its file: %s",
    async (path) => {
      using node = new Node("2.1.9", "version = 3\n");
      symlinkSync("containerd/config.toml", `${node.root}/etc/link.toml`);
      const before = node.tree();
      expect((await node.run(["install", "crun", "--config", path])).code).toBe(0);
      expect((await node.run(["install", "kata-qemu"])).out).toStartWith("installed kata-qemu\n");
      expect((await node.run(["uninstall", "--all", "--config", path])).out).toStartWith(
        "removed crun, kata-qemu\n",
      );
      const after = node.tree();
      for (const [name, content] of Object.entries(before)) expect(after[name]).toBe(content);
      expect(Object.keys(after).filter((name) => name.includes("50-shimctl"))).toEqual([]);
    },
  );

  test("that is only a template is none", async () => {
    using node = nodeWith({ [`${units}/containerd@.service`]: containerd("/usr/bin/containerd -c /etc/%i") });
    expect((await node.run(["install", "crun"])).code).toBe(0);
  });

  test("may name the same file by another path", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd("/usr/bin/containerd -c=/etc/link.toml"),
    });
    symlinkSync("containerd/config.toml", `${node.root}/etc/link.toml`);
    expect((await node.run(["install", "crun"])).code).toBe(0);
  });

  test("on a file that cannot be told is refused until --config says which", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd(
        "/usr/bin/containerd --config=${WHERE}",
        "EnvironmentFile=/run/*.env",
      ),
    });
    expect(refusal(await node.run(["install", "crun", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot tell which file containerd reads, as containerd.service (${units}/containerd.service) starts containerd on one that cannot be told from here: \${WHERE}`,
      path: "/etc/containerd/config.toml",
      hint: "pass --config with the file that it reads",
    });
    expect((await node.run(["install", "crun", "--config", "/etc/containerd/config.toml"])).code).toBe(0);
  });

  test("reads its variables from a file that is named for it", async () => {
    const unit = "/etc/systemd/system/k3s-edge.service";
    const text = containerd(
      "/usr/local/bin/k3s server",
      "EnvironmentFile=-/etc/default/%N",
      "EnvironmentFile=-/etc/sysconfig/%n",
    );
    for (const [file, more] of [
      ["/etc/default/k3s-edge", {}],
      ["/etc/sysconfig/k3s-edge.service", { "/etc/default/k3s-edge": "K3S_DATA_DIR=/var/lib/rancher/k3s\n" }],
    ] as const) {
      using node = new Node("2.1.9");
      const rendered = (data: string) => `${data}/agent/etc/containerd/config.toml`;
      // One is left of the time before the data folder was moved.
      for (const data of ["/var/lib/rancher/k3s", "/data/k3s"]) node.place(rendered(data), "version = 3\n");
      for (const [path, content] of Object.entries({
        [unit]: text,
        ...more,
        [file]: "K3S_DATA_DIR=/data/k3s\n",
      }))
        node.place(path, content);
      const status = await node.run(["status"]);
      expect(status.out).toContain(`version 3: ${rendered("/data/k3s")}\n`);
    }
  });

  test.each([
    ["/usr/bin/containerd --config ${UNSET}", "containerd"],
    ["/usr/bin/containerd --config=", "containerd"],
  ])("on no file at all is refused, with --config too: %s", async (command) => {
    using node = nodeWith({ [`${units}/containerd.service`]: containerd(command) });
    for (const more of [[], ["--config", "/etc/containerd/config.toml"]])
      expect(refusal(await node.run(["install", "crun", "--json", ...more]))).toEqual({
        code: "unsupported-node",
        message: `Cannot use this configuration, as containerd.service (${units}/containerd.service) starts containerd on no file: its --config is empty`,
        path: "/etc/containerd/config.toml",
        hint: `name the file behind --config in ${units}/containerd.service`,
      });
  });

  test.each([
    "/opt/start-containerd",
    "/bin/bash /opt/start-containerd.sh",
    "/usr/bin/nice -n 5 /usr/bin/containerd --config /etc/other.toml",
    "/bin/sh -c 'exec /usr/bin/containerd --config $(cat /where)'",
  ])("through a program that may say anything is refused until --config says which: %s", async (command) => {
    using node = nodeWith({ [`${units}/containerd.service`]: containerd(command) });
    const before = node.tree();
    expect(refusal(await node.run(["install", "crun", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot tell which file containerd reads, as containerd.service (${units}/containerd.service) starts another program, which may name any: ${command.split(" ")[0]}`,
      path: "/etc/containerd/config.toml",
      hint: "pass --config with the file that it reads",
    });
    expect(node.tree()).toEqual(before);
    const config = ["--config", "/etc/containerd/config.toml"];
    expect((await node.run(["install", "crun", ...config])).code).toBe(0);
    expect((await node.run(["check", "/etc/containerd/config.toml"])).code).toBe(0);
  });

  test("on a file whose name a terminal would act on is shown without that", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd("/usr/bin/containerd -c '/etc/\\x1b[31mred.toml'"),
    });
    const { code, err } = await node.run(["install", "crun"]);
    expect(code).toBe(6);
    expect(err).toContain("on one that cannot be told from here: /etc/?[31mred.toml\n");
    expect((await node.run(["status", "--config", "/etc/containerd/config.toml"])).out).toContain(
      "containerd -c /etc/?[31mred.toml",
    );
  });

  test("on a file whose name a shell would split is named so that a shell takes it", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd("/usr/bin/containerd -c '/etc/my own/it.toml'"),
    });
    const { hint } = refusal(await node.run(["install", "crun", "--json"]));
    expect(hint).toBe("pass --config '/etc/my own/it.toml'");
  });

  test.each([
    [
      "Environment=CONTAINER_CONFIG_DIR=/etc/z.d",
      "/usr/bin/crio",
      "CONTAINER_CONFIG_DIR",
      "another one: /etc/z.d",
    ],
    ["Environment=A=b", "/usr/bin/crio --config-dir=", "--config-dir", "none: its --config-dir is empty"],
  ])("of CRI-O that moves its folder of drop-ins is refused: %s", async (line, command, what, found) => {
    using node = new Node("1.36.3");
    node.place("/etc/crio/crio.conf.d/10-crio.conf", "[crio]\n");
    node.place(`${units}/crio.service`, containerd(command, line));
    expect(refusal(await node.run(["install", "crun", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot use this folder of drop-ins, as crio.service (${units}/crio.service) starts crio on ${found}`,
      path: "/etc/crio/crio.conf.d",
      hint: `take ${what} out of ${units}/crio.service`,
    });
  });

  test("of CRI-O with another folder of drop-ins is refused", async () => {
    using node = new Node("1.36.3");
    node.place("/etc/crio/crio.conf.d/10-crio.conf", "[crio]\n");
    node.place(
      `${units}/crio.service`,
      containerd("/usr/bin/crio $OPTIONS", "EnvironmentFile=-/etc/default/crio"),
    );
    node.place("/etc/default/crio", 'OPTIONS="--config-dir /etc/other.d"\n');
    expect(refusal(await node.run(["install", "crun", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot use this folder of drop-ins, as crio.service (${units}/crio.service) starts crio on another one: /etc/other.d`,
      path: "/etc/crio/crio.conf.d",
      hint: "take --config-dir out of /etc/default/crio",
    });
  });

  test("of CRI-O on a root file elsewhere reads the usual folder of drop-ins all the same", async () => {
    using node = new Node("1.36.3");
    node.place("/etc/other/crio.conf", "[crio]\n");
    node.place("/etc/crio/crio.conf.d/10-crio.conf", "[crio.runtime.runtimes.theirs]\n");
    node.place(`${units}/crio.service`, containerd("/usr/bin/crio --config /etc/other/crio.conf"));
    const options = ["--config", "/etc/other/crio.conf"];
    const before = node.tree();
    expect((await node.run(["install", "kata-qemu", ...options])).code).toBe(0);
    expect(node.text("/etc/crio/crio.conf.d/50-shimctl-default.conf")).toContain("kata-qemu");
    expect((await node.run(["status", ...options])).out).toContain("theirs");
    // One of its files can still be looked at alone.
    expect((await node.run(["check", "/etc/crio/crio.conf.d/10-crio.conf"])).code).toBe(0);
    expect((await node.run(["uninstall", "--all", ...options])).code).toBe(0);
    for (const [path, content] of Object.entries(before)) expect(node.tree()[path]).toBe(content);
  });

  test("under any name is found in the administrator's folder, and its binary is the one whose version counts", async () => {
    using node = nodeWith({ "/etc/systemd/system/kube-engine.service": containerd("/opt/bin/containerd") });
    expect((await layoutOf(node)).evidence[0]).toBe("/etc/systemd/system/kube-engine.service: containerd");
  });

  test("that is masked, or starts something else, says nothing", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd("/usr/bin/containerd -c /other.toml"),
    });
    node.place("/etc/systemd/system/containerd.service", "");
    expect((await node.run(["install", "crun"])).code).toBe(0);
    using another = nodeWith({
      [`${units}/containerd.service`]: containerd("/usr/bin/containerd config dump -c /other.toml"),
    });
    expect((await another.run(["install", "crun"])).code).toBe(0);
  });
});

describe("two engines on one node", () => {
  test("are refused with what speaks for each, where nobody can tell which one runs", async () => {
    using node = nodeWith({
      [`${units}/containerd.service`]: containerd(),
      [`${units}/crio.service`]: containerd("/usr/bin/crio"),
    });
    const before = node.tree();
    expect(refusal(await node.run(["install", "crun", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot choose between two engines on this node: ${units}/containerd.service: containerd and ${units}/crio.service: crio`,
      path: undefined,
      hint: "pass --engine containerd or --engine crio",
    });
    expect(node.tree()).toEqual(before);
    expect((await node.run(["install", "crun", "--engine", "containerd"])).code).toBe(0);
  });

  test("are no layout that was not found", async () => {
    using node = nodeWith({ [`${units}/containerd.service`]: containerd() });
    expect(refusal(await node.run(["install", "crun", "--layout", "crio", "--json"]))).toEqual({
      code: "unsupported-node",
      message: `Cannot use --layout crio, as this node is containerd from packages: ${units}/containerd.service: containerd`,
      path: undefined,
      hint: "pass --layout vanilla, or leave it out",
    });
  });
});
