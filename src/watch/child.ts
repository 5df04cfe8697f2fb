import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { ownCommand } from "../host/self.ts";
import { type Looked, parseLooked } from "./looked.ts";
import type { Mode } from "./machine.ts";

/** A look: this very program once more, with the same options. */
export interface Child {
  readonly ended: Promise<Looked | undefined>;
  /** Asks it to end, and ends it soon after. */
  stop(): void;
}

/** How long a child has to come to a consistent point; it may be ended at any, as the next run takes it from there. */
const graceMs = 700;
/** No result is longer; the metrics are a part of it. */
const limit = 4 << 20;

/** @param variables what it gets besides our own environment */
export function startLook(
  argv: readonly string[],
  variables: Readonly<Record<string, string>>,
  mode: Mode,
): Child {
  const { program, args } = ownCommand();
  const own = argv.filter((token) => !/^--(json|once|dry-run)(=|$)/.test(token));
  const last = ["--once", "--json", ...(mode === "look" ? ["--dry-run"] : [])];
  let child: ChildProcess;
  const ended = new Promise<Looked | undefined>((resolve) => {
    try {
      child = spawn(program, [...args, ...own, ...last], {
        stdio: ["ignore", "pipe", "inherit"],
        env: { ...process.env, ...variables },
      });
    } catch {
      resolve(undefined);
      return;
    }
    const parts: Buffer[] = [];
    let length = 0;
    child.stdout?.on("data", (part: Buffer) => {
      length += part.length;
      if (length <= limit) parts.push(part);
    });
    child.on("error", () => resolve(undefined));
    child.on("close", () => resolve(parseLooked(Buffer.concat(parts).toString("utf8"))));
  });
  return {
    ended,
    stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      void ended.then(() => clearTimeout(timer));
    },
  };
}
