import { type Bus, connectBus, DbusError } from "./dbus/connection.ts";
import type { Value, Variant } from "./dbus/marshal.ts";
import { notWaitedFor } from "./restart_end.ts";

/** What systemd says of a unit (org.freedesktop.systemd1(5)). */
export interface UnitState {
  readonly name: string;
  /** `active`, `activating`, `deactivating`, `reloading`, `inactive` or `failed`. */
  readonly active: string;
  readonly sub: string;
  /** `success`, `exit-code`, `start-limit-hit` …: how the last run ended. */
  readonly result: string;
  /** Of this run of the unit: another one means that it was started again. Empty where it never ran. */
  readonly invocation: string;
  /** Whose end a stop waits for: with anything but `process`, pods go with their engine. */
  readonly killMode: string;
  /** When this run became active, in milliseconds since 1970; 0 where it never did. */
  readonly activeSince: number;
}

export interface Systemd {
  /** `undefined` where there is no such unit. */
  unit(name: string): Promise<UnitState | undefined>;
  /**
   * Restarts a unit, and waits until systemd has carried that out: `done`, or how the job ended otherwise.
   * The start limit is reset first: it would leave the engine dead for good (5 starts within 10 s by default).
   */
  restart(name: string, signal: AbortSignal | undefined): Promise<string>;
  close(): void;
}

const manager = "org.freedesktop.systemd1";
const managerPath = "/org/freedesktop/systemd1";
const managerFace = `${manager}.Manager`;

/** How often to look again where the signal of a job's end was missed, with the bus itself restarted. */
const pollMs = 250;

/**
 * systemd over D-Bus, by the first socket that answers. From another PID namespace systemd's private socket
 * resets the connection, so the system bus comes first.
 *
 * @param sockets paths as this process sees them
 * @returns `undefined` where none answers
 */
export async function openSystemd(sockets: {
  readonly system: string;
  readonly direct: string;
}): Promise<Systemd | undefined> {
  for (const [path, direct] of [
    [sockets.system, false],
    [sockets.direct, true],
  ] as const) {
    const reopen = () => connectBus(path, direct);
    try {
      return over(await reopen(), reopen);
    } catch {
      // The other socket may do; that neither does is told by the caller, who knows what it is needed for.
    }
  }
  return undefined;
}

/** A service as systemd has it in memory, drop-ins included. */
export interface LoadedService {
  readonly name: string;
  readonly active: string;
  /** Its first command, specifiers put in, variables not; those are kept out of it altogether without `expands`. */
  readonly argv: readonly string[];
  readonly expands: boolean;
  readonly environment: readonly string[];
  readonly environmentFiles: readonly { readonly path: string; readonly optional: boolean }[];
  /** Its file and its drop-ins. */
  readonly files: readonly string[];
}

/** Nobody waits longer than this to be told what runs on the node. */
const lookMs = 2_000;

/**
 * The services with names like these, in memory or on disk, and those with these very names.
 * @returns `undefined` where no bus answers, or not in time
 */
export async function loadedServices(
  sockets: { readonly system: string; readonly direct: string },
  patterns: readonly string[],
  names: readonly string[],
  withinMs = lookMs,
): Promise<LoadedService[] | undefined> {
  const until = Date.now() + withinMs;
  for (const [path, direct] of [
    [sockets.system, false],
    [sockets.direct, true],
  ] as const) {
    const left = until - Date.now();
    if (left <= 0) return undefined;
    let bus: Bus | undefined;
    try {
      bus = await connectBus(path, direct, { handshake: left, answer: left });
      return await servicesOver(bus, patterns, names);
    } catch {
      // Nobody can tell; the other socket may do.
    } finally {
      // An open connection would keep the process from ending.
      bus?.close();
    }
  }
  return undefined;
}

async function servicesOver(
  bus: Bus,
  patterns: readonly string[],
  names: readonly string[],
): Promise<LoadedService[]> {
  const ask = (member: string, signature: string, body: readonly Value[]) =>
    bus.call({ destination: manager, path: managerPath, iface: managerFace, member, signature, body });
  const [[inMemory], [onDisk]] = await Promise.all([
    ask("ListUnitsByPatterns", "asas", [[], patterns]),
    ask("ListUnitFilesByPatterns", "asas", [[], patterns]),
  ]);
  const found = new Set(names);
  // Units that others only mention are in memory too.
  for (const [name, , load] of inMemory as readonly string[][])
    if (name !== undefined && load === "loaded") found.add(name);
  for (const [path = ""] of onDisk as readonly string[][]) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    // A template is no unit, only those made from it are.
    if (!name.includes("@.")) found.add(name);
  }
  const services = await Promise.all([...found].map((name) => serviceOver(bus, name, ask)));
  const unique = new Map(services.filter((each) => each !== undefined).map((each) => [each.name, each]));
  return [...unique.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
}

async function serviceOver(
  bus: Bus,
  name: string,
  ask: (member: string, signature: string, body: readonly Value[]) => Promise<readonly Value[]>,
): Promise<LoadedService | undefined> {
  let all: Value | undefined;
  try {
    const [path] = await ask("LoadUnit", "s", [name]);
    [all] = await bus.call({
      destination: manager,
      path: String(path),
      iface: "org.freedesktop.DBus.Properties",
      member: "GetAll",
      signature: "s",
      body: [""],
    });
  } catch (error) {
    if (error instanceof DbusError) return undefined;
    throw error;
  }
  const property = new Map(
    (all as readonly (readonly [string, Variant])[]).map(([key, variant]) => [key, variant.value]),
  );
  if (property.get("LoadState") !== "loaded") return undefined;
  const text = (key: string) => String(property.get(key) ?? "");
  // With flags since systemd 243: path, arguments, flags.
  const [extended] = listed(property.get("ExecStartEx"));
  const [plain] = listed(property.get("ExecStart"));
  const [program, args] = extended ?? plain ?? [];
  return {
    // Another name of the same unit leads to it as well.
    name: text("Id") || name,
    active: text("ActiveState"),
    // What it is called (`@`) is not what it is.
    argv: program === undefined ? [] : [String(program), ...strings(args).slice(1)],
    expands: !strings(extended?.[2]).includes("no-env-expand"),
    environment: strings(property.get("Environment")),
    environmentFiles: listed(property.get("EnvironmentFiles")).map(([path, optional]) => ({
      path: String(path),
      optional: optional === true,
    })),
    files: [text("FragmentPath"), ...strings(property.get("DropInPaths"))].filter((path) => path !== ""),
  };
}

function listed(value: Value | undefined): readonly (readonly Value[])[] {
  return Array.isArray(value) ? (value as readonly (readonly Value[])[]) : [];
}

function strings(value: Value | undefined): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function over(first: Bus, reopen: () => Promise<Bus>): Systemd {
  let bus = first;
  let lost = false;
  /** How jobs ended that were removed since we listen, by their path. */
  const ended = new Map<string, string>();
  let wake: () => void = () => undefined;
  let listening = false;
  const follow = () => {
    lost = false;
    listening = false;
    void bus.closed.then(() => {
      lost = true;
    });
  };
  follow();
  const connected = async (): Promise<Bus> => {
    if (!lost) return bus;
    bus = await reopen();
    follow();
    return bus;
  };
  const manage = async (member: string, signature: string, body: readonly Value[]) =>
    (await connected()).call({
      destination: manager,
      path: managerPath,
      iface: managerFace,
      member,
      signature,
      body,
    });

  const unit = async (name: string): Promise<UnitState | undefined> => {
    const [path] = await manage("LoadUnit", "s", [name]);
    const [all] = await (await connected()).call({
      destination: manager,
      path: String(path),
      iface: "org.freedesktop.DBus.Properties",
      member: "GetAll",
      signature: "s",
      // Every interface at once: the unit's, and the service's.
      body: [""],
    });
    const entries = all as readonly (readonly [string, Variant])[];
    const property = new Map(entries.map(([key, variant]) => [key, variant.value]));
    if (property.get("LoadState") === "not-found") return undefined;
    const text = (key: string) => String(property.get(key) ?? "");
    const id = property.get("InvocationID");
    const since = property.get("ActiveEnterTimestamp");
    return {
      name,
      active: text("ActiveState"),
      sub: text("SubState"),
      result: text("Result"),
      invocation: Array.isArray(id) ? Buffer.from(id as number[]).toString("hex") : "",
      killMode: text("KillMode"),
      activeSince: typeof since === "bigint" ? Number(since / 1000n) : 0,
    };
  };

  return {
    unit,
    close: () => bus.close(),
    async restart(name, signal) {
      const here = await connected();
      // systemd refuses a second subscription over one connection.
      if (!listening) {
        here.onSignal((message) => {
          if (message.member !== "JobRemoved") return;
          ended.set(String(message.body[1]), String(message.body[3]));
          wake();
        });
        await subscribe(here);
        listening = true;
      }
      await manage("ResetFailedUnit", "s", [name]).catch((error: unknown) => {
        if (!(error instanceof DbusError)) throw error;
      });
      const before = (await unit(name))?.invocation;
      const [job] = await manage("RestartUnit", "ss", [name, "replace"]);
      for (;;) {
        const result = ended.get(String(job));
        if (result !== undefined) return result;
        if (signal?.aborted === true) return notWaitedFor;
        await Promise.race([
          new Promise<void>((resolve) => {
            wake = resolve;
          }),
          here.closed,
          new Promise((resolve) => setTimeout(resolve, pollMs)),
        ]);
        if (lost) return await withoutSignals(unit, name, before, signal);
      }
    },
  };
}

/** Signals come only to whom asked for them; over the private socket there is no daemon to ask. */
async function subscribe(bus: Bus): Promise<void> {
  const rule = `type='signal',interface='${managerFace}',member='JobRemoved'`;
  await bus.call({ destination: manager, path: managerPath, iface: managerFace, member: "Subscribe" });
  await bus
    .call({
      destination: "org.freedesktop.DBus",
      path: "/org/freedesktop/DBus",
      iface: "org.freedesktop.DBus",
      member: "AddMatch",
      signature: "s",
      body: [rule],
    })
    .catch((error: unknown) => {
      if (!(error instanceof DbusError)) throw error;
    });
}

/** The bus went down while a job ran: the unit itself tells how that ended. */
async function withoutSignals(
  unit: Systemd["unit"],
  name: string,
  before: string | undefined,
  signal: AbortSignal | undefined,
): Promise<string> {
  for (;;) {
    if (signal?.aborted === true) return notWaitedFor;
    const state = await unit(name).catch(() => undefined);
    if (state?.active === "failed") return "failed";
    if (state?.active === "active" && state.invocation !== before) return "done";
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
