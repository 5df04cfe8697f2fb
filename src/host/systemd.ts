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
