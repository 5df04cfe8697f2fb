import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { Node } from "../support/node.ts";

const corpus = `${import.meta.dirname}/../../../shared/corpus`;
const canary = "kanarienvogel7";
/** Every place where configurations of containerd hold secrets. */
const secrets = `
# mirror: https://robot:${canary}@mirror.example.com/v2
[plugins."io.containerd.grpc.v1.cri".registry.configs."canary.example.com".auth]
  username = "${canary}"
  password = '${canary}'
  auth = """
${canary}"""
  identitytoken = "${canary}"
[plugins."io.containerd.grpc.v1.cri".registry.headers]
  X-Canary-Token = ["${canary}",
    "${canary}"]
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."canary.example.com"]
  endpoint = ["https://robot:${canary}@mirror.example.com"]
[proxy_plugins.canary]
  address = "unix://${canary}:${canary}@/run/canary.sock"
  exports = { password = "${canary}", url = "https://a:${canary}@b" }
`;
/** A secret on the very line that does not parse. */
const broken = [
  `password = "${canary}\n`,
  `[plugins."io.containerd.grpc.v1.cri".registry.configs.x.auth]\npassword = "${canary}" trailing\n`,
  `[a]\ntoken = '''\n${canary}\n`,
  `[headers]\nAuthorization = ["Bearer ${canary}"\n[b]\n`,
  `[auth]\npassword = "${canary}"\npassword = "${canary}"\n`,
];

const own: Readonly<Record<string, string>> = {
  "a version 2 file": "version = 2\n",
  "a version 3 file": "version = 3\n",
  "a file without version": "root = '/x'\n",
  "an empty file": "",
};
const files: readonly (readonly [string, Uint8Array])[] = [
  ...Object.entries(own).map(([name, text]) => [name, new TextEncoder().encode(text)] as const),
  ...(existsSync(corpus)
    ? ["", "invalid/"].flatMap((folder) =>
        readdirSync(`${corpus}/${folder}`)
          .filter((name) => name.endsWith(".toml"))
          .map(
            (name) => [folder + name, new Uint8Array(readFileSync(`${corpus}/${folder}${name}`))] as const,
          ),
      )
    : []),
];
if (!existsSync(corpus)) console.log("(skip) secrets in the shared corpus: it is not beside this repository");

const commands = [
  ["diff", "install", "kata-qemu", "crun"],
  ["diff", "install", "runsc", "--json"],
  ["install", "kata-qemu", "crun", "--log-level", "debug"],
  ["install", "runsc", "--json"],
  ["status"],
  ["status", "--json"],
  ["check"],
  ["check", "--json"],
  ["diff", "uninstall", "--all"],
  ["uninstall", "--all", "--json"],
];

/** Everything that the commands say, and all that they leave in the journal, the record and the lock file. */
async function said(node: Node): Promise<string> {
  const texts: string[] = [];
  for (const command of commands) {
    const { out, err } = await node.run(command);
    texts.push(out, err);
  }
  for (const path of ["/var/lib/shimctl/journal", "/var/lib/shimctl/record.json", "/run/shimctl/lock"]) {
    if (existsSync(node.root + path)) texts.push(node.text(path));
  }
  return texts.join("\n");
}

describe("a secret of the configuration appears nowhere", () => {
  for (const [name, bytes] of files) {
    test(`in ${name}`, async () => {
      for (const version of ["1.7.24", "2.3.4"]) {
        using node = new Node(version, Buffer.concat([bytes, Buffer.from(secrets)]));
        const text = await said(node);
        expect(text.includes(canary)).toBe(false);
        expect(text.length).toBeGreaterThan(500);
      }
    });
  }

  for (const [index, tail] of broken.entries()) {
    test(`in a line that does not parse, ${index + 1}`, async () => {
      using node = new Node("2.3.4", `version = 3\n${tail}`);
      const text = await said(node);
      expect(text).toContain("config.toml:");
      expect(text.includes(canary)).toBe(false);
    });
  }

  test("in what the engine's own parser complains about", async () => {
    using node = new Node("2.3.4", "version = 3\n");
    node.place("/parser", `#!/bin/sh\necho 'cannot read password = "${canary}"' >&2\nexit 1\n`, 0o755);
    const ran = await node.run(["install", "kata-qemu", "--prove-with", `${node.root}/parser`]);
    expect([ran.code, ran.err.includes(canary)]).toEqual([3, false]);
    expect(node.text()).toBe("version = 3\n");
  });
});
