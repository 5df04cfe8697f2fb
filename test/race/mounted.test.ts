import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { openHost } from "../../src/host/root.ts";
import { layouts } from "../../src/layout/registry.ts";
import { compiled } from "../support/binary.ts";
import { whyNot } from "../support/needs.ts";
import { treeOf } from "../support/tree.ts";

const problem = whyNot("partly mounted nodes", { root: true, programs: ["unshare", "mount"] });

const made: string[] = [];
afterAll(() => {
  for (const folder of made) rmSync(folder, { recursive: true, force: true });
});

function folderFor(what: string): string {
  const folder = mkdtempSync(`${tmpdir()}/shimctl-${what}-`);
  made.push(folder);
  return folder;
}

/** The folders of a node and, beside it, the empty one of an image in which some of them are mounted. */
class Mounted {
  readonly node = folderFor("node");
  readonly image = folderFor("image");

  place(path: string, text = ""): void {
    mkdirSync(dirname(this.node + path), { recursive: true });
    writeFileSync(this.node + path, text);
  }

  link(path: string, target: string): void {
    mkdirSync(dirname(this.node + path), { recursive: true });
    symlinkSync(target, this.node + path);
  }

  /** Runs a command as a pod does that has mounted these folders of the node, each at its place below /host. */
  document(mounts: readonly string[], ...args: readonly string[]): Document {
    for (const path of mounts) mkdirSync(this.node + path, { recursive: true });
    const script = [
      ...mounts.map((path) => `mkdir -p "$IMAGE${path}" && mount --bind "$NODE${path}" "$IMAGE${path}"`),
      'exec "$SHIMCTL" "$@" --root "$IMAGE" --json',
    ].join("\n");
    const { stdout } = spawnSync("unshare", ["--mount", "sh", "-euc", script, "sh", ...args], {
      encoding: "utf8",
      env: { PATH: process.env["PATH"], NODE: this.node, IMAGE: this.image, SHIMCTL: compiled() },
    });
    return JSON.parse(stdout.replaceAll(this.image, "/host")) as Document;
  }

  /** The same, for how it ended. */
  run(mounts: readonly string[], ...args: readonly string[]): Answer {
    const { result, error } = this.document(mounts, ...args);
    if (error === null || error === undefined) return { result };
    const { message, path, hint } = error;
    return { result, error: { message, path, hint } };
  }

  /** What is on the node, and what is in the image and no mount. */
  trees(): unknown {
    return [treeOf(this.node), treeOf(this.image)];
  }
}

interface Answer {
  readonly result: string;
  readonly error?: { readonly message: string; readonly path: string | undefined; readonly hint: string };
}

interface Document extends Omit<Answer, "error"> {
  readonly error: Answer["error"] | null;
  readonly warnings: readonly { readonly message: string }[];
}

const config = "/etc/containerd/config.toml";
const socket = "/run/containerd/containerd.sock";
const own = ["/var/lib/shimctl", "/run/shimctl", "/run/lock"] as const;
const all = ["/etc/containerd", "/run/containerd", ...own] as const;
const without = (path: string) => all.filter((each) => each !== path);

/** A node of containerd whose socket is there, as far as anybody sees. */
function vanilla(text = "version = 3\n"): Mounted {
  const node = new Mounted();
  node.place(config, text);
  node.place(socket);
  node.place("/usr/bin/crun");
  return node;
}

const install = ["install", "crun", "--engine-version", "2.1.9", "--no-restart", "--allow-missing"] as const;

describe.skipIf(problem !== undefined)("where some folders of a node are mounted", () => {
  test("a change is made on the node where all that it needs is there, and nothing is left in the image", async () => {
    const node = vanilla();
    rmSync(node.node + socket);
    const server = createServer().listen(node.node + socket);
    try {
      const before = treeOf(`${node.node}/etc`);
      expect(node.run(all, ...install, "--restart", "none")).toEqual({ result: "changed" });
      expect(treeOf(`${node.node}/etc`)).not.toEqual(before);
      expect(node.run(all, "uninstall", "--all", "--engine-version", "2.1.9", "--no-restart")).toEqual({
        result: "changed",
      });
      expect(treeOf(`${node.node}/etc`)).toEqual(before);
    } finally {
      server.close();
    }
  });

  test("a program that is not mounted is not taken for absent, and one that is not there still is", () => {
    const node = vanilla();
    const args = [...install.filter((word) => word !== "--allow-missing"), "--dry-run"];
    expect(node.document(all, ...args).warnings.map(({ message }) => message)).toEqual([
      "Whether the binary of handler 'crun' is on the host cannot be seen, as its folder is not mounted below /host: /usr/bin/crun",
    ]);
    rmSync(`${node.node}/usr/bin/crun`);
    expect(node.run([...all, "/usr", "/opt"], ...args).error?.message).toStartWith(
      "Cannot install handler 'crun', as its binary is not on the host: ",
    );
  });

  const missing: Readonly<Record<string, readonly [message: string, hint: string]>> = {
    "/etc/containerd": [
      "Cannot use this node, as its /etc/containerd is not mounted below /host",
      "mount the node's /etc/containerd at /host/etc/containerd",
    ],
    "/var/lib/shimctl": [
      "Cannot use this node, as its /var/lib/shimctl is not mounted below /host",
      "mount the node's /var/lib/shimctl at /host/var/lib/shimctl",
    ],
    "/run/shimctl": [
      "Cannot lock the node, as its /run/shimctl is not mounted under the root",
      "mount the node's /run/shimctl at /host/run/shimctl, or its /run as a whole",
    ],
    "/run/lock": [
      "Cannot lock the node, as its /run/lock is not mounted under the root",
      "mount the node's /run/lock at /host/run/lock, or its /run as a whole",
    ],
  };
  for (const [path, [message, hint]] of Object.entries(missing))
    test(`${path} that is not mounted is refused, and nothing is written`, () => {
      const node = vanilla();
      node.run(all, "version");
      const before = node.trees();
      expect(node.run(without(path), ...install).error).toMatchObject({ message, hint });
      expect(node.trees()).toEqual(before);
    });

  test("without its state folder nothing is held, logged or compared either", () => {
    const node = vanilla();
    for (const args of [["status"], ["log"], ["hold"], ["release"], ["diff", "install", "crun"]])
      expect(node.run(without("/var/lib/shimctl"), ...args).error?.message).toBe(
        "Cannot use this node, as its /var/lib/shimctl is not mounted below /host",
      );
    // It looks at the engine's files alone.
    expect(node.run(["/etc/containerd", "/run/containerd"], "check", "--engine-version", "2.1.9")).toEqual({
      result: "ok",
    });
  });

  test("a file that is named and not mounted is not taken for mistyped, and changes nothing", () => {
    const node = vanilla();
    const path = "/opt/own/config.toml";
    node.place(path, "version = 3\n");
    for (const args of [
      [...install, "--config", path],
      ["check", path],
    ])
      expect(node.run(all, ...args).error).toMatchObject({
        message: "Cannot use this node, as its /opt/own is not mounted below /host",
        path,
      });
  });

  test("a link that leads out of what is mounted is refused with where it leads", () => {
    const node = vanilla();
    rmSync(node.node + config);
    node.place("/opt/x/config.toml", "version = 3\n");
    node.link(config, "/opt/x/config.toml");
    node.run(all, "version");
    const before = treeOf(node.node);
    expect(node.run(all, ...install).error).toEqual({
      message: "Cannot use this path, as it leads out of what is mounted below /host: /opt/x/config.toml",
      path: config,
      hint: "mount the node's /opt/x at /host/opt/x",
    });
    expect(treeOf(node.node)).toEqual(before);
  });

  test("a file that the configuration imports from elsewhere is not taken for absent", () => {
    const node = vanilla('version = 3\nimports = ["/opt/tool/*.toml"]\n');
    node.place("/opt/tool/theirs.toml", "version = 3\n");
    expect(node.run(all, ...install).error).toMatchObject({
      message: "Cannot use this node, as its /opt/tool is not mounted below /host",
      hint: "mount the node's /opt/tool at /host/opt/tool",
    });
    expect(node.run([...all, "/opt/tool"], ...install)).toEqual({ result: "changed" });
  });

  test("a socket alone does not tell which file the engine behind it reads", () => {
    const node = vanilla();
    rmSync(node.node + config);
    node.run(all, "version");
    const before = node.trees();
    expect(node.run(all, ...install).error).toEqual({
      message: `Cannot tell which file containerd reads, as ${config} is not there and nothing that is mounted below /host says how it is started: ${socket}`,
      path: config,
      hint: "mount the node's /run/dbus at /host/run/dbus, or pass --layout vanilla",
    });
    expect(node.trees()).toEqual(before);
    for (const more of [
      ["--layout", "vanilla"],
      ["--config", config],
    ])
      expect(node.run(all, ...install, "--dry-run", ...more)).toEqual({ result: "changed" });
  });

  test("a drop-in of a unit whose own file is not mounted is heard", () => {
    const node = vanilla();
    const dropIn = "/etc/systemd/system/containerd.service.d/10-own.conf";
    node.place(dropIn, "[Service]\nExecStart=\nExecStart=/usr/bin/containerd -c /opt/own.toml\n");
    expect(node.run([...all, "/etc/systemd"], ...install).error).toEqual({
      message: `Cannot use this configuration, as containerd.service (${dropIn}) starts containerd on another file: /opt/own.toml`,
      path: config,
      hint: "pass --config /opt/own.toml",
    });
  });

  for (const layout of layouts) {
    const { rootFile, socket: its } = layout.places(openHost(folderFor("empty")), undefined);
    const [folder, run] = [dirname(rootFile), dirname(its)];

    test(`${layout.name}: files alone do not tell that its engine runs`, () => {
      const node = new Mounted();
      node.place(rootFile);
      const { error } = node.run([folder, run, ...own], "status", "--engine", layout.engine);
      expect(error?.message).toMatch(/^Cannot (?:tell|choose|find|use) /);
    });

    test(`${layout.name}: what it needs and is not mounted is named`, () => {
      const node = new Mounted();
      for (const [mounts, lacks] of [
        [[run], folder],
        [[folder], run],
      ] as const)
        expect(node.run([...mounts, ...own], "status", "--layout", layout.name).error).toMatchObject({
          message: `Cannot use this node, as its ${lacks} is not mounted below /host`,
          hint: `mount the node's ${lacks} at /host${lacks}`,
        });
    });
  }
});
