import { connect as dial } from "node:net";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { randomUUID } from "../random.ts";
import { deniedReason } from "../root.ts";
import { RuntimeService } from "./runtime_pb.ts";

/** What an engine says of itself on its CRI socket. */
export type CriAnswer =
  /** Nobody listens there. */
  | { readonly kind: "absent" }
  /** Somebody listens and does not answer in time. */
  | { readonly kind: "silent"; readonly why: string }
  /** The engine runs and has no CRI: containerd whose CRI plugin did not load. */
  | { readonly kind: "without CRI"; readonly why: string }
  | CriStatus;

export interface CriStatus {
  readonly kind: "up";
  readonly version: string;
  /** The RuntimeReady condition; NetworkReady is none of our business. */
  readonly ready: boolean;
  /** As they are loaded, sorted; what is on disk by now may be something else. */
  readonly handlers: readonly string[];
  readonly defaultHandler: string | undefined;
}

export interface Sandbox {
  readonly id: string;
  readonly handler: string;
  /** `namespace/name` of its pod. */
  readonly pod: string;
}

export interface Cri {
  status(): Promise<CriAnswer>;
  /** Those that are READY, with the handler that they were asked with: empty for the default. */
  sandboxes(): Promise<readonly Sandbox[]>;
  /** Runs an empty sandbox on a handler and removes it again. @throws Error with the engine's reason */
  probe(handler: string): Promise<void>;
}

/** CRI-O serves two protocols on its socket, and takes for gRPC only what names exactly this type (server.go, cmux). */
const plainGrpc: Interceptor = (next) => (request) => {
  request.header.set("content-type", "application/grpc");
  return next(request);
};

const answerMs = 5_000;
const sandboxMs = 120_000;

/** @param socket as this process sees it; a connection is made for each question, as restarts replace the socket */
export function openCri(socket: string): Cri {
  const transport = createGrpcTransport({
    // Only the header's authority: the name is never looked up.
    baseUrl: "http://localhost",
    nodeOptions: { createConnection: () => dial(socket) },
    idleConnectionTimeoutMs: 1,
    interceptors: [plainGrpc],
  });
  const client = createClient(RuntimeService, transport);
  const inTime = { timeoutMs: answerMs };
  /** `undefined` for a sandbox that is gone by now. */
  const handlerOf = async (podSandboxId: string): Promise<string | undefined> => {
    try {
      const { info } = await client.podSandboxStatus({ podSandboxId, verbose: true }, inTime);
      const annotations = at(at(parsed(info["info"]), "runtimeSpec"), "annotations");
      const handler = at(annotations, "io.kubernetes.cri-o.RuntimeHandler");
      return typeof handler === "string" ? handler : "";
    } catch (error) {
      if (ConnectError.from(error).code === Code.NotFound) return undefined;
      throw error;
    }
  };
  return {
    async status() {
      try {
        const { runtimeVersion } = await client.version({ version: "v1" }, inTime);
        const { status, info, runtimeHandlers } = await client.status({ verbose: true }, inTime);
        const config = loadedIn(info["config"]);
        const listed = runtimeHandlers.map(({ name }) => name).filter((name) => name !== "");
        return {
          kind: "up",
          version: runtimeVersion,
          ready:
            status?.conditions.some(({ type, status: holds }) => type === "RuntimeReady" && holds) ?? false,
          handlers: (listed.length > 0 ? listed : config.handlers).toSorted(),
          defaultHandler: config.defaultHandler,
        };
      } catch (error) {
        return unanswered(error);
      }
    },
    async sandboxes() {
      const { items } = await client.listPodSandbox({ filter: { state: { state: 0 } } }, inTime);
      const sandboxes: Sandbox[] = [];
      for (const { id, metadata, runtimeHandler } of items) {
        // CRI-O leaves it out of its list and of a sandbox's status; it is in the sandbox's annotations.
        const handler = runtimeHandler === "" ? await handlerOf(id) : runtimeHandler;
        const pod = `${metadata?.namespace ?? ""}/${metadata?.name ?? ""}`;
        if (handler !== undefined) sandboxes.push({ id, handler, pod });
      }
      return sandboxes;
    },
    async probe(handler) {
      const name = `shimctl-probe-${handler}`;
      const config = {
        metadata: { name, uid: randomUUID(), namespace: "shimctl", attempt: 0 },
        linux: { securityContext: { namespaceOptions: { network: 2 } } },
      };
      const long = { timeoutMs: sandboxMs };
      try {
        const { podSandboxId } = await client.runPodSandbox({ config, runtimeHandler: handler }, long);
        await client.stopPodSandbox({ podSandboxId }, long);
        await client.removePodSandbox({ podSandboxId }, long);
      } catch (error) {
        throw new Error(ConnectError.from(error).rawMessage, { cause: error });
      }
    },
  };
}

function unanswered(error: unknown): CriAnswer {
  const { code, rawMessage: why } = ConnectError.from(error);
  if (code === Code.Unimplemented) return { kind: "without CRI", why };
  // The library has one code for both: whether anybody listens is in the words of the system call.
  if (/\b(ENOENT|ECONNREFUSED)\b/.test(why)) return { kind: "absent" };
  return { kind: "silent", why: /\b(EACCES|EPERM)\b/.test(why) ? deniedReason : why };
}

/**
 * Handlers in the configuration that a verbose Status tells: containerd 1.x has them nowhere else. containerd
 * names its keys in camel case, CRI-O as Go does.
 */
function loadedIn(config: string | undefined): { handlers: string[]; defaultHandler: string | undefined } {
  const value = parsed(config);
  const containerd = at(value, "containerd");
  const crio = at(value, "crio");
  const runtimes = at(containerd, "runtimes") ?? at(crio, "Runtimes");
  const name = at(containerd, "defaultRuntimeName") ?? at(crio, "DefaultRuntime");
  return {
    handlers: typeof runtimes === "object" && runtimes !== null ? Object.keys(runtimes) : [],
    defaultHandler: typeof name === "string" && name !== "" ? name : undefined,
  };
}

function parsed(json: string | undefined): unknown {
  try {
    return JSON.parse(json ?? "null");
  } catch {
    return null;
  }
}

function at(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}
