import type { CriAnswer, Sandbox } from "../../src/host/cri/client.ts";
import type { LiveEngine } from "../../src/host/live.ts";
import type { UnitState } from "../../src/host/systemd.ts";
import type { Activation } from "../../src/transaction/activation.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import { readEngine } from "../../src/transaction/gather.ts";

/** What goes wrong with the engine when it is started with a configuration that has these handlers. */
export type Fault = "none" | "unit fails" | "no CRI" | "ignores it" | "loses another" | "silent";

/** An engine whose process is made up: what it serves is what its real configuration files have when it starts. */
export class FakeEngine {
  restarts = 0;
  served: readonly string[] = [];
  users: Sandbox[] = [];
  /** By the handlers on disk at a start. */
  fault: (handlers: readonly string[]) => Fault = () => "none";
  unit: UnitState;
  cri: CriAnswer["kind"] = "up";
  /** Runs within a restart, before the engine reads its files. */
  onRestart: () => void = () => undefined;
  /** Whether there is a unit that anybody can ask. */
  hasUnit = true;
  /** The restart ends the program that asked for it: nothing of that goes on after it. */
  killsUs = false;
  /** How a restart ends that goes on when its time is over. */
  restartEnds: string | undefined;
  /** Who restarts it without being asked. */
  restartedBy: string | undefined;
  private readonly environment: () => Environment;

  constructor(environment: () => Environment) {
    this.environment = environment;
    this.unit = {
      name: "containerd.service",
      active: "active",
      sub: "running",
      result: "success",
      invocation: "0",
      killMode: "process",
      activeSince: Date.now(),
    };
    this.start();
  }

  start(): void {
    const { host, backend, site } = this.environment();
    const all = readEngine(host, backend, site).view.state.handlers.map(({ name }) => name);
    const fault = this.fault(all);
    const failed = fault === "unit fails";
    this.unit = {
      ...this.unit,
      active: failed ? "activating" : "active",
      sub: failed ? "auto-restart" : "running",
      result: failed ? "exit-code" : "success",
      invocation: String(Number(this.unit.invocation) + 1),
      activeSince: Date.now(),
    };
    this.cri = failed ? "absent" : fault === "no CRI" ? "without CRI" : fault === "silent" ? "silent" : "up";
    const losing = fault === "ignores it" ? "kata-qemu" : fault === "loses another" ? "runc" : "";
    this.served = all.filter((name) => name !== losing).toSorted();
  }

  get live(): LiveEngine {
    return {
      unitName: "containerd.service",
      ...(this.restartedBy === undefined ? {} : { restartedBy: this.restartedBy }),
      hasSocket: () => true,
      status: async () =>
        this.cri === "up"
          ? { kind: "up", version: "2.1.9", ready: true, handlers: this.served, defaultHandler: "runc" }
          : this.cri === "absent"
            ? { kind: "absent" }
            : { kind: this.cri, why: "made up" },
      sandboxes: async () => this.users,
      probe: async () => undefined,
      unit: async () => (this.hasUnit ? this.unit : undefined),
      way: async () => "a made-up way",
      restart: async () => {
        this.restarts++;
        this.onRestart();
        if (this.restartEnds !== undefined) return this.restartEnds;
        this.start();
        if (this.killsUs) return new Promise<string>(() => undefined);
        return this.unit.active === "active" ? "done" : "failed";
      },
      close: () => undefined,
    };
  }

  activation(more: Partial<Activation> = {}): Activation {
    return {
      live: this.live,
      verifyTimeoutMs: 10_000,
      undoOnTimeout: false,
      allowKill: false,
      killModes: ["process", "none"],
      restartServer: false,
      onlyOurs: false,
      automatic: true,
      retry: false,
      force: false,
      budget: { hour: 3, day: 6 },
      progress: () => undefined,
      ...more,
    };
  }
}
