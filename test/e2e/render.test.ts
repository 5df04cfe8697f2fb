import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { YAML } from "bun";
import { parse } from "smol-toml";
import { runNowhere } from "../support/nowhere.ts";
import { engineTextIn, type Kind, kinds, valueAt } from "../support/rendered.ts";

const fixtures = new URL("../fixtures/render/", import.meta.url).pathname;
const handlers = `${fixtures}handlers.toml`;
const update = "SHIMCTL_UPDATE_FIXTURES=1 bun test test/e2e/render.test.ts";

const run = (line: string, env: Readonly<Record<string, string>> = {}) => runNowhere(line, { env });

async function rendered(line: string): Promise<string> {
  const { code, out, err } = await run(`render ${line}`);
  expect([code, err]).toEqual([0, ""]);
  return out;
}

/** The document without its comments: what the system's own tools see. */
const documentIn = (text: string): unknown => YAML.parse(text);

function handlersIn(kind: Kind, text: string, plugin = "io.containerd.cri.v1.runtime"): unknown {
  const at = kind === "machineconfig" ? ["crio", "runtime"] : ["plugins", plugin, "containerd"];
  return valueAt(parse(engineTextIn(kind, text)), ...at, "runtimes");
}

describe("the golden file", () => {
  for (const kind of kinds) {
    test(`of ${kind} is what is rendered now`, async () => {
      const path = `${fixtures}${kind}.yaml`;
      const now = await rendered(`--for ${kind} -f ${handlers}`);
      if (process.env["SHIMCTL_UPDATE_FIXTURES"] === "1") writeFileSync(path, now);
      expect(now, `When this is meant: ${update}`).toBe(existsSync(path) ? readFileSync(path, "utf8") : "");
    });
  }
});

describe("a document", () => {
  for (const kind of kinds) {
    test(`for ${kind} holds every handler of the file, with its values as they were written`, async () => {
      const plugin = kind === "flatcar" ? "io.containerd.grpc.v1.cri" : undefined;
      const found = handlersIn(kind, await rendered(`--for ${kind} -f ${handlers}`), plugin);
      expect(Object.keys(found as object).filter((name) => name !== "runc")).toEqual([
        "kata-qemu",
        "nvidia",
        "sandbox",
      ]);
      if (kind === "machineconfig")
        expect(valueAt(found, "sandbox")).toEqual({
          runtime_path: "/opt/runtimes/bin/containerd-shim-sandbox-v2",
          runtime_type: "vm",
          privileged_without_host_devices: true,
        });
      else
        expect(valueAt(found, "sandbox", "options")).toEqual({
          "a key": 'a "quoted" value, #no comment: {no} %flow\u0085 in YAML',
          Threads: 4,
        });
    });

    test(`for ${kind} starts with comments that say how to apply it, how to take it back, and what must be there`, async () => {
      const text = await rendered(`--for ${kind} kata-qemu`);
      const comments = text
        .split("\n")
        .filter((line) => line.startsWith("#"))
        .join("\n");
      expect(text.startsWith(`${comments}\n`)).toBe(true);
      for (const word of ["TO APPLY", "TO TAKE IT BACK", "LOOK FIRST", "containerd-shim-kata-v2"])
        expect(comments).toContain(word);
      expect(Math.max(...comments.split("\n").map((line) => line.length))).toBeLessThanOrEqual(100);
    });

    test(`for ${kind} is in the JSON document as text, with the engine's part of it`, async () => {
      const text = await rendered(`--for ${kind} kata-qemu`);
      const json = JSON.parse(await rendered(`--for ${kind} kata-qemu --json`)) as Record<string, unknown>;
      expect([json["command"], json["result"], json["error"], json["text"]]).toEqual([
        "render",
        "ok",
        null,
        text,
      ]);
      expect(engineTextIn(kind, text)).toEndWith(String(json["engineText"]));
    });
  }

  test("for Talos is a patch of machine.files that creates the operator's part", async () => {
    const file = valueAt(documentIn(await rendered("--for talos runsc")), "machine", "files", "0");
    expect([valueAt(file, "path"), valueAt(file, "op")]).toEqual([
      "/etc/cri/conf.d/20-customization.part",
      "create",
    ]);
  });

  test("for nodeadm is a NodeConfig", async () => {
    const found = documentIn(await rendered("--for nodeadm runsc"));
    expect([valueAt(found, "apiVersion"), valueAt(found, "kind")]).toEqual([
      "node.eks.aws/v1alpha1",
      "NodeConfig",
    ]);
  });

  test("for Flatcar names in the unit's drop-in the very file that it brings", async () => {
    const found = documentIn(await rendered("--for flatcar runsc"));
    const path = valueAt(found, "storage", "files", "0", "path");
    expect([valueAt(found, "variant"), valueAt(found, "systemd", "units", "0", "name")]).toEqual([
      "flatcar",
      "containerd.service",
    ]);
    expect(valueAt(found, "systemd", "units", "0", "dropins", "0", "contents")).toBe(
      `[Service]\nEnvironment=CONTAINERD_CONFIG=${path}\n`,
    );
  });

  test("for OpenShift puts a file of its own into CRI-O's drop-in folder, readable by all", async () => {
    const found = documentIn(await rendered("--for machineconfig kata-qemu"));
    const file = valueAt(found, "spec", "config", "storage", "files", "0");
    expect([valueAt(found, "kind"), valueAt(file, "mode")]).toEqual(["MachineConfig", 0o644]);
    // What `shimctl install` writes there is called 50-shimctl-OWNER.conf.
    expect(valueAt(file, "path")).toBe("/etc/crio/crio.conf.d/50-runtime-handlers.conf");
  });
});

test("a path with a line break in it neither leaves its comment nor its string", async () => {
  const path = `${fixtures}hostile.toml`;
  const text = await rendered(`--for nodeadm -f ${path}`);
  expect(Object.keys(documentIn(text) as object)).toEqual(["apiVersion", "kind", "spec"]);
  expect(valueAt(handlersIn("nodeadm", text), "odd", "options", "BinaryName")).toBe(
    "/usr/bin/odd\nkind: Other\u2028more",
  );
});

describe("handlers of runc's kind", () => {
  const crun = async (line: string, kind: Kind, plugin?: string) =>
    valueAt(handlersIn(kind, await rendered(`--for ${kind} crun ${line}`.trim()), plugin), "crun");

  test("have the cgroup driver and the base spec that nodeadm gives the default handler", async () => {
    expect(await crun("", "nodeadm")).toMatchObject({
      base_runtime_spec: "/etc/containerd/base-runtime-spec.json",
      options: { SystemdCgroup: true, BinaryName: "/usr/bin/crun" },
    });
  });

  test("have Flatcar's cgroup driver", async () => {
    expect(await crun("", "flatcar", "io.containerd.grpc.v1.cri")).toMatchObject({
      options: { SystemdCgroup: true },
    });
  });

  test("have no cgroup driver on Talos, whose default handler has none", async () => {
    expect(Object.keys((valueAt(await crun("", "talos"), "options") ?? {}) as object)).toEqual([
      "BinaryName",
    ]);
  });
});

describe("what the options say", () => {
  test.each(["talos", "nodeadm"] as const)(
    "--engine-version 1.7 gives %s the ids of containerd 1.x",
    async (kind) => {
      const text = await rendered(`--for ${kind} runsc --engine-version 1.7`);
      expect(Object.keys(parse(engineTextIn(kind, text))["plugins"] as object)).toEqual([
        "io.containerd.grpc.v1.cri",
      ]);
    },
  );

  test("--prefix moves the runtime's files", async () => {
    const text = await rendered("--for talos kata-qemu --prefix /usr/local");
    expect(valueAt(handlersIn("talos", text), "kata-qemu", "runtime_path")).toBe(
      "/usr/local/bin/containerd-shim-kata-v2",
    );
  });

  test("a snapshotter is for images too, and one that containerd does not have is a warning", async () => {
    const { code, out, err } = await run("render --for talos kata-qemu --snapshotter nydus");
    expect(code).toBe(0);
    expect(err).toStartWith("warn: Pods fail, as containerd has no snapshotter of this name: nydus");
    const images = valueAt(parse(engineTextIn("talos", out)), "plugins", "io.containerd.cri.v1.images");
    expect(images).toEqual({ runtime_platforms: { "kata-qemu": { snapshotter: "nydus" } } });
  });

  test("a name beats the file's handler of that name", async () => {
    const text = await rendered(`--for talos -f ${handlers} nvidia --prefix /a`);
    expect(valueAt(handlersIn("talos", text), "nvidia", "options", "BinaryName")).toStartWith("/a/");
  });
});

describe("what cannot be rendered is refused", () => {
  test.each([
    ["kata-qemu", 2, "Cannot render, as --for is missing", "known are talos, bottlerocket"],
    ["--for talso kata-qemu", 2, "as no such system is known: talso", "did you mean 'talos'?"],
    ["--for talos", 2, "Cannot render, as no handler is named", "shimctl presets"],
    ["--for talos kata-qemo", 2, "Cannot find a preset named 'kata-qemo'", "did you mean 'kata-qemu'?"],
    ["--for talos kata-qemu --engine crio", 2, "as Talos Linux runs containerd: crio", "leave it out"],
    ["--for machineconfig youki", 2, "it is not defined for CRI-O", "[handlers.youki.crio]"],
    ["--for talos runsc --engine-version x", 2, "Cannot read --engine-version", ""],
    ["--for talos runsc --engine-version 1.5", 3, "those before 1.6 are not supported", ""],
    ["--for machineconfig crun", 5, "Cannot define handler 'crun', as OpenShift", "another name"],
    ["--for bottlerocket kata-qemu", 6, "none of these adds a handler", "shimctl render --for nodeadm"],
  ])("%s", async (line, code, message, hint) => {
    const ran = await run(`render ${line}`);
    expect([ran.code, ran.out]).toEqual([code, ""]);
    const [first, ...rest] = ran.err.split("\n");
    expect(first).toContain(message);
    expect(rest.join("\n")).toContain(hint);
  });

  test("and with --json the refusal is a document", async () => {
    const { code, out, err } = await run("render --for bottlerocket kata-qemu --json");
    const { result, error } = JSON.parse(out) as { result: string; error: { code: string } };
    expect([code, err, result, error.code]).toEqual([6, "", "refused", "unsupported-node"]);
  });

  test("a handler that containerd would not run is not rendered", async () => {
    const path = `${import.meta.dir}/../fixtures/render/invalid.toml`;
    const { code, err } = await run(`render --for talos -f ${path}`);
    expect([code, err]).toEqual([3, expect.stringContaining("BinaryName has no meaning for handler 'odd'")]);
  });
});
