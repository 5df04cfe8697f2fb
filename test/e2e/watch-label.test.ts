import { afterAll, describe, expect, test } from "bun:test";
import { importedCase } from "../support/engine_case.ts";
import { KubeApi } from "../support/kube_api.ts";
import { LiveEngine } from "../support/live_engine.ts";
import { whyNot } from "../support/needs.ts";
import { Node } from "../support/node.ts";

const engine = new LiveEngine();
afterAll(() => engine.stop());

const label = "katacontainers.io/kata-runtime";

describe.skipIf(whyNot("labels of a watched node", { programs: ["openssl"] }) !== undefined)("a look", () => {
  const look = (node: Node, api: KubeApi, env: Record<string, string> = {}, overallMs = 2_000) =>
    node.run(
      [
        ...[
          "watch",
          "kata-qemu",
          "--once",
          "--json",
          "--node-name",
          "node-1",
          "--node-label",
          `${label}=true`,
        ],
        ...engine.options(node.root),
      ],
      { ...api.env, ...env },
      { folder: api.folder, overallMs, pauseMs: 2, settleMs: 2 },
    );
  const liveNode = () => {
    const node = Node.of(importedCase);
    engine.start(node.root, "containerd");
    return node;
  };

  test("labels the node once the handlers are served, and again where somebody took the label away", async () => {
    await using api = await KubeApi.start();
    using node = liveNode();
    const first = await look(node, api);
    expect([first.code, first.json()["result"], api.labels?.[label]]).toEqual([0, "changed", "true"]);
    delete api.labels?.[label];
    const starts = engine.starts;
    const second = await look(node, api);
    expect([second.code, api.labels?.[label], engine.starts]).toEqual([0, "true", starts]);
    expect((await look(node, api)).json()).toMatchObject({ result: "unchanged", watch: { ready: true } });
  });

  test("that cannot reach the API keeps the handlers, says so, and is tried again", async () => {
    await using api = await KubeApi.start();
    using node = liveNode();
    const away = { KUBERNETES_SERVICE_PORT: "1" };
    const first = await look(node, api, away, 100);
    expect([first.code, first.json()]).toMatchObject([
      9,
      { error: { code: "cannot-label" }, watch: { failed: true } },
    ]);
    expect((await node.run(["status", "--json"])).json()["handlers"]).toContainEqual(
      expect.objectContaining({ name: "kata-qemu", served: true }),
    );
    expect([(await look(node, api)).code, api.labels?.[label]]).toEqual([0, "true"]);
  });

  test("tells nobody the token, whatever the API server says", async () => {
    await using api = await KubeApi.start();
    using node = liveNode();
    for (const trouble of ["403", "401", "html", "cut"] as const) {
      api.trouble = () => trouble;
      // The one whose answer is told gets the time to answer.
      const ran = await look(node, api, { SHIMCTL_LOG_LEVEL: "debug" }, trouble === "403" ? 30_000 : 100);
      expect([ran.code, ran.out.includes("(token)")]).toEqual([9, trouble === "403"]);
      expect(ran.out + ran.err + JSON.stringify(node.tree())).not.toContain(api.token);
    }
    expect([...api.authorizations]).toEqual([`Bearer ${api.token}`]);
  });

  test("with labels that Kubernetes does not take writes nothing", async () => {
    using node = liveNode();
    const before = node.tree();
    const ran = await node.run(
      ["watch", "kata-qemu", "--once", "--node-name", "n", "--node-label", "a b=c"],
      { KUBERNETES_SERVICE_HOST: "127.0.0.1" },
    );
    expect([ran.code, node.tree()]).toEqual([2, before]);
  });
});
