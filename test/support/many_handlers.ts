import fc from "fast-check";
import type { EngineName } from "../../src/engine/backend.ts";
import type { Handler } from "../../src/handler/model.ts";
import { anyName, containerdKeys, crioKeys, handlerKeys, withDifferentNames } from "./any_handler.ts";
import { documented } from "./documented.ts";
import type { Node } from "./node.ts";
import { handlerFileOf, type Inherited, written } from "./written.ts";

/** A great many handlers for nodes that serve every one of them: whatever the model takes, as far as engines do. */

const runtime = '/opt/many/bin/a "quoted" \\ runtime';
const shim = "/opt/many/bin/containerd-shim-many-v2";
const conmonrs = "/opt/many/bin/conmonrs";
const conmon = "/usr/libexec/crio/conmon";
const configuration = "/opt/many/many.toml";
const runc = "/usr/libexec/crio/runc";
const proxies = ["stargz", "my_snap.2"];

/** What a node's runc hands on to handlers that are like it. */
export const inherited: Inherited = {
  SystemdCgroup: true,
  base_runtime_spec: "/etc/containerd/base.json",
  monitor_path: conmon,
};

/** A node's own configuration, by path. */
export function ownFiles(engine: EngineName, version: string): Readonly<Record<string, string>> {
  if (engine === "crio") {
    const table = `[crio.runtime.runtimes.runc]\nruntime_path = "${runc}"\nmonitor_path = "${conmon}"\n`;
    return { "/etc/crio/crio.conf.d/10-own.conf": `[crio.runtime]\ndefault_runtime = "runc"\n${table}` };
  }
  const isOld = version.startsWith("1.");
  const plugin = isOld ? "io.containerd.grpc.v1.cri" : "io.containerd.cri.v1.runtime";
  const table = `plugins."${plugin}".containerd.runtimes.runc`;
  return {
    "/etc/containerd/base.json": "{}",
    "/etc/containerd/config.toml": [
      `version = ${isOld ? 2 : 3}`,
      `[${table}]\nruntime_type = "io.containerd.runc.v2"\nbase_runtime_spec = "/etc/containerd/base.json"`,
      `[${table}.options]\nSystemdCgroup = true`,
      ...proxies.map((name) => `[proxy_plugins."${name}"]\ntype = "snapshot"\naddress = "/run/${name}.sock"`),
      "",
    ].join("\n"),
  };
}

export function placeRuntimes(node: Node): void {
  for (const path of [runtime, shim, conmon, runc]) node.place(path, "#!/bin/sh\n", 0o755);
  node.place(conmonrs, `#!/bin/sh\necho '{"version": "0.8.0", "tag": "v0.8.0"}'\n`, 0o755);
  node.place(configuration, "");
  for (const prefix of prefixes) {
    node.place(`${prefix}/bin/containerd-shim-kata-v2`, "#!/bin/sh\n", 0o755);
    node.place(`${prefix}/share/defaults/kata-containers/runtimes/qemu/configuration-qemu.toml`, "");
  }
}

const containerd = fc
  .record(containerdKeys, { requiredKeys: ["runtime_type", "options", "like_runc"] })
  .chain((part) => {
    // Only runc's shim has a BinaryName; a handler that gives it to another one is refused.
    const { BinaryName: _, ...options } = part.options;
    return fc.constantFrom({ ...part, options }, { ...part, runtime_type: "io.containerd.runc.v2" });
  });

/** CRI-O ignores a handler that has the keys of another type, and does not start on some values. */
const {
  runtime_config_path: _,
  stream_websockets: __,
  no_sync_log: ___,
  ...forAllTypes
} = {
  ...crioKeys,
  runtime_path: fc.constant(runtime),
  allowed_annotations: fc.subarray(["io.containers.trace-syscall", "devices.crio.io", "run.oci."]),
  monitor_path: fc.constant(conmon),
  monitor_cgroup: fc.oneof(
    fc.constantFrom("", "pod"),
    crioKeys.monitor_cgroup.map((name) => `${name}.slice`),
  ),
  container_min_memory: fc.constantFrom("20MiB", "1GiB"),
  inherit_default_runtime: fc.constant(false),
  seccomp_profile: fc.constant('/opt/many/"no" \\ profile.json'),
  container_create_timeout: fc.integer({ min: 30, max: 86400 }),
};
const crio = fc.oneof(
  fc.record(
    { ...forAllTypes, runtime_type: fc.constant("oci" as const), no_sync_log: fc.boolean() },
    { requiredKeys: ["runtime_type", "like_default", "runtime_path"] },
  ),
  fc.record(
    {
      ...forAllTypes,
      runtime_type: fc.constant("vm" as const),
      runtime_path: fc.constant(shim),
      runtime_config_path: fc.constant(configuration),
    },
    { requiredKeys: ["runtime_type", "like_default", "runtime_path"] },
  ),
  fc.record(
    {
      ...forAllTypes,
      runtime_type: fc.constant("pod" as const),
      monitor_path: fc.constant(conmonrs),
      stream_websockets: fc.boolean(),
    },
    { requiredKeys: ["runtime_type", "like_default", "runtime_path", "monitor_path"] },
  ),
  fc.record({
    runtime_type: fc.constant("oci" as const),
    like_default: fc.boolean(),
    inherit_default_runtime: fc.constant(true),
  }),
);

/**
 * What `config dump` of containerd 1.x prints wrongly (go-toml v1.9.5, tomltree_write.go): an empty key as none, DEL and
 * U+001F as they are, and characters beyond U+FFFF by their last 16 bits where those are a control character.
 */
function isPrintedWrongly(one: Handler): boolean {
  if (one.containerd?.options[""] !== undefined) return true;
  const text = JSON.stringify({ ...one, crio: undefined });
  if (text.includes("\\u001f")) return true;
  return [...text].some((character) => {
    const code = character.codePointAt(0) ?? 0;
    return code === 0x7f || (code > 0xffff && (code & 0xffff) < 0x1f);
  });
}

const handler: fc.Arbitrary<Handler> = fc
  .record({
    name: anyName,
    own: fc.record(
      { ...handlerKeys, snapshotter: fc.constantFrom("devmapper", "native", ...proxies) },
      { requiredKeys: [] },
    ),
    containerd,
    crio,
  })
  .map(({ name, own, ...parts }) => ({ name, ...own, ...parts }))
  .filter((one) => !isPrintedWrongly(one));

export interface Many {
  /** As a handler file. */
  readonly text: string;
  readonly owner: string;
  /** As they are resolved. */
  readonly handlers: readonly Handler[];
}

/** Where `from-preset` and `from.preset` have their runtimes. */
const prefixes = ["/opt/many", "/opt/other"];

/** So many handlers, always the same ones. The file uses every key that there is. */
export function manyHandlers(count: number): Many {
  const [spelledOut = []] = fc.sample(withDifferentNames(handler, count - 2, count - 2), {
    numRuns: 1,
    seed: 3,
  });
  const qemu = documented["kata-qemu"];
  const at = (prefix: string): Omit<Handler, "name"> =>
    JSON.parse(JSON.stringify(qemu).replaceAll("/opt/kata", prefix));
  const owner = "many";
  const fromPresets = [
    { name: "from-preset", preset: "kata-qemu" },
    { name: "from.preset", preset: "kata-qemu", prefix: "/opt/other", pod_annotations: [] },
  ];
  const more = { owner, prefix: "/opt/many", snapshotter: "devmapper", allow_missing: true };
  return {
    owner,
    text: handlerFileOf([...spelledOut, ...fromPresets], more),
    handlers: [
      ...spelledOut,
      { name: "from-preset", ...at("/opt/many") },
      { name: "from.preset", ...at("/opt/other"), pod_annotations: [] },
    ].map((one) => ({ snapshotter: more.snapshotter, ...one })),
  };
}

/** What an engine's files hold of them. */
export function leftOf({ handlers }: Many, engine: EngineName): Record<string, Handler> {
  return byName(handlers.map((one) => written(engine, one, inherited)));
}

export function byName(handlers: readonly Handler[]): Record<string, Handler> {
  return Object.fromEntries(handlers.map((one) => [one.name, one]));
}
