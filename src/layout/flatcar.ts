import type { HostFiles } from "../host/host.ts";
import { engineSettings } from "./command_line.ts";
import { specialContainerd } from "./containerd.ts";
import { isSystem } from "./evidence.ts";
import { type Daemon, type Layout, unitFiles } from "./layout.ts";

/** Of the image, read-only. */
const shipped = "/usr/share/containerd/config.toml";
/** Where containerd looks by itself. */
const usual = "/etc/containerd/config.toml";

/**
 * Flatcar starts containerd with `--config ${CONTAINERD_CONFIG}`, a file of its image, unless a drop-in of the unit
 * says otherwise: then the node is an ordinary one (flatcar/scripts: coreos/sysext/containerd; its guides).
 */
export const flatcar: Layout = {
  ...specialContainerd,
  name: "flatcar",
  title: "Flatcar Container Linux",
  evidence: (host) => isSystem(host, "flatcar"),
  places: (host, daemon) => ({
    ...specialContainerd.places(host, daemon),
    rootFile: configOf(host, daemon),
  }),
  survives: "restarts, reboots and updates of the system",
  document: "flatcar",
  refuses(host, daemon) {
    const path = configOf(host, daemon);
    // Images before 3760 unpack it below /run/torcx.
    if (!path.endsWith(shipped)) return undefined;
    return { path, why: "its containerd reads a file of the read-only image" };
  },
};

/** Which file containerd is started with. */
function configOf(host: HostFiles, daemon: Daemon | undefined): string {
  const [, ...args] = daemon?.argv ?? argvIn(host);
  // Old images start it through env(1).
  const { config } = engineSettings("containerd", { argv: ["containerd", ...args], environment: {} }) ?? {};
  if (config === undefined) return usual;
  return config.startsWith("/") ? config : shipped;
}

/** What the unit and its drop-ins say, the last word of each counting. */
function argvIn(host: HostFiles): string[] {
  const variables = new Map([["CONTAINERD_CONFIG", shipped]]);
  // As the image's own unit has it, of which nothing can be seen where only /etc is mounted.
  let command = "/usr/bin/containerd --config ${CONTAINERD_CONFIG}";
  const assign = (lines: readonly string[]) => {
    for (const [, name = "", text = ""] of lines.flatMap((line) => [...line.matchAll(assignment)]))
      variables.set(name, text);
  };
  // A line that ends in a backslash goes on in the next.
  for (const line of unitTexts(host).join("\n").replaceAll("\\\n", " ").split("\n")) {
    const [, key, value = ""] =
      /^\s*(Environment|EnvironmentFile|ExecStart)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key === "ExecStart") command = value;
    if (key === "EnvironmentFile") assign(textOf(host, value.replace(/^-/, "")).split("\n"));
    if (key === "Environment") assign([value]);
  }
  return command
    .replaceAll(/\$\{(\w+)\}|\$(\w+)/g, (_, braced, bare) => variables.get(braced ?? bare) ?? "")
    .split(/\s+/)
    .filter((part) => part !== "");
}

/** One of several on a line, with quotes around it or around its value (systemd.exec(5)). */
const assignment = /(?<=^|[\s"'])(\w+)=["']?([^\s"']*)/g;

function unitTexts(host: HostFiles): string[] {
  const [unit] = unitFiles(specialContainerd.unit).filter((path) => host.exists(path));
  // Of two with one name, that in /etc counts (systemd.unit(5)).
  const dropIns = new Map<string, string>();
  for (const above of ["/usr/lib", "/run", "/etc"]) {
    const folder = `${above}/systemd/system/${specialContainerd.unit}.d`;
    for (const name of host.list(folder) ?? [])
      if (name.endsWith(".conf")) dropIns.set(name, `${folder}/${name}`);
  }
  const files = [...dropIns].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, path]) => path);
  return [...(unit === undefined ? [] : [unit]), ...files].map((path) => textOf(host, path));
}

function textOf(host: HostFiles, path: string): string {
  const read = host.read(path);
  return read.kind === "file" ? new TextDecoder().decode(read.bytes) : "";
}
