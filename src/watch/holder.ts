import { hostname } from "node:os";
import process from "node:process";
import type { Io } from "../cli/io.ts";
import type { Log } from "../cli/log.ts";
import type { Parsed } from "../cli/options.ts";
import { ShimctlError } from "../error.ts";
import { giveBackMemory, ownMemory, staySmall } from "../host/self.ts";
import { type Child, startLook } from "./child.ts";
import { watchFolders } from "./folders.ts";
import { type Looked, silentLook } from "./looked.ts";
import { begin, type Event, next, type Step } from "./machine.ts";
import { parseListen, serve } from "./serve.ts";
import { shareOf } from "./share.ts";
import { parentVariable, type Tally, tallyAfter, tallyText, tallyVariable } from "./tally.ts";
import { leaveWords, terminationLog } from "./termination.ts";

/** Beyond what a look may wait for, that it hangs. */
const hangMs = 5 * 60_000;
/** So long after it was told to end, a look is ended by nobody. */
const deadMs = 10_000;
/** Beyond that, timers end at once. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * Holds the node until a signal comes: looks when a file changes and on a timer, and lets what has to be done be done.
 * Every look is a process of its own, so that this one stays small. Its end leaves the node as it is.
 */
export async function holdNode(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const { options } = parsed;
  refuseUnrepeatable(parsed);
  staySmall();
  const variables: Record<string, string> = { [parentVariable]: String(process.pid) };
  let argv = process.argv.slice(2);
  if (options.epoch === "now") {
    argv = withoutEpoch(argv);
    variables[epochVariable] = "now";
  }
  const name = options.nodeName ?? hostname();
  const { terminationLog: lastWords = terminationLog, distanceMs } = io.watching ?? {};
  const settings = {
    settleMs: options.settleMs,
    intervalMs: options.intervalMs,
    delayMs: shareOf(name, options.staggerMs),
    hangMs: options.lockTimeoutMs + options.verifyTimeoutMs + options.waitUnusedMs + hangMs,
    onDrift: options.onDrift,
    ...(distanceMs === undefined ? {} : { distanceMs }),
  };
  const clock = () => performance.now();
  let last: Looked | undefined;
  let metrics = "";
  let tally: Tally = { checks: 0, failures: 0, superseded: 0, lastSuccess: 0 };
  let step: Step | undefined;

  const server =
    options.listen === undefined
      ? undefined
      : await serve(
          parseListen(options.listen, options.given.get("listen") ?? "--listen"),
          options.given.get("listen") ?? "--listen",
          {
            health() {
              const since = step?.state.child?.since;
              const isHung = since !== undefined && clock() - since > settings.hangMs + deadMs;
              return isHung ? "a look takes far longer than it may" : undefined;
            },
            readiness: () => last ?? { ready: false, reason: "nothing is known of the node yet" },
            metrics: () => metrics,
          },
        );
  if (server !== undefined) log.info(`serving /healthz, /readyz and /metrics on ${server.address}`);
  if (settings.delayMs > 0)
    log.info(`what is asked for is brought onto this node after ${Math.round(settings.delayMs / 1000)} s`);

  return new Promise<number>((resolve) => {
    let child: Child | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const folders = watchFolders(() => take({ kind: "changed" }));
    const take = (event: Event) => {
      if (step !== undefined) carryOut(next(step.state, event, clock()));
    };
    const carryOut = (made: Step) => {
      step = made;
      clearTimeout(timer);
      timer = undefined;
      if (made.wakeAt !== undefined) {
        const wait = Math.min(Math.max(1, Math.ceil(made.wakeAt - clock())), longestTimerMs);
        timer = setTimeout(() => take({ kind: "tick" }), wait);
      }
      for (const action of made.actions) {
        switch (action.kind) {
          case "start":
            log.debug(`starting a ${action.mode === "look" ? "look" : "look that acts"}`);
            child = startLook(
              argv,
              server === undefined ? variables : { ...variables, [tallyVariable]: tallyText(tally) },
              action.mode,
            );
            void child.ended.then((looked) => {
              child = undefined;
              tally = tallyAfter(tally, looked, io.now());
              metrics = looked?.metrics ?? metrics;
              last = looked ?? silentLook;
              // What was now at the first look stays so: a later one would be another incarnation.
              if (variables[epochVariable] === "now" && looked?.epoch !== undefined)
                variables[epochVariable] = looked.epoch;
              if (looked !== undefined) folders.keep(looked.folders);
              take({ kind: "looked", looked });
              giveBackMemory();
            });
            break;
          case "say":
            say(io, log, options.json, action.looked);
            tellMemory(log);
            leaveWords(lastWords, wordsFor(action.looked));
            break;
          case "end child":
            child?.stop();
            break;
          case "exit":
            clearTimeout(timer);
            folders.close();
            io.signal.removeEventListener("abort", stop);
            if (last !== undefined) leaveWords(lastWords, wordsFor(last));
            log.info("ends; the node stays as it is");
            resolve(action.code);
            break;
        }
      }
    };
    const stop = () => take({ kind: "stop" });
    io.signal.addEventListener("abort", stop);
    carryOut(begin(settings, clock()));
    if (io.signal.aborted) stop();
  }).finally(() => server?.close());
}

/** What every look would read anew must be there every time. */
function refuseUnrepeatable({ options, args }: Parsed): void {
  const { file } = options;
  if (file === undefined && args.length === 0) {
    throw new ShimctlError("usage", "Cannot watch, as no handler is named", {
      hint: "name the handlers (`shimctl presets` lists them), or pass -f FILE",
    });
  }
  if (file === undefined || !/^\/(dev|proc)\//.test(file)) return;
  throw new ShimctlError("usage", "Cannot watch by a handler file that can be read only once", {
    path: file,
    hint: "write it to a file, or pass --once",
  });
}

const epochVariable = "SHIMCTL_EPOCH";

function withoutEpoch(argv: readonly string[]): string[] {
  const at = argv.indexOf("--epoch");
  const rest = at < 0 ? argv : argv.filter((_, index) => index !== at && index !== at + 1);
  return rest.filter((token) => !token.startsWith("--epoch="));
}

function tellMemory(log: Log): void {
  const memory = ownMemory();
  if (memory === undefined) return;
  const kib = (bytes: number) => `${Math.round(bytes / 1024)} KiB`;
  log.debug(`memory: ${kib(memory.own)} private, ${kib(memory.total)} in all`);
}

function say(io: Io, log: Log, json: boolean, { result, ready, reason, needs, error }: Looked): void {
  if (json) {
    const line = { format: 1, command: "watch", time: io.now().toISOString(), result, needs, ready, reason };
    io.out(`${JSON.stringify({ ...line, error: error ?? null })}\n`);
  }
  const words = `${result}: ${error ?? reason}`;
  if (error === undefined) log.info(words);
  else log.warn(words);
}

function wordsFor({ result, reason, error }: Looked): string {
  return `${result}: ${error ?? reason}\n`;
}
