import type { Source } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { shellWord } from "../shell_word.ts";
import { engineSettings, isKnown, isProgram, movesDropIns } from "./command_line.ts";
import { dropIns } from "./crio.ts";
import type { Daemon, Layout, Places, Wish } from "./layout.ts";
import { layouts } from "./registry.ts";

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
  const { engine } = layout;
  const settings = engineSettings(engine, daemon);
  if (settings === undefined) return;
  const { config = unknownIn(daemon) ?? places.rootFile, configDir } = settings;
  const rootFile = wish.config ?? places.rootFile;
  // It is made of the root file at each start.
  if (
    places.startedWith !== undefined &&
    rootFile === places.rootFile &&
    isSame(host, config, places.startedWith)
  )
    return;
  const starts = `${startsWords(daemon)} ${engine}`;
  const refusal = (message: string, path: string, hint: string) =>
    new ShimctlError("unsupported-node", message, { path, hint });
  const cannot =
    wish.config === undefined ? "Cannot use this configuration" : `Cannot use ${wish.configOption}`;
  // CRI-O reads its drop-ins all the same; containerd 2.x starts without any file, and 1.x does not start.
  if (config === "" && engine === "containerd")
    throw refusal(
      `Cannot use this configuration, as ${starts} on no file: its --config is empty`,
      rootFile,
      `name the file behind --config in ${whereWritten(host, daemon, "--config")}`,
    );
  if (config !== "" && !isKnown(config)) {
    if (wish.config !== undefined) return;
    throw refusal(
      `Cannot tell which file ${engine} reads, as ${starts} on one that cannot be told from here: ${config}`,
      rootFile,
      "pass --config with the file that it reads",
    );
  }
  if (config !== "" && !isSame(host, config, rootFile))
    throw refusal(
      `${cannot}, as ${starts} on another file: ${config}`,
      rootFile,
      `pass --config ${shellWord(config)}`,
    );
  if (configDir !== undefined && (configDir === "" || !isSame(host, configDir, dropIns))) {
    const what = movesDropIns(engine, daemon);
    throw refusal(
      `Cannot use this folder of drop-ins, as ${starts} on ${configDir === "" ? `none: its ${what} is empty` : `another one: ${configDir}`}`,
      dropIns,
      `take ${what} out of ${whereWritten(host, daemon, what)}`,
    );
  }
}

/**
 * The file that is meant, with what it is made from beside it. What writes it anew decides where it is: `--config` only
 * says so where nobody can tell.
 */
export function settleMade(
  host: HostFiles,
  layout: Layout,
  daemon: Daemon | undefined,
  places: Places,
  wish: Wish,
): Pick<Places, "rootFile" | "source"> {
  const { rootFile, source } = places;
  const { config, configOption } = wish;
  // A file to look at only may be any. What is recorded is known again by the path of the root file: it has one.
  const isOwn =
    config === rootFile ||
    (config !== undefined && configOption !== undefined && isSame(host, config, rootFile));
  if (source === undefined || (config !== undefined && configOption === undefined))
    return config === undefined || isOwn ? places : { rootFile: config };
  if (config === undefined) {
    if (isKnown(rootFile)) return places;
    throw new ShimctlError(
      "unsupported-node",
      `Cannot tell which file ${source.by} writes, as ${daemon === undefined ? "it is started" : `${startsWords(daemon)} it`} on a folder that cannot be told from here: ${/\$\{[^}]*\}/.exec(rootFile)?.[0] ?? rootFile}`,
      {
        ...(daemon?.files?.[0] === undefined ? {} : { path: daemon.files[0] }),
        hint: "pass --config with the file that it writes",
      },
    );
  }
  if (isOwn) return places;
  const tail = rootFile.split("/").slice(-4).join("/");
  const isUnsettled = daemon === undefined || places.unseen !== undefined || !isKnown(rootFile);
  if (source.kind === "rendered" && isUnsettled && config.endsWith(`/${tail}`))
    return { rootFile: config, source: besides(source, dirOf(rootFile), dirOf(config)) };
  throw new ShimctlError(
    "unsupported-node",
    `Cannot use ${configOption}, as ${layout.title} has its containerd read a file that it writes itself${source.kind === "template" ? ", made of this one" : ""}: ${rootFile}`,
    { path: config, hint: `leave ${configOption} out` },
  );
}

/** The same files in another folder. */
function besides(source: RenderedSource, from: string, to: string): RenderedSource {
  const moved = (path: string) => (path.startsWith(`${from}/`) ? `${to}${path.slice(from.length)}` : path);
  return {
    ...source,
    dropIns: source.dropIns.map(moved),
    templates: source.templates.map((template) => ({ ...template, path: moved(template.path) })),
  };
}

type RenderedSource = Extract<Source, { kind: "rendered" }>;

function dirOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

/** A layout's own unit may start the engine through a script: what that says, nobody can tell. */
export function refuseWrapped(layout: Layout, daemons: readonly Daemon[], places: Places, wish: Wish): void {
  if (wish.config !== undefined) return;
  const unit = daemons.find((each) => each.unit === layout.unit);
  if (unit === undefined || unit.argv.length === 0) return;
  // Another command of the engine, or another role, says nothing of where its files are.
  if (isProgram(layout.engine, unit.argv) || layouts.some((each) => each.isDaemon(unit))) return;
  throw new ShimctlError(
    "unsupported-node",
    `Cannot tell which file ${layout.engine} reads, as ${startsWords(unit)} another program, which may name any: ${unit.argv[0]}`,
    { path: places.rootFile, hint: "pass --config with the file that it reads" },
  );
}

/** The last of a daemon's files that has this word: distributions have its flags in a file of variables. */
function whereWritten(host: HostFiles, { files = [], variables = [] }: Daemon, word: string): string {
  const has = (path: string) => {
    const read = host.read(path);
    return read.kind === "file" && new TextDecoder().decode(read.bytes).includes(word);
  };
  return [...files, ...variables].findLast(has) ?? files.at(-1) ?? "its command line";
}

function startsWords(daemon: Daemon): string {
  return `${daemon.unit ?? "a process"} (${sourceWords(daemon)}) starts`;
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
