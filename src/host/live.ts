import { existsSync } from "node:fs";
import { ShimctlError } from "../error.ts";
import { type ByItself, madeAt, startedByItself } from "./by_itself.ts";
import type { Cri, CriAnswer, Sandbox } from "./cri/client.ts";
import { notWaitedFor } from "./restart_end.ts";
import type { Host } from "./root.ts";
import type { Systemd, UnitState } from "./systemd.ts";

/** How the engine is restarted: by whatever is there, not at all, or by one way only. */
export type RestartMode = "auto" | "systemd" | "systemctl" | "command";

/** The running engine of a node. Nothing here is asked before it is needed, and nothing is loaded for it. */
export interface LiveEngine {
  /** What `unit` and `restart` are about, as people call it. */
  readonly unitName: string;
  /** Who restarts the engine by itself, for people: `restart` then waits for that. */
  readonly restartedBy?: string;
  /** Whether its socket is there, be it that nobody listens on it just now. */
  hasSocket?(): boolean;
  status(): Promise<CriAnswer>;
  sandboxes(): Promise<readonly Sandbox[]>;
  probe(handler: string): Promise<void>;
  /** `undefined` where nobody can tell: no service manager, or no such unit. */
  unit(): Promise<UnitState | undefined>;
  /** How `restart` would do it, in words; `undefined` where it cannot. */
  way(): Promise<string | undefined>;
  /** Restarts it, and waits until the service manager or whoever does it has done so. How that ended: `done`, or other words. */
  restart(signal: AbortSignal | undefined): Promise<string>;
  close(): void;
}

export interface LiveOptions {
  readonly socket: string;
  readonly unit: string;
  readonly mode: RestartMode;
  /** For mode `command`: a program and its arguments. */
  readonly command: readonly string[];
  /** In mode `auto`, its supervisor restarts the engine when it sees a change. */
  readonly byItself?: ByItself;
}

const systemctl = "/usr/bin/systemctl";
/** A systemctl that does not answer is as good as none. */
const systemctlMs = 25_000;

/**
 * The engine behind a host root, whose sockets are reached through that root: in a pod with the folders of the
 * node's sockets mounted, in a sandbox that has none.
 */
export function openLive(host: Host, options: LiveOptions): LiveEngine {
  const { unit: unitName, mode } = options;
  const byItself = mode === "auto" ? options.byItself : undefined;
  const socket = () => host.real(options.socket);
  let manager: Promise<Systemd | undefined> | undefined;
  const systemd = (): Promise<Systemd | undefined> => {
    manager ??= connectSystemd(host);
    return manager;
  };
  // systemctl(1) speaks for the system that it runs on: below another root that is not the node.
  const hasSystemctl = host.root === "/" && existsSync(systemctl) && existsSync("/run/systemd/system");
  const cri = async (): Promise<Cri> => (await import("./cri/client.ts")).openCri(socket());

  const unit = async (): Promise<UnitState | undefined> => {
    const state = await unitAsIs();
    if (byItself === undefined || state === undefined) return state;
    // The unit goes on while its engine is restarted: the engine's run is that of its socket.
    const since = madeAt(host, options.socket);
    return {
      ...state,
      invocation: `${state.invocation} ${host.stamp(options.socket) ?? ""}`,
      activeSince: since ?? state.activeSince,
    };
  };
  const unitAsIs = async (): Promise<UnitState | undefined> => {
    if (mode !== "systemctl") {
      const state = await (await systemd())?.unit(unitName).catch((cause: unknown) => {
        if (mode === "command" || (mode === "auto" && hasSystemctl)) return undefined;
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new ShimctlError("unsupported-node", `Cannot ask systemd for ${unitName}: ${why}`, {
          hint: "see whether `systemctl status` answers on the node, and which policy guards its D-Bus",
          cause,
        });
      });
      if (state !== undefined || mode !== "auto") return state;
    }
    return hasSystemctl ? await shownBySystemctl(unitName) : undefined;
  };
  const way = async (): Promise<string | undefined> => {
    if (byItself !== undefined) return `${byItself.by}, by itself`;
    // Its arguments may hold secrets.
    if (mode === "command") return options.command[0];
    if ((await unit()) === undefined) return undefined;
    if (mode !== "systemctl" && (await systemd()) !== undefined) return "systemd over D-Bus";
    return "systemctl";
  };
  return {
    unitName,
    ...(byItself === undefined ? {} : { restartedBy: byItself.by }),
    hasSocket: () => existsSync(socket()),
    status: async () => (existsSync(socket()) ? (await cri()).status() : { kind: "absent" }),
    sandboxes: async () => (await cri()).sandboxes(),
    probe: async (handler) => (await cri()).probe(handler),
    unit,
    way,
    async restart(signal) {
      if (byItself !== undefined) return startedByItself(host, byItself, options.socket, signal);
      if (mode === "command") return run(options.command, signal);
      const bus = mode === "systemctl" ? undefined : await systemd();
      if (bus !== undefined) return bus.restart(unitName, signal);
      if ((await run([systemctl, "reset-failed", unitName], signal)) === notWaitedFor) return notWaitedFor;
      return run([systemctl, "restart", unitName], signal);
    },
    close() {
      void manager?.then((bus) => bus?.close());
    },
  };
}

async function connectSystemd(host: Host): Promise<Systemd | undefined> {
  const system = host.real("/run/dbus/system_bus_socket");
  const direct = host.real("/run/systemd/private");
  if (!existsSync(system) && !existsSync(direct)) return undefined;
  return (await import("./systemd.ts")).openSystemd({ system, direct });
}

/**
 * A program by its arguments, no shell in between. `done`, or how it failed. What it says goes where our own
 * words go: a daemon that it leaves behind may hold its streams for as long as it lives, and would not outlive
 * a pipe to us. A program that has no end is left alone when its time is over.
 */
async function run(argv: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  const [program = "", ...args] = argv;
  const { spawn } = await import("node:child_process");
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] });
    const stop = () => {
      child.unref();
      resolve(notWaitedFor);
    };
    if (signal?.aborted === true) stop();
    else signal?.addEventListener("abort", stop, { once: true });
    const end = (how: string) => {
      signal?.removeEventListener("abort", stop);
      resolve(how);
    };
    child.on("error", (error) => end(`failed: ${program}: ${error.message.split("\n")[0]}`));
    child.on("exit", (code, by) => end(code === 0 ? "done" : `failed: ${program} ended with ${by ?? code}`));
  });
}

async function shownBySystemctl(name: string): Promise<UnitState | undefined> {
  const { execFile } = await import("node:child_process");
  const keys = "LoadState,ActiveState,SubState,Result,InvocationID,KillMode,ActiveEnterTimestamp";
  return new Promise((resolve) => {
    const args = ["show", "--timestamp=unix", `--property=${keys}`, name];
    execFile(systemctl, args, { timeout: systemctlMs }, (error, stdout) => {
      const value = new Map(
        stdout.split("\n").map((line): [string, string] => {
          const equals = line.indexOf("=");
          return [line.slice(0, equals), line.slice(equals + 1)];
        }),
      );
      const text = (key: string) => value.get(key) ?? "";
      if (error !== null || text("LoadState") === "not-found") return resolve(undefined);
      resolve({
        name,
        active: text("ActiveState"),
        sub: text("SubState"),
        result: text("Result"),
        invocation: text("InvocationID"),
        killMode: text("KillMode"),
        activeSince: Number(text("ActiveEnterTimestamp").replace(/^@/, "")) * 1000 || 0,
      });
    });
  });
}
