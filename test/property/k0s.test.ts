import { describe, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import fc from "fast-check";
import { parse } from "smol-toml";
import { tableAt } from "../../src/engine/tables.ts";
import { type Generation, k0sFolder, k0sInto, k0sRoot, renderByK0s } from "../support/k0s_merge.ts";
import { k0sNode } from "../support/k0s_node.ts";
import type { Node } from "../support/node.ts";

/**
 * Owners come and go between drop-ins of others. What shimctl says that the engine will serve is what k0s makes of the
 * folder; the others' files stay byte for byte; and when the last owner has gone, so has everything of ours.
 */
const runs = Number(process.env["SHIMCTL_TEST_PROPERTY_RUNS"] ?? "40");
const asked = ["kata-qemu", "runsc", "crun"] as const;

interface Theirs {
  readonly name: string;
  readonly handlers: readonly string[];
  readonly runc: boolean;
  readonly isDefault: boolean;
  readonly proxy: boolean;
  readonly comment: string;
}

interface Step {
  readonly owner: "a" | "b";
  /** `leave`: somebody else takes a drop-in away. */
  readonly command: "install" | "uninstall" | "leave";
  readonly handlers: readonly number[];
  /** k0s is started again behind it. */
  readonly renders: boolean;
}

const theirs: fc.Arbitrary<Theirs> = fc.record({
  name: fc.stringMatching(/^[0-9]{2}-[a-z]{1,8}$/),
  handlers: fc.uniqueArray(fc.constantFrom("theirs", "nvidia", "runsc", "x.y"), { maxLength: 2 }),
  runc: fc.boolean(),
  isDefault: fc.constantFrom(true, true, false),
  proxy: fc.boolean(),
  comment: fc.stringMatching(/^[ -~]{0,20}$/),
});

const step: fc.Arbitrary<Step> = fc.record({
  owner: fc.constantFrom("a", "b"),
  command: fc.constantFrom("install", "install", "uninstall", "leave"),
  handlers: fc.uniqueArray(fc.nat(asked.length - 1), { minLength: 1, maxLength: 2 }),
  renders: fc.boolean(),
});

function textOf({ handlers, runc, isDefault, proxy, comment }: Theirs, plugin: string): string {
  const at = `plugins."${plugin}".containerd`;
  const [first] = handlers;
  return [
    `# ${comment}`,
    ...(isDefault && first !== undefined ? [`[${at}]`, `default_runtime_name = "${first}"`] : []),
    ...handlers.flatMap((name) => [`[${at}.runtimes."${name}"]`, `  runtime_type = "a.${name}.v1"`]),
    ...(runc ? [`[${at}.runtimes.runc.options]`, "SystemdCgroup = true # theirs"] : []),
    ...(proxy ? ["[proxy_plugins.nydus]", 'type = "snapshot"', 'address = "/run/nydus.sock"'] : []),
    "",
  ].join("\n");
}

/** What k0s would make of the folder now: handlers, and the default one. */
function madeByK0s(node: Node, generation: Generation, plugin: string): unknown {
  const root = mkdtempSync(`${tmpdir()}/shimctl-k0s-`);
  try {
    cpSync(`${node.root}/etc`, `${root}/etc`, { recursive: true });
    renderByK0s(root, generation);
    const read = (path: string) => parse(readFileSync(root + path, "utf8"));
    const at = ["plugins", plugin, "containerd"];
    if (generation === "1.35") return told(tableAt(read(k0sInto), ...at));
    const names = Object.keys(node.tree())
      .filter((path) => path.startsWith(`${k0sFolder}/`) && path.endsWith(".toml"))
      .sort();
    const merged: Record<string, unknown> = { runtimes: { runc: {} } };
    for (const path of [k0sRoot, ...names]) {
      const { runtimes, ...own } = tableAt(read(path), ...at) ?? {};
      const before = merged["runtimes"];
      Object.assign(merged, own, { runtimes: Object.assign({}, before, runtimes) });
    }
    return told(merged);
  } finally {
    rmSync(root, { recursive: true });
  }
}

function told(containerd: Readonly<Record<string, unknown>> | undefined): unknown {
  const runtimes = containerd?.["runtimes"];
  const names = typeof runtimes === "object" && runtimes !== null ? Object.keys(runtimes).sort() : [];
  return [names, containerd?.["default_runtime_name"] ?? "runc"];
}

async function saidByUs(node: Node): Promise<unknown> {
  const { engine, handlers } = (await node.run(["status", "--json"])).json();
  const names = (handlers as { name: string }[]).map(({ name }) => name).sort();
  return [names, (engine as { defaultHandler: string }).defaultHandler];
}

for (const [generation, version, plugin] of [
  ["1.35", "1.7.24", "io.containerd.grpc.v1.cri"],
  ["1.36", "2.3.4", "io.containerd.cri.v1.runtime"],
] as const) {
  describe(`owners on k0s ${generation}`, () => {
    test("leave others' drop-ins as they are, and get what k0s makes of the folder", async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(theirs, { maxLength: 3, selector: ({ name }) => name }),
          fc.array(step, { minLength: 1, maxLength: 6 }),
          async (others, steps) => {
            const files = Object.fromEntries(
              others.map((each) => [`${each.name}.toml`, textOf(each, plugin)]),
            );
            using node = k0sNode(generation, version, files);
            const isAsSaid = async () =>
              expect(await saidByUs(node)).toEqual(madeByK0s(node, generation, plugin));
            for (const { owner, command, handlers, renders } of steps) {
              const tree = node.tree();
              if (command === "leave") {
                const [name] = Object.keys(files);
                if (name !== undefined) node.remove(`${k0sFolder}/${name}`);
                delete files[name ?? ""];
              } else {
                const names = handlers.map((index) => asked[index] ?? "crun");
                const { code } = await node.run([command, ...names, "--owner", owner]);
                // What somebody else defines is a conflict, and then nothing was written.
                expect([0, 5]).toContain(code);
                if (code !== 0) expect(node.tree()).toEqual(tree);
              }
              await isAsSaid();
              if (renders) renderByK0s(node.root, generation);
              for (const [name, text] of Object.entries(files))
                expect(node.text(`${k0sFolder}/${name}`)).toBe(text);
              await isAsSaid();
            }
            for (const owner of ["a", "b"])
              expect((await node.run(["uninstall", "--all", "--owner", owner])).code).toBe(0);
            await isAsSaid();
            using without = k0sNode(generation, version, files);
            renderByK0s(node.root, generation);
            expect(node.tree()).toEqual(without.tree());
          },
        ),
        { numRuns: runs },
      );
    }, 180_000);
  });
}
