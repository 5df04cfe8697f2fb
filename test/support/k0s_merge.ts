import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parse, stringify, type TomlTable, type TomlValue } from "smol-toml";
import { isTable, tableAt } from "../../src/engine/tables.ts";

/**
 * What k0s does to its containerd's configuration (k0sproject/k0s, pkg/component/worker/containerd): up to 1.35 at its
 * start and whenever its drop-in folder changes, from 1.36 on at its start only.
 */
export type Generation = "1.35" | "1.36";

export const k0sRoot = "/etc/k0s/containerd.toml";
export const k0sFolder = "/etc/k0s/containerd.d";
export const k0sInto = "/run/k0s/containerd-cri.toml";
export const k0sSocket = "/run/k0s/containerd.sock";

const header = `# k0s_managed=true
# This is a placeholder configuration for k0s managed containerd.
`;
const criV2 = "io.containerd.grpc.v1.cri";

/** Writes what k0s writes. Throws where k0s would refuse a drop-in, and then leaves everything as it was. */
export function renderByK0s(root: string, generation: Generation): void {
  const dropIns = readdirSync(root + k0sFolder)
    .filter((name) => name.endsWith(".toml"))
    .sort()
    .map((name) => {
      const path = `${k0sFolder}/${name}`;
      return { path, table: parse(readFileSync(root + path, "utf8"), { integersAsBigInt: true }) };
    });
  const write = (path: string, text: string) => {
    mkdirSync(dirname(root + path), { recursive: true });
    writeFileSync(root + path, text);
  };
  if (generation === "1.36") {
    for (const { path, table } of dropIns) {
      const { version = 3n } = table;
      if (version !== 3n) throw new Error(`${path}: unsupported config version ${version}`);
      if (tableAt(table, "plugins", criV2) !== undefined)
        throw new Error(`${path}: unsupported plugin ${criV2}`);
    }
    const images = { pinned_images: { sandbox: "registry.k8s.io/pause:3.10.1" } };
    const plugins = { "io.containerd.cri.v1.images": images, "io.containerd.cri.v1.runtime": {} };
    write(k0sRoot, header + stringify({ imports: [`${k0sFolder}/*.toml`], version: 3, plugins }));
    return;
  }
  const imports: string[] = [];
  let cri: TomlTable = parse(defaults, { integersAsBigInt: true });
  for (const { path, table } of dropIns) {
    if (tableAt(table, "plugins", criV2) === undefined) imports.push(path);
    else cri = patched(cri, table);
  }
  write(k0sInto, stringify(cri));
  write(k0sRoot, header + stringify({ imports: [...imports, k0sInto], version: 2 }));
}

/** RFC 7396 without its null, which TOML does not have. */
function patched(base: TomlTable, patch: TomlTable): TomlTable {
  const result: TomlTable = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    const before: TomlValue | undefined = result[key];
    result[key] = isTable(value) ? patched(isTable(before) ? before : {}, value) : value;
  }
  return result;
}

/** Some of what containerd 1.7 has by default, as k0s writes it out. */
const defaults = `version = 2

[plugins."${criV2}"]
enable_cdi = false
sandbox_image = "registry.k8s.io/pause:3.10.1"
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[plugins."${criV2}".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"

[plugins."${criV2}".containerd]
default_runtime_name = "runc"
snapshotter = "overlayfs"

[plugins."${criV2}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
sandbox_mode = "podsandbox"

[plugins."${criV2}".containerd.runtimes.runc.options]
BinaryName = ""
SystemdCgroup = false
`;
