import { ShimctlError } from "../error.ts";
import type { Daemon } from "./daemon.ts";
import type { HostFiles } from "./host.ts";
import { behindWrappers, environmentOf, putIn, readUnit, type ServiceSettings } from "./units.ts";

/** Which daemons are looked for. */
export interface Wanted {
  /** Names that their units may have, as systemctl(1) takes patterns: `k3s*.service`. */
  readonly units: readonly string[];
  /** One that is asked about by its name. */
  readonly asked?: string | undefined;
  isOne(daemon: Daemon): boolean;
  /** Units that are told of whatever they start: a script may start the daemon. */
  readonly always?: ReadonlySet<string>;
}

export function isWanted({ always, isOne }: Wanted, daemon: Daemon): boolean {
  return isOne(daemon) || (daemon.unit !== undefined && always?.has(daemon.unit) === true);
}

/** Where units stand, those that count most first (systemd.unit(5), "Unit File Load Path"). */
export const unitFolders = [
  "/etc/systemd/system.control",
  "/run/systemd/system.control",
  "/run/systemd/transient",
  "/etc/systemd/system",
  "/run/systemd/system",
  "/usr/local/lib/systemd/system",
  "/usr/lib/systemd/system",
  "/lib/systemd/system",
] as const;

/** Where administrators and installers put theirs: under any name. */
const ownFolders: readonly string[] = [
  "/run/systemd/transient",
  "/etc/systemd/system",
  "/run/systemd/system",
];

/** The daemons as unit files below the root have them; whether one runs, files do not tell. */
export function daemonsInFiles(host: HostFiles, wanted: Wanted): Daemon[] {
  const listed = unitFolders.map((folder) => ({ folder, names: namesIn(host, folder) }));
  if (listed.every(({ names }) => names.length === 0)) return [];
  const matches = matcher(wanted.units);
  const names = new Set<string>();
  const isOwn = (folder: string) => ownFolders.includes(folder);
  // Drop-ins alone may be what is seen of a unit.
  // A template is no unit, only those made from it are.
  for (const { folder, names: all } of listed)
    for (const name of all)
      for (const unit of [name, name.replace(/\.d$/, "")])
        if (
          unit.endsWith(".service") &&
          !unit.includes("@.") &&
          (matches(unit) || unit === wanted.asked || isOwn(folder))
        )
          names.add(unit);
  return [...names].sort().flatMap((name) => {
    const daemon = daemonOf(host, name, listed);
    return daemon !== undefined && isWanted(wanted, daemon) ? [daemon] : [];
  });
}

interface Listed {
  readonly folder: string;
  readonly names: readonly string[];
}

function daemonOf(host: HostFiles, unit: string, listed: readonly Listed[]): Daemon | undefined {
  const folder = listed.find(({ names }) => names.includes(unit))?.folder;
  const fragment = `${folder}/${unit}`;
  // Its own file may be where nothing is mounted, and what drop-ins say counts more.
  const isUnseen = folder === undefined && unitFolders.some((each) => host.unmounted?.(each) !== undefined);
  const own = isUnseen ? "unseen" : folder === undefined ? undefined : textOf(host, fragment);
  // An empty file, or a link to /dev/null, is a unit that was masked.
  if (own === undefined || own === "absent" || own === "") return undefined;
  const dropIns = dropInsOf(host, unit, listed);
  const settings = readUnit([own, ...dropIns.map(({ text }) => text)]);
  if (settings.argv.length === 0) return undefined;
  return {
    unit,
    ...started(host, {
      ...settings,
      environmentFiles: settings.environmentFiles.map((file) => ({
        ...file,
        path: withName(file.path, unit),
      })),
    }),
    active: undefined,
    source: isUnseen ? (dropIns[0]?.path ?? unit) : fragment,
    files: [...(isUnseen ? [] : [fragment]), ...dropIns.map(({ path }) => path)],
  };
}

/** The units of k3s and RKE2 have their variables in `/etc/default/%N` (systemd.unit(5), "Specifiers"). */
function withName(path: string, unit: string): string {
  const names: Record<string, string> = { "%n": unit, "%N": unit.slice(0, -".service".length) };
  return path.replace(/%./g, (specifier) => names[specifier] ?? specifier);
}

/** What a unit starts, its variables and their files read below the root. */
export function started(
  host: HostFiles,
  settings: ServiceSettings,
): Pick<Daemon, "argv" | "environment" | "variables" | "unseen"> {
  const variables: string[] = [];
  const unseen: string[] = [];
  const environment = environmentOf(settings, (path) => {
    const text = textOf(host, path);
    if (text === undefined) unseen.push(path);
    else if (text !== "absent") variables.push(path);
    return text;
  });
  const argv = settings.expands ? putIn(settings.argv, environment) : settings.argv;
  return {
    argv: behindWrappers(argv),
    environment: environment.values,
    ...(variables.length === 0 ? {} : { variables }),
    ...(unseen.length === 0 ? {} : { unseen }),
  };
}

/** Drop-ins of all folders in the order of their names; of two of one name, the one that counts more. */
function dropInsOf(
  host: HostFiles,
  unit: string,
  listed: readonly Listed[],
): { readonly path: string; readonly text: string }[] {
  const found = new Map<string, string>();
  for (const kind of dropInFolders(unit))
    for (const { folder, names } of listed) {
      if (!names.includes(kind)) continue;
      for (const name of namesIn(host, `${folder}/${kind}`))
        if (name.endsWith(".conf") && !found.has(name)) found.set(name, `${folder}/${kind}/${name}`);
    }
  return [...found]
    .sort(([one], [other]) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
    .flatMap(([, path]) => {
      const text = textOf(host, path);
      return text === undefined || text === "absent" ? [] : [{ path, text }];
    });
}

/** `a-b.service.d`, `a-.service.d` and `service.d`, as systemd.unit(5) has them; the closest first. */
function dropInFolders(unit: string): string[] {
  const stem = unit.slice(0, -".service".length);
  const dashes = [...stem.matchAll(/-/g)].map(({ index }) => stem.slice(0, index + 1)).reverse();
  return [...new Set([stem, ...dashes])].map((each) => `${each}.service.d`).concat("service.d");
}

/** What this user may not see, nobody tells. */
function namesIn(host: HostFiles, folder: string): readonly string[] {
  try {
    return host.list(folder) ?? [];
  } catch (error) {
    if (error instanceof ShimctlError) return [];
    throw error;
  }
}

function textOf(host: HostFiles, path: string): string | "absent" | undefined {
  if (host.unmounted?.(path) !== undefined) return undefined;
  const read = host.read(path);
  if (read.kind === "file") return new TextDecoder().decode(read.bytes);
  return read.kind === "absent" ? "absent" : undefined;
}

/** Whether a name is one of these, where `*` stands for anything. */
export function matcher(patterns: readonly string[]): (name: string) => boolean {
  const all = patterns.map(
    (pattern) => new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")}$`),
  );
  return (name) => all.some((each) => each.test(name));
}
