import { connect } from "node:net";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { RuntimeService } from "../../src/host/cri/runtime_pb.ts";
import type { BootedNode } from "./boot.ts";

/** Runs a pod's sandbox, and leaves it running. Returns what ends it. */
export async function runPod(
  node: BootedNode,
  handler: string,
): Promise<{ id: string; end: () => Promise<void> }> {
  // A connection for each call: an engine that was restarted in between has ended the one from before.
  const client = () =>
    createClient(
      RuntimeService,
      createGrpcTransport({
        baseUrl: "http://localhost",
        nodeOptions: { createConnection: () => connect(`${node.outside}${node.socket}`) },
        interceptors: [
          (next) => (request) => {
            request.header.set("content-type", "application/grpc");
            return next(request);
          },
        ],
      }),
    );
  const { podSandboxId } = await client().runPodSandbox({
    runtimeHandler: handler,
    config: {
      metadata: { name: `web-${handler}`, uid: crypto.randomUUID(), namespace: "default", attempt: 0 },
      linux: { securityContext: { namespaceOptions: { network: 2 } } },
    },
  });
  return {
    id: podSandboxId,
    end: async () => {
      await client().stopPodSandbox({ podSandboxId });
      await client().removePodSandbox({ podSandboxId });
    },
  };
}
