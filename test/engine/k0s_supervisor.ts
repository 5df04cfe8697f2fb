import { type FSWatcher, mkdirSync, rmSync, watch, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine } from "../../build/engines.ts";
import { type Generation, k0sFolder, k0sRoot, k0sSocket, renderByK0s } from "../support/k0s_merge.ts";
import type { Node } from "../support/node.ts";
import { type Daemon, startDaemon } from "./harness.ts";

/** A real containerd, kept running as k0s does it (pkg/component/worker/containerd/component.go, pkg/supervisor). */
export interface Supervised {
  /** How often containerd was started. */
  starts(): number;
  /** What k0s would print. */
  readonly said: readonly string[];
  daemon(): Daemon;
  stop(): Promise<void>;
}

/** k0s waits that long for more changes. */
const debounceMs = 3_000;

/** @param respawnMs how long it waits before it starts again what ended: 5 s, but for the tests' sake */
export async function superviseByK0s(
  engine: Engine,
  node: Node,
  generation: Generation,
  respawnMs = 500,
): Promise<Supervised> {
  const said: string[] = [];
  const sockets = new Set<Socket>();
  let starts = 0;
  let stopped = false;
  let daemon: Daemon | undefined;
  let server: Server | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let work = Promise.resolve();

  const end = async () => {
    server?.close();
    for (const socket of sockets) socket.destroy();
    await daemon?.stop();
    daemon = undefined;
    // What a killed daemon leaves refuses connections, as any other file does.
    rmSync(node.root + k0sSocket, { force: true });
    writeFileSync(node.root + k0sSocket, "");
  };
  const start = async () => {
    while (!stopped) {
      try {
        daemon = await startDaemon(engine, node.root, k0sRoot);
        break;
      } catch (error) {
        said.push(String(error));
        await sleep(respawnMs);
      }
    }
    if (daemon === undefined) return;
    starts++;
    server = await servedAt(node.root + k0sSocket, daemon.socket, sockets);
  };
  const restart = async () => {
    if (stopped) return;
    if (generation === "1.35") {
      try {
        renderByK0s(node.root, generation);
      } catch (error) {
        said.push(`failed to resolve config: ${error instanceof Error ? error.message : error}`);
        return;
      }
    }
    await end();
    await sleep(respawnMs);
    await start();
  };

  renderByK0s(node.root, generation);
  await start();
  const watcher: FSWatcher = watch(node.root + k0sFolder, () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      work = work.then(restart);
    }, debounceMs);
  });
  return {
    starts: () => starts,
    said,
    daemon() {
      if (daemon === undefined) throw new Error("containerd does not run");
      return daemon;
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      watcher.close();
      await work;
      await end();
    },
  };
}

/** The daemon's socket where the node has it: made anew, as the daemon makes its own. */
function servedAt(path: string, target: string, sockets: Set<Socket>): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const server = createServer((client) => {
    const upstream = connect(target);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => to.write(bytes));
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on("error", () => to.destroy());
    }
  });
  return new Promise((resolve) => server.listen(path, () => resolve(server)));
}
