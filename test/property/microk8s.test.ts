import { describe, expect, test } from "bun:test";
import process from "node:process";
import fc from "fast-check";
import { parse } from "smol-toml";
import { tableAt } from "../../src/engine/tables.ts";
import { microk8sConfig, microk8sNode, microk8sTemplate, startMicroK8s } from "../support/microk8s_sed.ts";

/**
 * Owners come and go in a template of MicroK8s. What stands in it stays byte for byte, its variables above all; what
 * the snap makes of it has the handlers that shimctl names; and when the last owner has gone, so has everything of ours.
 */
const runs = Number(process.env["SHIMCTL_TEST_PROPERTY_RUNS"] ?? "40");
const asked = ["kata-qemu", "runsc", "crun"] as const;
const cri = 'plugins."io.containerd.grpc.v1.cri"';

const line = fc.constantFrom(
  "# a comment with ${SNAP_DATA} and ${NOTHING}",
  "",
  "   # indented",
  "\t# a tab, and ${",
);

/** Tables in any order, with comments in between. */
const template: fc.Arbitrary<string> = fc
  .record({
    tables: fc.shuffledSubarray([
      '[grpc]\n  uid = 0\n  address = "${SNAP_DATA}/x.sock" # ${SNAP}',
      `[${cri}.cni]\n    bin_dir = "\${SNAP_DATA}/opt/cni/bin"`,
      `[${cri}.containerd.runtimes.kata]\n      runtime_type = "io.containerd.kata.v2"`,
      `[${cri}.registry]\n    config_path = '\${SNAP_DATA}/args/certs.d'`,
      '[metrics]\n  address = "127.0.0.1:1338"',
    ]),
    noise: fc.array(line, { minLength: 7, maxLength: 7 }),
    eol: fc.constantFrom("\n", "\n", "\r\n"),
    ends: fc.boolean(),
  })
  .map(({ tables, noise, eol, ends }) => {
    const own = [
      "version = 2",
      `[${cri}.containerd]\n  snapshotter = "\${SNAPSHOTTER}"\n  default_runtime_name = "\${RUNTIME}"`,
      `[${cri}.containerd.runtimes.runc]\n  runtime_type = "\${RUNTIME_TYPE}"`,
      `[${cri}.containerd.runtimes.nvidia-container-runtime]\n  runtime_type = "\${RUNTIME_TYPE}"`,
      ...tables,
    ];
    const text = own.map((table, index) => `${noise[index % 7]}\n${table}`).join("\n");
    return (ends ? `${text}\n` : text).replaceAll("\n", eol);
  });

const step = fc.record({
  owner: fc.constantFrom("a", "b"),
  command: fc.constantFrom("install", "install", "uninstall"),
  handlers: fc.uniqueArray(fc.nat(asked.length - 1), { minLength: 1, maxLength: 2 }),
});

for (const version of ["1.7.24", "2.2.7"]) {
  describe(`owners on MicroK8s with containerd ${version}`, () => {
    test("leave its template as it is, and get what it makes of it", async () => {
      await fc.assert(
        fc.asyncProperty(template, fc.array(step, { minLength: 1, maxLength: 5 }), async (text, steps) => {
          using node = microk8sNode(version, text);
          startMicroK8s(node.root);
          const before = node.tree();
          for (const { owner, command, handlers } of steps) {
            const names = handlers.map((index) => asked[index] ?? "crun");
            const { code } = await node.run([command, ...names, "--owner", owner]);
            expect([0, 5]).toContain(code);
            expect(node.text(microk8sTemplate).startsWith(text)).toBe(true);
            startMicroK8s(node.root);
            const made = tableAt(
              parse(node.text(microk8sConfig)),
              "plugins",
              "io.containerd.grpc.v1.cri",
              "containerd",
              "runtimes",
            );
            const said = (await node.run(["status", "--json"])).json()["handlers"] as { name: string }[];
            expect(said.map(({ name }) => name).sort()).toEqual(Object.keys(made ?? {}).sort());
          }
          for (const owner of ["a", "b"])
            expect((await node.run(["uninstall", "--all", "--owner", owner])).code).toBe(0);
          startMicroK8s(node.root);
          expect(node.tree()).toEqual(before);
        }),
        { numRuns: runs },
      );
    }, 180_000);
  });
}
