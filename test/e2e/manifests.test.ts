import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { YAML } from "bun";
import { parseEpoch } from "../../src/transaction/epoch.ts";
import { runNowhere } from "../support/nowhere.ts";
import { valueAt } from "../support/rendered.ts";

const temp = mkdtempSync(join(tmpdir(), "shimctl-manifests-"));
afterAll(() => rmSync(temp, { recursive: true }));

const run = (line: string, now = "2026-09-01T12:00:00.123Z") =>
  runNowhere(`render ${line}`, { now: new Date(now) });

async function objects(line: string, now?: string): Promise<Record<string, unknown>[]> {
  const { code, out, err } = await run(line, now);
  expect([code, err]).toEqual([0, ""]);
  return YAML.parse(out) as Record<string, unknown>[];
}

const annotationsOf = (all: readonly unknown[]) =>
  valueAt(all.at(-1), "spec", "template", "metadata", "annotations") as Record<string, string>;
const containerOf = (all: readonly unknown[]) =>
  valueAt(all.at(-1), "spec", "template", "spec", "containers", "0") as { args: string[]; image: string };
const kindsOf = (all: readonly Record<string, unknown>[]) => all.map(({ kind }) => kind);

function fileWith(content: string): string {
  const path = join(temp, "handlers.toml");
  writeFileSync(path, content);
  return path;
}

describe("a DaemonSet", () => {
  test("comes with everything that it needs, once", async () => {
    expect(kindsOf(await objects("--for daemonset kata-qemu"))).toEqual([
      "Namespace",
      "ServiceAccount",
      "ConfigMap",
      "DaemonSet",
    ]);
  });

  test("is stamped with an epoch that shimctl takes, newer each time, and an instance of its own", async () => {
    const [first, second] = [
      annotationsOf(await objects("--for daemonset kata-qemu")),
      annotationsOf(await objects("--for job --all --node-name n", "2026-09-01T12:00:00.124Z")),
    ];
    expect(parseEpoch(first["shimctl/epoch"] ?? "")).toBe("2026-09-01T12:00:00.123Z");
    expect(parseEpoch(second["shimctl/epoch"] ?? "")).toBe("2026-09-01T12:00:00.124Z");
    expect(first["shimctl/instance"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(first["shimctl/instance"]).not.toBe(second["shimctl/instance"]);
  });

  test("carries the handlers as a file that means the same", async () => {
    const [, , config] = await objects(
      "--for daemonset runsc kata-qemu --prefix /srv/k --snapshotter devmapper",
    );
    expect(valueAt(config, "data", "handlers.toml")).toBe(
      'format = 1\nprefix = "/srv/k"\nsnapshotter = "devmapper"\n\n[handlers.kata-qemu]\n\n[handlers.runsc]\n',
    );
    expect(valueAt(config, "immutable")).toBe(true);
    const rendered = await objects(
      `--for daemonset -f ${fileWith(String(valueAt(config, "data", "handlers.toml")))}`,
    );
    expect(valueAt(rendered[2], "metadata", "name")).toBe(valueAt(config, "metadata", "name"));
  });

  test("has another file's name for another file, as a changed one would be past every wave", async () => {
    const names = await Promise.all(
      ["kata-qemu", "kata-clh"].map(async (name) =>
        valueAt((await objects(`--for daemonset ${name}`))[2], "metadata", "name"),
      ),
    );
    expect(names[0]).not.toBe(names[1]);
  });

  test("asks as the owner of the handler file, else as the cluster", async () => {
    const owned = fileWith('format = 1\nowner = "platform"\n[handlers.crun]\n');
    expect(containerOf(await objects(`--for daemonset -f ${owned}`)).args).toContain("--owner=platform");
    expect(containerOf(await objects("--for daemonset crun")).args).toContain("--owner=cluster");
    expect(containerOf(await objects("--for daemonset crun --owner me")).args).toContain("--owner=me");
  });

  test("of another owner is another one, with other pods", async () => {
    const owners = ["cluster", "sandbox", "x".repeat(40)];
    const all = await Promise.all(owners.map((owner) => objects(`--for daemonset runsc --owner ${owner}`)));
    const sets = all.map((each) => each.at(-1));
    const names = sets.map((each) => String(valueAt(each, "metadata", "name")));
    expect(names.slice(0, 2)).toEqual(["shimctl", "shimctl-sandbox"]);
    expect(new Set(names).size).toBe(owners.length);
    for (const name of names) expect(name).toMatch(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
    const selectors = sets.map((each) => valueAt(each, "spec", "selector", "matchLabels"));
    expect(new Set(selectors.map((each) => JSON.stringify(each))).size).toBe(owners.length);
    for (const [at, each] of sets.entries())
      expect(valueAt(each, "spec", "template", "metadata", "labels")).toEqual(selectors[at]);
  });

  test("that is made again is the same one, with other pods", async () => {
    const [first, second] = [
      (await objects("--for daemonset runsc")).at(-1),
      (await objects("--for daemonset runsc kata-qemu", "2026-09-02T12:00:00Z")).at(-1),
    ];
    for (const path of [
      ["metadata", "name"],
      ["spec", "selector"],
    ])
      expect(valueAt(second, ...path)).toEqual(valueAt(first, ...path));
    expect(valueAt(second, "spec", "template")).not.toEqual(valueAt(first, "spec", "template"));
  });

  test("says how the same nodes are rid of it", async () => {
    const { out } = await run("--for daemonset crun --layout k3s --owner sandbox --image example/shimctl:1");
    const [line = "", job = ""] = /^# {3}shimctl (render --for job .*) \| kubectl/m.exec(out) ?? [];
    expect(line).toContain("--node-name NODE");
    const all = await objects(job.replace(/^render /, "").replace("NODE", "n1"));
    expect(containerOf(all)).toMatchObject({
      image: "example/shimctl:1",
      args: expect.arrayContaining(["--owner=sandbox"]),
    });
    expect(JSON.stringify(all)).toContain("/var/lib/rancher/k3s/agent/etc/containerd");
    expect(out).toContain("delete daemonset shimctl-sandbox");
  });

  test("looks into the folder of a handler that is elsewhere", async () => {
    const { out } = await run("--for daemonset kata-qemu --prefix /srv/kata");
    expect(out).toContain("mountPath: /host/srv/kata/");
    expect((await run("--for daemonset kata-qemu")).out).not.toContain("handlers-1");
  });

  test("mounts what the layout has", async () => {
    expect((await run("--for daemonset crun --engine crio")).out).toContain("path: /etc/crio\n");
    expect((await run("--for daemonset crun --layout rke2-agent")).out).toContain(
      "/var/lib/rancher/rke2/agent",
    );
  });
});

describe("a Job", () => {
  test("uninstalls what is named, or all of the owner, on its node", async () => {
    const [named, all] = [
      await objects("--for job crun --node-name n1"),
      await objects("--for job --all --node-name n1"),
    ];
    expect(containerOf(named).args).toEqual(["uninstall", "crun", "--root=/host", "--owner=cluster"]);
    expect(containerOf(all).args).toEqual(["uninstall", "--all", "--root=/host", "--owner=cluster"]);
    expect(valueAt(named.at(-1), "spec", "template", "spec", "nodeName")).toBe("n1");
  });

  test("uninstalls what no preset knows, and what a handler file names besides", async () => {
    const file = fileWith("format = 1\n[handlers.runsc]\n");
    const [args, both] = [
      containerOf(await objects("--for job spelled-out --node-name n1")).args,
      containerOf(await objects(`--for job spelled-out -f ${file} --node-name n1`)).args,
    ];
    expect(args.slice(0, 2)).toEqual(["uninstall", "spelled-out"]);
    expect(both.slice(0, 3)).toEqual(["uninstall", "runsc", "spelled-out"]);
    const { code, err } = await run("--for job $(SHELL) --node-name n1");
    expect([code, err]).toEqual([2, expect.stringContaining("lower-case")]);
  });
});

describe("refused is", () => {
  for (const [line, words] of [
    ["--for daemonset", "no handler is named"],
    ["--for daemonset crun --layout talos", "no manifest is made for such nodes: talos"],
    ["--for daemonset crun --layout k3s --engine crio", "k3s runs containerd"],
    ["--for daemonset crun --image example/shimctl", "must name an image with its tag"],
    ["--for daemonset crun --image example/shimctl:latest", "not latest"],
    ["--for daemonset crun --image example/Shimctl:1", "must name an image"],
    ["--for daemonset crun --image example:5000/shimctl", "must name an image"],
    ["--for job --all --node-name a..b", "no Kubernetes node can have this name"],
    ["--for daemonset --all", "Cannot use --all"],
    ["--for job crun", "--node-name is missing"],
    ["--for job --all --node-name N_1", "no Kubernetes node can have this name"],
    ["--for job --all crun --node-name n", "Cannot use --all"],
    ["--for talos kata-qemu --image x:1", "only daemonset and job take it"],
    ["--for runtimeclass kata-qemu --layout k3s", "only daemonset and job take it"],
  ] as const)
    test(line, async () => {
      const { code, out, err } = await run(line);
      expect([code, out]).toEqual([2, ""]);
      expect(err).toContain(words);
      expect(err).toContain("next: ");
    });

  test.each(["/etc/kata.toml", "/kata.toml"])(
    "a handler whose file %s lets a pod see too much",
    async (path) => {
      const file = fileWith(`format = 1\n[handlers.kata-qemu]\ncontainerd.options.ConfigPath = "${path}"\n`);
      const { code, err } = await run(`--for daemonset -f ${file}`);
      expect([code, err]).toEqual([2, expect.stringContaining("would be mounted for it")]);
    },
  );

  test("a handler file that kubectl apply would not take", async () => {
    const file = fileWith(`format = 1\n[handlers.kata-qemu]\n${"# more\n".repeat(40_000)}`);
    const { code, err } = await run(`--for daemonset -f ${file}`);
    expect([code, err]).toEqual([2, expect.stringContaining("no more than 240 KiB")]);
  });

  test("a handler file besides handlers by name, as it goes into the cluster as it is", async () => {
    const { code, err } = await run(`--for daemonset crun -f ${fileWith("format = 1\n[handlers.runsc]\n")}`);
    expect([code, err]).toEqual([2, expect.stringContaining("besides a handler file")]);
  });
});
