import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { BootedNode } from "./boot.ts";
import type { Pod } from "./kubelet.ts";

/** One change of what is answered: 0 for nobody there. */
export interface Answer {
  readonly at: number;
  readonly path: string;
  readonly status: number;
  readonly body: string;
}

/** Asks as a kubelet does, from outside the container and within the pod's network, only far more often. */
export class Prober {
  readonly answers: Answer[] = [];
  private readonly child: ChildProcess;

  constructor(node: BootedNode, pod: Pod) {
    const urls = [
      ...new Set(Object.values(pod.probes).map(({ path, port }) => `http://127.0.0.1:${port}${path}`)),
    ];
    const net = `--net=${node.outside}/proc/${pod.sandboxPid}/ns/net`;
    const script = join(import.meta.dirname, "prober_loop.ts");
    this.child = spawn(
      "setpriv",
      ["--pdeathsig", "KILL", "nsenter", net, process.execPath, script, ...urls],
      { stdio: ["ignore", "pipe", "ignore"] },
    );
    let rest = "";
    this.child.stdout?.on("data", (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split("\n");
      rest = lines.pop() ?? "";
      this.answers.push(...lines.map((line) => JSON.parse(line) as Answer));
    });
  }

  of(path: string): Answer[] {
    return this.answers.filter((answer) => answer.path === path);
  }

  last(path: string): Answer | undefined {
    return this.of(path).at(-1);
  }

  /** Waits until it is answered so. */
  async until(path: string, status: number, ms = 30_000): Promise<Answer> {
    for (const deadline = Date.now() + ms; Date.now() < deadline; await sleep(10)) {
      const last = this.last(path);
      if (last?.status === status) return last;
    }
    throw new Error(`${path} never answered ${status}: ${JSON.stringify(this.of(path))}`);
  }

  stop(): void {
    this.child.kill("SIGKILL");
  }
}
