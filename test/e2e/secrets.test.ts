import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { crioCase, type EngineCase, markedCase } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";

const corpus = `${import.meta.dirname}/../../../shared/corpus`;
const canary = "kanarienvogel7";

interface SecretCase {
  readonly engineCase: EngineCase;
  readonly versions: readonly string[];
  /** Every place where configurations of this engine hold secrets. */
  readonly secrets: string;
  /** The beginnings of files, by name. */
  readonly own: Readonly<Record<string, string>>;
  /** Where the shared corpus has more of them, and how those are named. */
  readonly corpusFolders: readonly string[];
  readonly isConfiguration: (name: string) => boolean;
  /** What stands before a line that does not parse. */
  readonly head: string;
}

const cases: readonly SecretCase[] = [
  {
    engineCase: markedCase,
    versions: ["1.7.24", "2.3.4"],
    secrets: `
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
`,
    own: {
      "a version 2 file": "version = 2\n",
      "a version 3 file": "version = 3\n",
      "a file without version": "root = '/x'\n",
      "an empty file": "",
    },
    corpusFolders: ["", "invalid/"],
    isConfiguration: (name) => name.endsWith(".toml"),
    head: "version = 3\n",
  },
  {
    engineCase: crioCase,
    versions: ["1.28.11", "1.36.3"],
    secrets: `
# proxy: https://robot:${canary}@proxy.example.com
[crio.runtime.runtimes.canary]
  runtime_path = "/usr/bin/crun"
  monitor_env = ["HTTPS_PROXY=http://robot:${canary}@proxy.example.com:3128", "API_TOKEN=${canary}"]
  default_annotations = { "example.com/password" = "${canary}", "example.com/url" = "https://a:${canary}@b" }
[crio.canary]
  default_env = [
    "HTTPS_PROXY=http://robot:${canary}@proxy.example.com:3128", # ${canary}
    "REGISTRY_PASSWORD=${canary}",
  ]
  pause_image = "https://robot:${canary}@registry.example.com/pause:3.10"
  password = '''
${canary}'''
[crio.canary.auth]
  robot = "${canary}"
`,
    own: {
      "a file of handlers": "[crio.runtime]\n",
      "a file without handlers": '[crio.image]\npause_image = "x"\n',
      "an empty file": "",
    },
    corpusFolders: ["crio/"],
    isConfiguration: () => true,
    head: "[crio.runtime]\n",
  },
];
/** A secret on the very line that does not parse. */
const broken = [
  `password = "${canary}\n`,
  `[plugins."io.containerd.grpc.v1.cri".registry.configs.x.auth]\npassword = "${canary}" trailing\n`,
  `[a]\ntoken = '''\n${canary}\n`,
  `[headers]\nAuthorization = ["Bearer ${canary}"\n[b]\n`,
  `[auth]\npassword = "${canary}"\npassword = "${canary}"\n`,
  `default_env = ["REGISTRY_PASSWORD=${canary}" "X=1"]\n`,
  `default_env = ["HTTPS_PROXY=http://robot:${canary}@proxy:3128\n`,
];
if (!existsSync(corpus)) console.log("(skip) secrets in the shared corpus: it is not beside this repository");

function filesOf({ own, corpusFolders, isConfiguration }: SecretCase): [name: string, bytes: Uint8Array][] {
  const shared = existsSync(corpus)
    ? corpusFolders.flatMap((folder) =>
        readdirSync(`${corpus}/${folder}`)
          .filter(isConfiguration)
          .map((name) => folder + name),
      )
    : [];
  return [
    ...Object.entries(own).map(([name, text]): [string, Uint8Array] => [name, Buffer.from(text)]),
    ...shared.map((name): [string, Uint8Array] => [name, readFileSync(`${corpus}/${name}`)]),
  ];
}

/** Everything that the commands say, and all that they leave in the journal, the record and the lock file. */
async function said(node: Node, [kata, second, third]: EngineCase["handlers"]): Promise<string> {
  const texts: string[] = [];
  for (const command of [
    ["diff", "install", kata, third],
    ["diff", "install", second, "--json"],
    ["install", kata, third, "--log-level", "debug"],
    ["install", second, "--json"],
    ["status"],
    ["status", "--json"],
    ["check"],
    ["check", "--json"],
    ["diff", "uninstall", "--all"],
    ["rollback", "--log-level", "debug"],
    ["rollback", "--dry-run", "--json"],
    ["uninstall", "--all", "--json"],
    ["log"],
    ["log", "--json"],
  ]) {
    const { out, err } = await node.run(command);
    texts.push(out, err);
  }
  for (const path of ["/var/lib/shimctl/journal", "/var/lib/shimctl/record.json", "/run/shimctl/lock"]) {
    if (existsSync(node.root + path)) texts.push(node.text(path));
  }
  return texts.join("\n");
}

for (const secretCase of cases) {
  const { engineCase, versions, secrets, head } = secretCase;
  const { handlers } = engineCase;
  /** Where the secrets stand; for a drop-in also the very file that we edit. */
  const places = [...new Set([engineCase.main, engineCase.block("default")])];

  describe(`a secret of ${engineCase.engine}'s configuration appears nowhere`, () => {
    for (const [name, bytes] of filesOf(secretCase)) {
      test(`in ${name}`, async () => {
        for (const version of versions)
          for (const place of places) {
            using node = Node.of(
              { ...engineCase, version },
              { [place]: Buffer.concat([bytes, Buffer.from(secrets)]) },
            );
            const text = await said(node, handlers);
            expect(text.includes(canary)).toBe(false);
            expect(text.length).toBeGreaterThan(500);
          }
      });
    }

    for (const [index, tail] of broken.entries()) {
      test(`in a line that does not parse, ${index + 1}`, async () => {
        for (const place of places) {
          using node = Node.of({ ...engineCase, version: versions.at(-1) ?? "" }, { [place]: head + tail });
          const text = await said(node, handlers);
          expect(text).toContain(`${place}:`);
          expect(text.includes(canary)).toBe(false);
        }
      });
    }

    test("in what the engine's own parser complains about", async () => {
      using node = Node.of(
        { ...engineCase, version: versions.at(-1) ?? "" },
        { [engineCase.rootFile]: head },
      );
      node.place("/parser", `#!/bin/sh\necho 'cannot read password = "${canary}"' >&2\nexit 1\n`, 0o755);
      const ran = await node.run(["install", handlers[0], "--prove-with", `${node.root}/parser`]);
      expect([ran.code, ran.err.includes(canary)]).toEqual([3, false]);
      expect(node.text(engineCase.rootFile)).toBe(head);
    });
  });
}
