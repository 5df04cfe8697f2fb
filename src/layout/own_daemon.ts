import { ShimctlError } from "../error.ts";
import type { HostFiles } from "../host/host.ts";
import { shellWord } from "../shell_word.ts";
import { engineSettings, shownCommand } from "./command_line.ts";
import type { Daemon, Layout, Wish } from "./layout.ts";

/** The daemon of a layout: the one that is named, the running one, or that of its own unit. */
export function daemonFor(
  host: HostFiles,
  layout: Layout,
  daemons: readonly Daemon[],
  wish: Wish,
): Daemon | undefined {
  const own = daemons.filter((daemon) => layout.isDaemon(daemon));
  const asked = own.find(({ unit }) => unit !== undefined && unit === asService(wish.unit));
  if (asked !== undefined) return asked;
  const running = own.filter(({ active }) => active === true);
  const [first, ...others] = running.length > 0 ? running : own;
  if (first === undefined || others.length === 0) return first;
  const fileOf = (daemon: Daemon) =>
    engineSettings(layout.engine, daemon)?.config ?? layout.places(host, daemon).rootFile;
  const named = [first, ...others].filter((daemon) => fileOf(daemon) === wish.config);
  if (named[0] !== undefined && named.length === 1) return named[0];
  const usual = [first, ...others].find(({ unit }) => unit === layout.unit);
  // One that is stopped does no harm, and of several that run nobody else can say which is the kubelet's.
  if (running.length === 0) return usual ?? first;
  const [served, ...more] = running.filter(({ unit }) => unit !== undefined);
  if (served !== undefined && more.length === 0) return served;
  // A process without a unit is told from the others by its file, if by anything.
  const option = (daemon: Daemon) =>
    daemon.unit === undefined ? `--config ${shellWord(fileOf(daemon))}` : `--unit ${shellWord(daemon.unit)}`;
  const options = new Set(running.map(option));
  throw new ShimctlError(
    "unsupported-node",
    `Cannot choose between ${running.length} daemons of ${layout.title} on this node: ${running.map(daemonWords).join(" and ")}`,
    {
      hint:
        options.size === running.length
          ? `pass ${[...options].join(" or ")}`
          : "stop those that the kubelet does not use",
    },
  );
}

/** As systemctl(1) takes it: a service where no suffix says otherwise. */
function asService(unit: string | undefined): string | undefined {
  return unit === undefined || unit.includes(".") ? unit : `${unit}.service`;
}

/**
 * Its daemons first, each with what it was told, then what the layout itself goes by. A daemon does not speak for a
 * special case, as the general one has the same: what it has of its own comes first.
 */
export function evidenceFor(layout: Layout, host: HostFiles, daemons: readonly Daemon[]): string[] {
  const more = layout.evidence(host, daemons);
  // One of several roles has looked at the daemons itself.
  if (more.length === 0 && (layout.refines !== undefined || layout.family !== undefined)) return [];
  const own = daemons.filter((daemon) => layout.isDaemon(daemon));
  const isSaid = (evidence: string) =>
    own.some(
      ({ source, unit }) =>
        evidence.startsWith(source) ||
        // Of one file by its several paths: /lib is a link to /usr/lib.
        (unit !== undefined && evidence.endsWith(`/systemd/system/${unit}`)),
    );
  const words = own.map(daemonWords);
  const rest = more.filter((each) => !isSaid(each));
  return layout.refines === undefined ? [...words, ...rest] : [...rest, ...words];
}

function daemonWords({ source, active, argv }: Daemon): string {
  const state = active === true ? "" : active === false ? " (stopped)" : "";
  return `${source}${state}: ${shownCommand(argv)}`;
}
