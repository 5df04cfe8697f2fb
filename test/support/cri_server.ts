import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http2";
import process from "node:process";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { RuntimeService } from "../../src/host/cri/runtime_pb.ts";

/**
 * An engine that serves, on a CRI socket, the handlers that were in the files of a node when it was last started.
 * A process of its own: `bun cri_server.ts SOCKET STARTED`, where the file STARTED names the node's root, and is
 * written anew with each start.
 */
const [, , socket = "", started = ""] = process.argv;

let known = "";
let served: readonly string[] = [];

function handlers(): readonly string[] {
  const now = readFileSync(started, "utf8");
  if (now === known) return served;
  known = now;
  const [root = ""] = now.split("\n");
  // Names of tables are all that it has to know, and grep(1) finds them in every file that an engine reads.
  const found = execFileSync(
    "grep",
    ["-rhoE", "^\\[.*runtimes\\.[a-z-]+\\]", "--exclude=*.tmp", `${root}/etc`],
    {
      encoding: "utf8",
    },
  );
  served = [...new Set(found.split("\n").flatMap((line) => /([a-z-]+)\]$/.exec(line)?.[1] ?? []))].sort();
  return served;
}

const adapter = connectNodeAdapter({
  routes: ({ service }) =>
    service(RuntimeService, {
      version: () => ({
        version: "0.1.0",
        runtimeName: "made up",
        runtimeVersion: "2.1.9",
        runtimeApiVersion: "v1",
      }),
      status: () => ({
        status: { conditions: [{ type: "RuntimeReady", status: true }] },
        runtimeHandlers: handlers().map((name) => ({ name })),
        info: {},
      }),
      listPodSandbox: () => ({ items: [] }),
    }),
});
createServer(adapter).listen(socket);
