import { createServer, type Server } from "node:http";
import type { Socket } from "node:net";
import { ShimctlError } from "../error.ts";

/** What is answered, as it is at that moment. */
export interface Answers {
  readonly health: () => string | undefined;
  readonly readiness: () => { readonly ready: boolean; readonly reason: string };
  readonly metrics: () => string;
}

/** `HOST:PORT`, `[IPv6]:PORT` or `:PORT`. Throws `usage` */
export function parseListen(
  text: string,
  option: string,
): { readonly host: string | undefined; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits ?? Number.NaN);
  if (port <= 65_535) return { host: bracketed ?? (plain || undefined), port };
  throw new ShimctlError(
    "usage",
    `Cannot read ${option}, which must be HOST:PORT or :PORT: ${text.slice(0, 60)}`,
  );
}

/**
 * Serves /healthz, /readyz and /metrics, and nothing else. Small limits: whoever can reach it must not be able to
 * make this process large or busy.
 * Throws ShimctlError `usage` where the address cannot be had
 */
export async function serve(
  { host, port }: { readonly host: string | undefined; readonly port: number },
  option: string,
  { health, readiness, metrics }: Answers,
): Promise<{ readonly address: string; close(): void }> {
  const limits = {
    maxHeaderSize: 8192,
    headersTimeout: 5_000,
    requestTimeout: 10_000,
    keepAliveTimeout: 5_000,
  };
  const server = createServer(limits, (request, response) => {
    const path = (request.url ?? "").split("?")[0];
    const isRead = request.method === "GET" || request.method === "HEAD";
    const answer = (status: number, text: string, type = "text/plain; charset=utf-8") => {
      const body = Buffer.from(text);
      response.writeHead(status, {
        "content-type": type,
        "content-length": body.length,
        "cache-control": "no-store",
        // A body that nobody reads is not waited for.
        ...(isRead ? {} : { connection: "close", allow: "GET, HEAD" }),
      });
      response.end(request.method === "HEAD" ? undefined : body);
    };
    if (!isRead) return answer(405, "only GET and HEAD\n");
    if (path === "/healthz") {
      const why = health();
      return answer(why === undefined ? 200 : 503, `${why ?? "ok"}\n`);
    }
    if (path === "/readyz") {
      const { ready, reason } = readiness();
      return answer(ready ? 200 : 503, `${reason}\n`);
    }
    if (path === "/metrics") return answer(200, metrics(), "text/plain; version=0.0.4; charset=utf-8");
    return answer(404, "not found\n");
  });
  const open = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    // The oldest gives way: else whoever keeps connections open keeps the kubelet out.
    const [oldest] = open;
    if (open.size <= mostConnections || oldest === undefined) return;
    open.delete(oldest);
    oldest.destroy();
  });
  server.on("clientError", (_, socket) => {
    socket.destroy();
  });
  await listening(server, host, port, option);
  const at = server.address();
  const address =
    typeof at === "object" && at !== null
      ? `${at.family === "IPv6" ? `[${at.address}]` : at.address}:${at.port}`
      : `${host ?? ""}:${port}`;
  return {
    address,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const mostConnections = 64;

function listening(server: Server, host: string | undefined, port: number, option: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const code = "code" in cause ? cause.code : undefined;
      const why =
        code === "EADDRINUSE"
          ? "another program listens there already"
          : code === "EACCES"
            ? "permission is denied"
            : code === "EADDRNOTAVAIL" || code === "ENOTFOUND"
              ? "this machine has no such address"
              : cause.message;
      reject(
        new ShimctlError(
          "usage",
          `Cannot serve at the address of ${option}, as ${why}: ${host ?? ""}:${port}`,
          {
            hint: "pass another address, or end that program",
            cause,
          },
        ),
      );
    });
    server.listen(port, host, () => resolve());
  });
}
