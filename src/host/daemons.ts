import { existsSync } from "node:fs";
import type { Daemon } from "./daemon.ts";
import { processesOf } from "./processes.ts";
import type { Host } from "./root.ts";
import type { LoadedService } from "./systemd.ts";
import { unitFolders, type Wanted } from "./unit_files.ts";

/**
 * The daemons of a node, running ones first: as its systemd knows them; where no bus answers, as unit files below the
 * root have them; and processes that no unit explains, where the node's are seen at all.
 */
export async function findDaemons(host: Host, wanted: Wanted): Promise<Daemon[]> {
  const sockets = {
    system: host.real("/run/dbus/system_bus_socket"),
    direct: host.real("/run/systemd/private"),
  };
  const hasBus = existsSync(sockets.system) || existsSync(sockets.direct);
  const seen = processesOf(host.root);
  // A folder with a few files, in which nothing runs: the rest of this room is not even loaded for it.
  if (!hasBus && seen === undefined && !unitFolders.some((folder) => host.exists(folder))) return [];
  const { daemonsInFiles, isWanted, started } = await import("./unit_files.ts");
  const running = seen === undefined ? [] : (await import("./processes.ts")).runningDaemons(seen, wanted);
  const inFiles = daemonsInFiles(host, wanted);
  const services = hasBus ? await overBus(sockets, wanted, [...running, ...inFiles]) : undefined;
  const units =
    services === undefined
      ? inFiles.map((daemon) => asSeen(daemon, seen === undefined ? undefined : running))
      : services.map(
          (service): Daemon => ({
            unit: service.name,
            ...started(host, service),
            active: isActive(service.active),
            source: `${service.name}, over D-Bus`,
            files: service.files,
          }),
        );
  return joined(
    units.filter((unit) => isWanted(wanted, unit)),
    running,
    wanted,
  );
}

async function overBus(
  sockets: { readonly system: string; readonly direct: string },
  wanted: Wanted,
  seen: readonly Daemon[],
): Promise<LoadedService[] | undefined> {
  // Units of any name, which no pattern has.
  const units = [wanted.asked, ...seen.map(({ unit }) => unit)];
  const names = [...new Set(units.filter((unit) => unit !== undefined))];
  return (await import("./systemd.ts")).loadedServices(sockets, wanted.units, names);
}

/** `activating` is one that is started over and over too: it is meant to run. One that has failed may be, or not. */
function isActive(state: string): boolean | undefined {
  if (state === "failed") return undefined;
  return state !== "inactive";
}

/** Where all processes are seen, a unit runs if one of them is its. */
function asSeen(daemon: Daemon, running: readonly Daemon[] | undefined): Daemon {
  return running === undefined
    ? daemon
    : { ...daemon, active: running.some(({ unit }) => unit === daemon.unit) };
}

/**
 * A process is explained by its unit, and what the unit says holds for its next start too: only what nobody can tell
 * of it, the process does.
 */
function joined(units: readonly Daemon[], running: readonly Daemon[], wanted: Wanted): Daemon[] {
  const explained = units.map((unit) => {
    const process = running.find((each) => each.unit === unit.unit);
    const isTold = wanted.isOne(unit) && !unit.argv.some((word) => word.includes("${"));
    // One that has put a title in place of its arguments tells nothing of them.
    const isTitled = / /.test(process?.argv[0] ?? "");
    return process !== undefined && !isTold && !isTitled
      ? {
          ...unit,
          argv: process.argv,
          environment: process.environment,
          source: `${unit.source}, ${process.source}`,
        }
      : unit;
  });
  const alone = running.filter(({ unit }) => unit === undefined || !units.some((each) => each.unit === unit));
  const rank = ({ active }: Daemon) => (active === true ? 0 : active === undefined ? 1 : 2);
  return [...explained, ...alone].sort((one, other) => rank(one) - rank(other));
}
