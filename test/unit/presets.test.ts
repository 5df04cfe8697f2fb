import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { needs } from "../../src/engine/containerd/needs.ts";
import { backends } from "../../src/engine/registry.ts";
import { Handler } from "../../src/handler/model.ts";
import { kataDefaultShims } from "../../src/handler/presets/kata.ts";
import { allPresets, findPreset } from "../../src/handler/presets/registry.ts";
import { resolvePreset } from "../../src/handler/resolve.ts";
import { documented, filesOf } from "../support/documented.ts";
import { handler } from "../support/memory.ts";

const presets = allPresets();
const golden = new URL("../fixtures/presets.json", import.meta.url);
const update = "SHIMCTL_UPDATE_FIXTURES=1 npx bun test test/unit/presets.test.ts && npm run format";

/** A preset as people and engines see it, on a host that has nothing. */
function pictureOf(name: string): unknown {
  const preset = findPreset(name);
  const resolved = handler(name);
  const written = backends.flatMap((backend) => {
    const text = backend.render(resolved);
    return text === undefined ? [] : [[backend.name, text.split("\n")] as const];
  });
  return {
    summary: preset?.summary,
    source: preset?.source,
    handler: resolved,
    written: Object.fromEntries(written),
  };
}

describe("the golden file", () => {
  const now: Record<string, unknown> = Object.fromEntries(
    presets.map(({ name }) => [name, JSON.parse(JSON.stringify(pictureOf(name)))]),
  );
  if (process.env["SHIMCTL_UPDATE_FIXTURES"] === "1")
    writeFileSync(golden, `${JSON.stringify(now, undefined, 2)}\n`);
  const before: Record<string, unknown> = existsSync(golden) ? JSON.parse(readFileSync(golden, "utf8")) : {};

  test("lists exactly the presets there are, in their order", () => {
    expect(Object.keys(now), `When this is meant: ${update}`).toEqual(Object.keys(before));
  });

  for (const name of Object.keys(now)) {
    test(`holds ${name} as it resolves and is written now`, () => {
      expect(now[name], `Preset '${name}' changed. When this is meant: ${update}`).toEqual(before[name]);
    });
  }
});

describe("every preset", () => {
  test("has a name of its own", () => {
    const names = presets.map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  for (const preset of presets) {
    test(`${preset.name} makes a handler that the model takes unchanged`, () => {
      const resolved = handler(preset.name);
      expect(Handler.parse(resolved)).toEqual(resolved);
    });

    test(`${preset.name} runs under at least one engine`, () => {
      expect(preset.containerd ?? preset.crio).toBeDefined();
    });

    test(`${preset.name} names a repository and a file as its source`, () => {
      for (const source of preset.source.split("; "))
        expect(source).toMatch(/^[\w.-]+\/[\w.-]+( \d[\d.]*)?: \S+\.\w+/);
    });

    test(`${preset.name} has no placeholder left once it is resolved`, () => {
      expect(JSON.stringify(handler(preset.name))).not.toContain("{prefix}");
    });
  }
});

describe("what is documented", () => {
  test("has a preset for every runtime, and runc has none", () => {
    expect(presets.map(({ name }) => name).sort()).toEqual(Object.keys(documented).sort());
  });

  test("gives every containerd part a type of the form io.containerd.NAME.vN, but firecracker's", () => {
    const others = presets.filter(
      ({ containerd }) =>
        containerd !== undefined && !/^io\.containerd\.[a-z0-9-]+\.v\d$/.test(containerd.runtime_type),
    );
    expect(others.map(({ name }) => name)).toEqual(["firecracker"]);
  });

  test("gives every Kata shim a part for CRI-O of its own type", () => {
    const parts = presets.filter(({ name }) => name.startsWith("kata")).map(({ crio }) => crio?.runtime_type);
    expect(new Set(parts)).toEqual(new Set(["vm"]));
  });

  test("installs as many shims by default as kata-deploy does, and knows each", () => {
    const counts = Object.entries(kataDefaultShims).map(([arch, shims]) => [arch, shims.length]);
    expect(counts).toEqual([
      ["x86_64", 20],
      ["aarch64", 10],
      ["s390x", 6],
      ["ppc64le", 2],
    ]);
    const all = Object.values(kataDefaultShims).flat();
    expect(all.filter((shim) => documented[`kata-${shim}`] === undefined)).toEqual([]);
  });
});

const engines = ["containerd", "crio"] as const;

describe("a handler as its runtime documents it", () => {
  for (const [name, definition] of Object.entries(documented)) {
    test(`is what ${name} resolves to where its files stand as documented`, () => {
      const preset = findPreset(name);
      if (preset === undefined) throw new Error(`no preset ${name}`);
      const files = engines.flatMap((engine) => Object.values(filesOf(definition, engine)).flat());
      const facts = {
        prefix: undefined,
        snapshotter: undefined,
        exists: (path: string) => files.includes(path),
      };
      expect(resolvePreset(preset, name, facts)).toEqual({ ...definition, name, preset: name });
    });
  }
});

describe("where a preset looks", () => {
  function at(name: string, prefix: string | undefined, has: readonly string[]): Handler {
    const preset = findPreset(name);
    if (preset === undefined) throw new Error(`no preset ${name}`);
    return resolvePreset(preset, name, {
      prefix,
      snapshotter: undefined,
      exists: (path) => has.includes(path),
    });
  }

  test("firecracker's shim is looked up in PATH under the name that containerd gives it", () => {
    const paths = needs(handler("firecracker")).flatMap((need) => need.paths);
    expect(paths).toContain("/usr/local/bin/containerd-shim-aws-firecracker");
  });

  test("a WebAssembly shim under --prefix is named by its full path", () => {
    expect(at("spin", "/opt/kwasm", []).containerd?.runtime_path).toBe(
      "/opt/kwasm/bin/containerd-shim-spin-v2",
    );
  });

  test("Kata of a distribution is found under /usr when /opt/kata is not there", () => {
    const found = at("kata", undefined, [
      "/usr/bin/containerd-shim-kata-v2",
      "/usr/share/defaults/kata-containers/configuration.toml",
    ]);
    expect([found.crio?.runtime_path, found.crio?.runtime_config_path]).toEqual([
      "/usr/bin/containerd-shim-kata-v2",
      "/usr/share/defaults/kata-containers/configuration.toml",
    ]);
  });

  test("a distribution's Kata is not taken when --prefix says where Kata is", () => {
    const found = at("kata", "/opt/other", ["/usr/bin/containerd-shim-kata-v2"]);
    expect(found.containerd?.runtime_path).toBe("/opt/other/bin/containerd-shim-kata-v2");
  });

  test("a configuration in /etc stays there when --prefix moves the shim", () => {
    const found = at("runsc", "/opt/gvisor", []).crio;
    expect([found?.runtime_path, found?.runtime_config_path]).toEqual([
      "/opt/gvisor/bin/containerd-shim-runsc-v1",
      "/etc/containerd/runsc.toml",
    ]);
  });

  test("the runtime of another platform moves with --prefix", () => {
    expect(at("crun-wasm", "/opt/crun", []).crio?.platform_runtime_paths).toEqual({
      "wasi/wasm32": "/opt/crun/bin/crun-wasm",
    });
  });
});
