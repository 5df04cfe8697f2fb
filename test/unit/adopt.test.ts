import { beforeAll, describe, expect, test } from "bun:test";
import { ShimctlError } from "../../src/error.ts";
import { loadLibc } from "../../src/host/libc/libc.ts";
import type { Request } from "../../src/transaction/request.ts";
import { run } from "../../src/transaction/run.ts";
import { FakeEngine, type Fault } from "../support/fake_engine.ts";
import { kataHandler } from "../support/leftovers.ts";
import { Node } from "../support/node.ts";
import { environmentOf, installing, stateOf } from "../support/transaction.ts";

const rootFile = "/etc/containerd/config.toml";
const theirs = kataHandler(3, "qemu");
const config = `# theirs\nversion = 3\n\n${theirs}\n[grpc]\nuid = 0\n`;
// 1.x serves no runc of its own beside a handler in a file.
const runc = `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n`;
const oldConfig = `# theirs\nversion = 2\n\n${kataHandler(2, "qemu")}\n${runc}\n[grpc]\nuid = 0\n`;
const adopting = (adopt: Request["adopt"]): Request => ({ ...installing("kata-qemu"), adopt });

beforeAll(async () => {
  await loadLibc();
});

/** Runs, and returns what it threw. */
async function failure(work: Promise<unknown>): Promise<ShimctlError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof ShimctlError) return error;
  throw error ?? new Error("it did not fail");
}

describe("an adoption with which the engine does not work", () => {
  const faults: readonly Fault[] = ["unit fails", "no CRI", "loses another"];
  for (const [version, before] of [
    ["2.1.9", config],
    ["1.7.24", oldConfig],
  ] as const) {
    for (const fault of faults) {
      test(`is undone to the byte on ${version} when it ${fault}, and theirs is served again`, async () => {
        using node = new Node(version, before.replace(/configuration-qemu/, "configuration-other"));
        const tree = node.tree();
        const engine = new FakeEngine(() => environmentOf(node));
        // It works with theirs, which has another configuration.
        engine.fault = () => (node.text().includes("configuration-other") ? "none" : fault);
        const env = { ...environmentOf(node), activation: engine.activation() };
        const error = await failure(run(env, adopting("replace")));
        expect([error.code, error.facts.state]).toEqual([
          "engine-failed",
          expect.stringContaining("the change was undone"),
        ]);
        expect(node.tree()).toEqual(tree);
        expect([engine.restarts, engine.served.includes("kata-qemu"), engine.cri]).toEqual([2, true, "up"]);
        expect(stateOf(node).readRecord().record.roots[rootFile]?.owners ?? {}).toEqual({});
      });
    }
  }

  test("leaves what a tool had written again beside ours as it was", async () => {
    using node = new Node("2.1.9", config);
    await run(environmentOf(node), adopting("identical"));
    node.place(rootFile, `${node.text()}\n${theirs.replace("configuration-qemu", "configuration-other")}`);
    const before = node.text();
    const engine = new FakeEngine(() => environmentOf(node));
    engine.fault = () => (node.text().includes("configuration-other") ? "none" : "no CRI");
    const env = { ...environmentOf(node), activation: engine.activation() };
    expect((await failure(run(env, installing("kata-qemu", "crun")))).code).toBe("engine-failed");
    expect(node.text()).toBe(before);
    expect(node.text("/etc/containerd/conf.d/50-shimctl-default.toml")).not.toContain("crun");
  });

  test("gives back their lines beside what somebody wrote while the engine was watched", async () => {
    using node = new Node("2.1.9", config.replace(/configuration-qemu/, "configuration-other"));
    const before = node.text();
    const engine = new FakeEngine(() => environmentOf(node));
    engine.fault = () => (node.text().includes("configuration-other") ? "none" : "no CRI");
    engine.onRestart = () => {
      if (!node.text().startsWith("# noted")) node.place(rootFile, `# noted\n${node.text()}`);
    };
    const env = { ...environmentOf(node), activation: engine.activation() };
    expect((await failure(run(env, adopting("replace")))).code).toBe("engine-failed");
    expect(node.text()).toBe(`# noted\n${before}`);
  });
});

describe("another program that writes while a handler is adopted", () => {
  /** A run in which `write` happens once, when the plan is made and nothing is written yet. */
  const runWith = (node: Node, adopt: Request["adopt"], write: () => void) => {
    let done = false;
    const env = environmentOf(node, (step) => {
      if (step !== "commit" || done) return;
      done = true;
      write();
    });
    return run(env, adopting(adopt));
  };

  test("loses no line of its own", async () => {
    using node = new Node("2.1.9", config);
    await runWith(node, "identical", () => node.place(rootFile, `${node.text()}# noted\n`));
    expect(node.text()).toEndWith("[grpc]\nuid = 0\n# noted\n");
    expect(node.text()).not.toContain("[plugins");
  });

  test("and makes the definition another one is told of a conflict, and everything is as it wrote it", async () => {
    using node = new Node("2.1.9", config);
    const changed = config.replace("configuration-qemu", "configuration-other");
    const error = await failure(runWith(node, "identical", () => node.place(rootFile, changed)));
    expect([error.code, error.facts.difference?.theirs]).toEqual([
      "conflict",
      expect.stringContaining("configuration-other"),
    ]);
    expect(node.text()).toBe(changed);
    expect(node.loaded({ loads: [{ folder: "/etc/containerd/conf.d", suffix: "" }] } as never)).toEqual([]);
  });

  test("and makes it another one is overruled by replace", async () => {
    using node = new Node("2.1.9", config);
    const changed = config.replace("configuration-qemu", "configuration-other");
    const outcome = await runWith(node, "replace", () => node.place(rootFile, changed));
    expect(node.text()).not.toContain("configuration-other");
    const [adopted] = outcome.adopted.slice(-1);
    expect(new TextDecoder().decode(stateOf(node).stored(adopted?.store ?? ""))).toBe(changed);
  });
});
