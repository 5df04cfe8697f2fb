import { containerd } from "../../src/engine/containerd/backend.ts";
import { exactly } from "../../src/handler/asked.ts";
import { openHost } from "../../src/host/root.ts";
import { parseVersion } from "../../src/layout/detect.ts";
import type { Environment } from "../../src/transaction/environment.ts";
import type { Request } from "../../src/transaction/request.ts";
import { type NodeState, openState } from "../../src/transaction/state.ts";
import { handler } from "./memory.ts";
import type { Node } from "./node.ts";

/** What a transaction runs in, on a sandbox. @param onStep called at each step: a test may act in between */
export function environmentOf(
  node: Node,
  onStep: (name: string) => void = () => {},
  signal?: AbortSignal,
): Environment {
  return {
    host: openHost(node.root),
    backend: containerd,
    site: {
      layout: "vanilla",
      rootFile: "/etc/containerd/config.toml",
      version: parseVersion(node.version),
    },
    now: () => new Date(),
    signal,
    step: onStep,
    activation: undefined,
    proveWith: undefined,
  };
}

export function installing(...names: string[]): Request {
  return {
    intent: { command: "install", handlers: names.map((name) => exactly(handler(name))) },
    owner: "default",
    allowMissing: true,
    retries: 5,
    updatePresets: false,
  };
}

export function stateOf(node: Node): NodeState {
  return openState(
    (path) => node.root + path,
    () => new Date(),
  );
}
