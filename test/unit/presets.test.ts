import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { needs } from "../../src/engine/containerd/needs.ts";
import { backends } from "../../src/engine/registry.ts";
import { type ContainerdPart, type CrioPart, Handler } from "../../src/handler/model.ts";
import { kataDefaultShims } from "../../src/handler/presets/kata.ts";
import { allPresets, findPreset } from "../../src/handler/presets/registry.ts";
import { resolvePreset } from "../../src/handler/resolve.ts";
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

/** peers.md 6.1: every runtime it documents, by handler; runc is built into the engines. */
const kataShims = [
  ...["clh", "clh-azure", "clh-runtime-rs", "clh-azure-runtime-rs", "dragonball", "fc", "qemu", "remote"],
  ...["qemu-runtime-rs", "qemu-nvidia-cpu", "qemu-nvidia-cpu-runtime-rs", "qemu-nvidia-gpu"],
  ...["qemu-nvidia-gpu-runtime-rs", "qemu-nvidia-gpu-snp", "qemu-nvidia-gpu-snp-runtime-rs"],
  ...["qemu-nvidia-gpu-tdx", "qemu-nvidia-gpu-tdx-runtime-rs", "qemu-snp", "qemu-snp-runtime-rs", "qemu-tdx"],
  ...["qemu-tdx-runtime-rs", "qemu-se", "qemu-se-runtime-rs", "qemu-coco-dev", "qemu-coco-dev-runtime-rs"],
  "openvmm-azure-runtime-rs",
];
const otherRuntimes = [
  ...["crun", "crun-wasm", "youki", "runsc", "kata", "nvidia", "nvidia-cdi", "nvidia-legacy"],
  ...["nvidia-experimental", "spin", "slight", "wws", "lunatic", "wasmtime", "wasmedge", "wasmer"],
  ...["firecracker", "sysbox-runc", "urunc"],
];

describe("what is documented", () => {
  const documented = [
    ...otherRuntimes,
    ...kataShims.flatMap((shim) => [`kata-${shim}`, `kata-${shim}-debug`]),
  ];
  const known = presets.map(({ name }) => name).sort();

  test("has a preset for every runtime, and runc has none", () => {
    expect(known).toEqual(documented.sort());
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

  test("lets the guest pull under CRI-O where kata-deploy's chart does", () => {
    const shims = kataShims.filter((shim) => handler(`kata-${shim}`).crio?.runtime_pull_image === true);
    expect(shims.sort()).toEqual([
      ...["qemu-coco-dev", "qemu-coco-dev-runtime-rs"],
      ...["qemu-nvidia-gpu-snp", "qemu-nvidia-gpu-snp-runtime-rs"],
      ...["qemu-nvidia-gpu-tdx", "qemu-nvidia-gpu-tdx-runtime-rs"],
      ...["qemu-se", "qemu-se-runtime-rs", "qemu-snp", "qemu-snp-runtime-rs"],
      ...["qemu-tdx", "qemu-tdx-runtime-rs", "remote"],
    ]);
  });

  test("gives a debug variant everything of its shim but the name, the type and the configuration", () => {
    for (const shim of kataShims) {
      const { name: _n, preset: _p, containerd, crio, ...rest } = handler(`kata-${shim}`);
      const debug = handler(`kata-${shim}-debug`);
      const configuration = `/opt/kata/share/defaults/kata-containers/custom-runtimes/kata-${shim}-debug/configuration-${shim}.toml`;
      expect(debug).toEqual({
        ...rest,
        name: `kata-${shim}-debug`,
        preset: `kata-${shim}-debug`,
        containerd: {
          runtime_type: `io.containerd.kata-${shim}-debug.v2`,
          runtime_path: containerd?.runtime_path ?? "",
          options: { ConfigPath: configuration },
          like_runc: false,
        },
        crio: { ...vm, ...crio, runtime_config_path: configuration },
      });
    }
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
    expect(all.filter((shim) => !kataShims.includes(shim))).toEqual([]);
  });
});

const runc: ContainerdPart = { runtime_type: "io.containerd.runc.v2", like_runc: true, options: {} };
const oci: CrioPart = { runtime_type: "oci", like_default: true };
const vm: CrioPart = { runtime_type: "vm", like_default: false };

function shimmed(runtimeType: string): ContainerdPart {
  return { runtime_type: runtimeType, like_runc: false, options: {} };
}

const kataNeutral = {
  privileged_without_host_devices: true,
  pod_annotations: ["io.katacontainers.*"],
  container_annotations: ["io.kubernetes.container.terminationMessage*"],
};

function kataAsDeployed(name: string, binary: string, configuration: string): Omit<Handler, "name"> {
  return {
    ...kataNeutral,
    containerd: {
      ...shimmed(`io.containerd.kata-${name}.v2`),
      runtime_path: binary,
      options: { ConfigPath: configuration },
    },
    crio: { ...vm, runtime_path: binary, runtime_root: "/run/vc", runtime_config_path: configuration },
  };
}

function nvidiaAs(binary: string): Omit<Handler, "name"> {
  return {
    containerd: { ...runc, options: { BinaryName: binary } },
    crio: { ...oci, runtime_path: binary },
  };
}

/**
 * Definitions by hand, as the runtimes' documentation gives them; `has` is what stands on the host, where the
 * documentation names another place than the first that is looked at.
 */
const definitions: Readonly<
  Record<string, { readonly has?: readonly string[]; readonly handler: Omit<Handler, "name"> }>
> = {
  crun: {
    has: ["/usr/local/bin/crun", "/usr/libexec/crio/crun"],
    handler: {
      containerd: { ...runc, options: { BinaryName: "/usr/local/bin/crun" } },
      crio: {
        ...oci,
        runtime_path: "/usr/libexec/crio/crun",
        runtime_root: "/run/crun",
        allowed_annotations: ["io.containers.trace-syscall"],
      },
    },
  },
  "crun-wasm": {
    handler: {
      pod_annotations: [
        ...["*.wasm.*", "wasm.*", "module.wasm.image/*", "*.module.wasm.image"],
        "module.wasm.image/variant.*",
      ],
      containerd: { ...runc, options: { BinaryName: "/usr/bin/crun-wasm" } },
      crio: {
        ...oci,
        runtime_path: "/usr/bin/crun",
        platform_runtime_paths: { "wasi/wasm32": "/usr/bin/crun-wasm" },
      },
    },
  },
  youki: { handler: { containerd: { ...runc, options: { BinaryName: "/usr/local/bin/youki" } } } },
  runsc: {
    handler: {
      requires: ["runsc"],
      containerd: shimmed("io.containerd.runsc.v1"),
      crio: {
        ...vm,
        runtime_path: "/usr/local/bin/containerd-shim-runsc-v1",
        runtime_root: "/run/runsc",
        runtime_config_path: "/etc/containerd/runsc.toml",
      },
    },
  },
  kata: {
    handler: {
      privileged_without_host_devices: true,
      pod_annotations: ["io.katacontainers.*"],
      container_annotations: ["io.katacontainers.*"],
      containerd: {
        ...shimmed("io.containerd.kata.v2"),
        runtime_path: "/opt/kata/bin/containerd-shim-kata-v2",
        options: { ConfigPath: "/opt/kata/share/defaults/kata-containers/configuration.toml" },
      },
      crio: {
        ...vm,
        runtime_path: "/opt/kata/bin/containerd-shim-kata-v2",
        runtime_root: "/run/vc",
        runtime_config_path: "/opt/kata/share/defaults/kata-containers/configuration.toml",
      },
    },
  },
  "kata-qemu": {
    handler: kataAsDeployed(
      "qemu",
      "/opt/kata/bin/containerd-shim-kata-v2",
      "/opt/kata/share/defaults/kata-containers/runtimes/qemu/configuration-qemu.toml",
    ),
  },
  "kata-fc": {
    handler: {
      ...kataAsDeployed(
        "fc",
        "/opt/kata/bin/containerd-shim-kata-v2",
        "/opt/kata/share/defaults/kata-containers/runtimes/fc/configuration-fc.toml",
      ),
      snapshotter: "devmapper",
    },
  },
  "kata-dragonball": {
    handler: kataAsDeployed(
      "dragonball",
      "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2",
      "/opt/kata/share/defaults/kata-containers/runtime-rs/runtimes/dragonball/configuration-dragonball.toml",
    ),
  },
  "kata-qemu-runtime-rs": {
    handler: kataAsDeployed(
      "qemu-runtime-rs",
      "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2",
      "/opt/kata/share/defaults/kata-containers/runtime-rs/runtimes/qemu-runtime-rs/configuration-qemu-runtime-rs.toml",
    ),
  },
  nvidia: { handler: nvidiaAs("/usr/bin/nvidia-container-runtime") },
  "nvidia-cdi": {
    has: ["/usr/local/nvidia/toolkit/nvidia-container-runtime.cdi"],
    handler: nvidiaAs("/usr/local/nvidia/toolkit/nvidia-container-runtime.cdi"),
  },
  "nvidia-legacy": { handler: nvidiaAs("/usr/bin/nvidia-container-runtime.legacy") },
  "nvidia-experimental": {
    handler: {
      containerd: { ...runc, options: { BinaryName: "/usr/bin/nvidia-container-runtime-experimental" } },
    },
  },
  spin: { handler: { containerd: shimmed("io.containerd.spin.v2") } },
  slight: { handler: { containerd: shimmed("io.containerd.slight.v1") } },
  wws: { handler: { containerd: shimmed("io.containerd.wws.v1") } },
  lunatic: { handler: { containerd: shimmed("io.containerd.lunatic.v1") } },
  wasmtime: { handler: { containerd: shimmed("io.containerd.wasmtime.v1") } },
  wasmedge: { handler: { containerd: shimmed("io.containerd.wasmedge.v1") } },
  wasmer: { handler: { containerd: shimmed("io.containerd.wasmer.v1") } },
  firecracker: {
    handler: {
      snapshotter: "devmapper",
      cni_conf_dir: "/etc/cni/net.d",
      containerd: shimmed("aws.firecracker"),
    },
  },
  "sysbox-runc": {
    handler: {
      containerd: { ...runc, options: { BinaryName: "/usr/bin/sysbox-runc" } },
      crio: {
        ...oci,
        runtime_path: "/usr/bin/sysbox-runc",
        allowed_annotations: ["io.kubernetes.cri-o.userns-mode"],
      },
    },
  },
  urunc: {
    handler: {
      snapshotter: "devmapper",
      pod_annotations: ["com.urunc.unikernel.*"],
      container_annotations: ["com.urunc.unikernel.*"],
      requires: ["urunc"],
      containerd: shimmed("io.containerd.urunc.v2"),
    },
  },
};

describe("a handler as its runtime documents it", () => {
  for (const [name, documented] of Object.entries(definitions)) {
    test(`is what ${name} resolves to`, () => {
      const preset = findPreset(name);
      if (preset === undefined) throw new Error(`no preset ${name}`);
      const has = new Set(documented.has);
      expect(
        resolvePreset(preset, name, {
          prefix: undefined,
          snapshotter: undefined,
          exists: (path) => has.has(path),
        }),
      ).toEqual({ name, preset: name, ...documented.handler });
    });
  }

  test("is written down here for every runtime that is no Kata shim", () => {
    expect(otherRuntimes.filter((name) => definitions[name] === undefined)).toEqual([]);
  });
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
