import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { engineSettings, isKnown } from "./command_line.ts";
import type { Daemon, Layout, Places, Wish } from "./layout.ts";

/** An engine that is started on another file than the one that is to be changed would never read what we write. */
export function refuseElsewhere(
  host: HostFiles,
  layout: Layout,
  daemon: Daemon,
  places: Places,
  wish: Wish,
): void {
  // A file to look at only may be any.
  if (wish.config !== undefined && wish.configOption === undefined) return;
  const settings = engineSettings(layout.engine, daemon);
  if (settings === undefined) return;
  const { config = unknownIn(daemon) ?? places.rootFile, configDir } = settings;
  const rootFile = wish.config ?? places.rootFile;
  const starts = `${daemon.unit ?? "a process"} (${sourceWords(daemon)}) starts ${layout.engine}`;
  if (!isKnown(config)) {
    if (wish.config !== undefined) return;
    throw new ShimctlError(
      "unsupported-node",
      `Cannot tell which file ${layout.engine} reads, as ${starts} on one that cannot be told from here: ${config}`,
      { path: rootFile, hint: "pass --config with the file that it reads" },
    );
  }
  if (!isSame(host, config, rootFile)) {
    throw new ShimctlError(
      "unsupported-node",
      wish.config === undefined
        ? `Cannot use this configuration, as ${starts} on another file: ${config}`
        : `Cannot use ${wish.configOption}, as ${starts} on another file: ${config}`,
      { path: rootFile, hint: `pass --config ${config}` },
    );
  }
  const usual = `${rootFile.slice(0, rootFile.lastIndexOf("/"))}/crio.conf.d`;
  if (configDir !== undefined && !isSame(host, configDir, usual)) {
    throw new ShimctlError(
      "unsupported-node",
      `Cannot use this folder of drop-ins, as ${starts} on another one: ${configDir}`,
      { path: usual, hint: `take --config-dir out of ${daemon.files?.at(-1) ?? "its command line"}` },
    );
  }
}

/**
 * What renders its engine's configuration says where by its own command line: a word that nobody can tell may name
 * another data folder. The value of an option is only that option's.
 */
export function refuseUnseen(layout: Layout, daemon: Daemon, { source, rootFile }: Places): void {
  if (source?.kind !== "rendered") return;
  const unseen = daemon.argv.find(
    (word, at) =>
      /^\$\{[^}]*\}$/.test(word) &&
      (at < 1 || !/^--?(?!data-dir$|d$|config$|c$)[a-z]/.test(daemon.argv[at - 1] ?? "")),
  );
  if (unseen === undefined) return;
  throw new ShimctlError(
    "unsupported-node",
    `Cannot tell which file ${source.by} renders, as ${daemon.unit ?? "a process"} (${sourceWords(daemon)}) starts ${layout.title} with what cannot be told from here: ${unseen}`,
    { path: rootFile, hint: "pass --config with the config.toml that it renders" },
  );
}

/** A word that stands for any number of others, which may say where the configuration is. */
function unknownIn({ argv }: Daemon): string | undefined {
  return argv.find((word) => /^\$\{[^}]*\}$/.test(word));
}

function sourceWords({ source, unit, files = [] }: Daemon): string {
  const how = unit === undefined ? source : source.replace(`${unit}, `, "");
  return [how, ...files.filter((file) => file !== source)].join(", ");
}

/** Whether two paths lead to one file. */
export function isSame(host: HostFiles, one: string, other: string): boolean {
  if (one.replace(/(?<=.)\/+$/, "") === other) return true;
  const read = host.read(one);
  const against = host.read(other);
  return read.kind === "file" && against.kind === "file" && read.resolved === against.resolved;
}
