import { kataShims } from "./node.ts";

/**
 * A shell script in the manner of the old kata-deploy, for scale: for every handler and key it reads the
 * configuration, puts one key into one table, and writes the whole file back over itself. No lock, no
 * temporary file, no fsync. It is kinder than the original, which started a TOML tool for every key: this
 * one's awk knows just enough TOML for its own tables.
 */
export function kataScript(config: string, shims: readonly string[] = kataShims): string {
  const plugin = "io.containerd.cri.v1.runtime";
  const calls = shims.flatMap((shim) => {
    const table = `plugins."${plugin}".containerd.runtimes.kata-${shim}`;
    const options = `${table}.options`;
    const configuration = `/opt/kata/share/defaults/kata-containers/runtimes/${shim}/configuration-${shim}.toml`;
    return [
      [table, "runtime_type", `"io.containerd.kata-${shim}.v2"`],
      [table, "runtime_path", '"/opt/kata/bin/containerd-shim-kata-v2"'],
      [table, "privileged_without_host_devices", "true"],
      [table, "pod_annotations", '["io.katacontainers.*"]'],
      [table, "container_annotations", '["io.kubernetes.container.terminationMessage*"]'],
      [options, "ConfigPath", `"${configuration}"`],
    ].map((words) => `set_key ${words.map((word) => `'${word}'`).join(" ")}`);
  });
  return `${header(config)}${calls.join("\n")}\n`;
}

function header(config: string): string {
  return `#!/bin/sh
set -eu
set_key() {
  text=$(awk -v table="[$1]" -v key="$2" -v value="$3" '
    function put() { if (!done) print key " = " value; done = 1 }
    $0 == table { print; put(); inside = 1; next }
    /^ *\\[/ { inside = 0 }
    inside && $1 == key { next }
    { print }
    END { if (!done) { print ""; print table; put() } }
  ' '${config}')
  printf '%s\\n' "$text" > '${config}'
}
`;
}
