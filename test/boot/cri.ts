import { connect } from "node:net";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { BootedNode } from "./boot.ts";
import { RuntimeService } from "./containers_pb.ts";

/** A connection for each call: an engine that was restarted in between has ended the one from before. */
export function criOf(node: BootedNode): Client<typeof RuntimeService> {
  return createClient(
    RuntimeService,
    createGrpcTransport({
      baseUrl: "http://localhost",
      nodeOptions: { createConnection: () => connect(`${node.outside}${node.socket}`) },
      idleConnectionTimeoutMs: 1,
      interceptors: [
        (next) => (request) => {
          request.header.set("content-type", "application/grpc");
          return next(request);
        },
      ],
    }),
  );
}
