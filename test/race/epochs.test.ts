import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseJournal } from "../../src/transaction/journal.ts";
import { compiled } from "../support/binary.ts";
import { type EngineCase, engineCases } from "../support/engine_case.ts";
import { Node } from "../support/node.ts";
import { randomOf } from "../support/random.ts";

const seconds = Number(process.env["SHIMCTL_TEST_RACE_SECONDS"] ?? "4");
/** The whole race group plays a thousand. */
const rounds = Math.min(1_000, Math.round((seconds * 1_000) / 60));
const seed = Number(process.env["SHIMCTL_TEST_SEED"] ?? "10924");
/** So many nodes at once: most of the time a run waits for another one that is paused. */
const nodesAtOnce = 6;
const journalPath = "/var/lib/shimctl/journal";

type Result = "changed" | "unchanged" | "superseded";

interface Operation {
  readonly command: "install" | "uninstall";
  readonly epoch: number;
}

interface Ended extends Operation {
  readonly code: number | null;
  readonly result: Result;
  readonly started: number;
  readonly ended: number;
  readonly err: string;
}

/** The late ones come last, and may still overtake one that is paused. */
const installedAtLast: readonly Operation[] = [
  { command: "install", epoch: 1 },
  { command: "uninstall", epoch: 1 },
  { command: "install", epoch: 2 },
  { command: "uninstall", epoch: 1 },
];
const removedAtLast: readonly Operation[] = [
  { command: "install", epoch: 1 },
  { command: "uninstall", epoch: 1 },
  { command: "install", epoch: 2 },
  { command: "uninstall", epoch: 2 },
  { command: "uninstall", epoch: 1 },
  { command: "install", epoch: 1 },
];

const strace = "/usr/bin/strace";
/** Calls by which a run sees or changes what the others do, and about how often it makes each. */
const calls: Readonly<Record<string, number>> = {
  openat: 60,
  newfstatat: 40,
  fcntl: 10,
  flock: 4,
  fsync: 24,
  write: 20,
  renameat2: 6,
  unlink: 6,
  mkdir: 4,
};

/** The command that stops itself right after its n-th call of that name. */
function stopping(command: readonly string[], random: () => number): readonly string[] {
  const names = Object.keys(calls);
  const name = names[Math.floor(random() * names.length)] ?? "openat";
  const nth = 1 + Math.floor(random() * (calls[name] ?? 1));
  const inject = `inject=${name}:signal=STOP:when=${nth}`;
  return [strace, "-f", "-qq", "-o", "/dev/null", "-e", `trace=${name}`, "-e", inject, ...command];
}

/**
 * One process of the executable: stopped a few times for a while wherever it is by then, or at a certain call. Or
 * killed, and started again as a pod's container is.
 */
async function play(
  node: Node,
  handler: string,
  operation: Operation,
  delay: number,
  random: () => number,
  mayDie: boolean,
): Promise<Ended> {
  const { command, epoch } = operation;
  const atCall = existsSync(strace) && random() < 1 / 3;
  const pauses = Array.from({ length: Math.floor(random() * 4) }, () => ({
    after: random() * 40,
    ms: random() * 30,
  }));
  await sleep(delay);
  const started = performance.now();
  const what = command === "install" ? handler : "--all";
  const order = ["--epoch", String(epoch), "--instance", `pod-${epoch}`];
  const own = [command, what, ...order, "--json", "--restart", "none", "--log-level", "silent"];
  const plain = [compiled(), ...own, ...node.options];
  const [program = "", ...args] = atCall ? stopping(plain, random) : plain;
  // A group of its own, so that one that strace has started is reached as well.
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
  let out = "";
  let err = "";
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  let isOver = false;
  const closed = new Promise<number | null>((resolve) => {
    child.on("close", (code) => {
      isOver = true;
      resolve(code);
    });
  });
  const signal = (name: NodeJS.Signals) => {
    if (isOver || child.pid === undefined) return;
    try {
      process.kill(-child.pid, name);
    } catch {
      // It has ended, and its output is still to be read.
    }
  };
  const killed = (async () => {
    if (!mayDie || random() < 0.4) return;
    await sleep(random() * 60);
    signal("SIGKILL");
  })();
  const paused = (async () => {
    for (const { after, ms } of pauses) {
      await sleep(after);
      if (!atCall) signal("SIGSTOP");
      await sleep(ms);
      signal("SIGCONT");
    }
    // It may come to that call at any time.
    for (; atCall && !isOver; await sleep(random() * 40)) signal("SIGCONT");
  })();
  const code = await closed;
  const ended = performance.now();
  await Promise.all([paused, killed]);
  if (mayDie && code === null) return play(node, handler, operation, random() * 30, random, false);
  const { result, error } = JSON.parse(out) as { result: Result; error: object | null };
  // A strace that loses count of stops says so by its exit code, when the run it watched is over.
  const ownCode = atCall && error === null ? 0 : code;
  return { command, epoch, code: ownCode, result, started, ended, err };
}

/** What one after another would do: an own, much simpler account of what epochs mean. */
function explain(ended: readonly Ended[]): boolean {
  let epoch = 0;
  let isOver = false;
  let isInstalled = false;
  return ended.every((run) => {
    let result: Result;
    if (run.epoch < epoch || (run.epoch === epoch && isOver && run.command === "install"))
      result = "superseded";
    else {
      epoch = run.epoch;
      isOver = run.command === "uninstall";
      result = isInstalled === (run.command === "install") ? "unchanged" : "changed";
      isInstalled = run.command === "install";
    }
    return result === run.result;
  });
}

/** Every order in which these may have had the lock: who had ended before another began was before it. */
function* ordersOf(ended: readonly Ended[], first: readonly Ended[] = []): Generator<readonly Ended[]> {
  if (ended.length === 0) yield first;
  for (const next of ended) {
    const rest = ended.filter((other) => other !== next);
    if (rest.some((other) => other.ended < next.started)) continue;
    yield* ordersOf(rest, [...first, next]);
  }
}

function nameOf({ command, epoch }: Operation): string {
  return `${command}(${epoch})`;
}

/** What is wrong with the end of one interleaving. */
async function problemsOf(round: number, engineCase: EngineCase, mayDie: boolean): Promise<string[]> {
  const random = randomOf(seed + round);
  const [kata] = engineCase.handlers;
  const operations = random() < 0.5 ? installedAtLast : removedAtLast;
  using node = Node.of(engineCase);
  const before = node.tree();
  const apart = random() * 60;
  const ended = await Promise.all(
    operations.map((operation, index) =>
      play(node, kata, operation, index * apart * random(), randomOf(seed + round * 10 + index), mayDie),
    ),
  );
  // There is none where the first to come was an uninstall, and everything after it late.
  const written = existsSync(`${node.root}${journalPath}`) ? node.text(journalPath) : "";
  const journal = parseJournal(written)
    .filter((line) => line.step === "begin")
    .map(({ command, order }) => `${command}(${order?.epoch})`);
  // What became of a run that was killed, nobody was told.
  const explained =
    mayDie ||
    ordersOf(ended).some(
      (order) =>
        explain(order) &&
        order
          .filter(({ result }) => result === "changed")
          .map(nameOf)
          .join() === journal.join(),
    );
  const isInstalled = operations === installedAtLast;
  const status = await node.run(["status", "--json"]);
  const handlers = status.json()["handlers"] as { name: string; owner?: string }[];
  const owned = handlers.filter(({ owner }) => owner === "default").map(({ name }) => name);
  const told = ended
    .map((run) => `${nameOf(run)} ${run.code} ${run.result}${run.code === 0 ? "" : ` ${run.err}`}`)
    .join(", ");
  return [
    ...(ended.every(({ code }) => code === 0) ? [] : ["a run failed"]),
    ...(explained ? [] : ["no order explains it"]),
    ...(owned.join() === (isInstalled ? kata : "") ? [] : [`owns ${owned.join()}`]),
    ...(status.code === 0 ? [] : [`status ${status.code}`]),
    ...(isInstalled || Bun.deepEquals(node.tree(), before) ? [] : ["the tree is not as before"]),
  ].map((problem) => `round ${round} on ${engineCase.name}: ${problem}: ${told}; journal: ${journal.join()}`);
}

async function playRounds(count: number, mayDie: boolean): Promise<void> {
  const { TMPDIR } = process.env;
  compiled();
  // Small trees that need not outlive the test: a disk would make it far longer.
  if (existsSync("/dev/shm")) process.env["TMPDIR"] = "/dev/shm";
  const problems: string[] = [];
  const left = Array.from({ length: count }, (_, round) => round);
  const worker = async () => {
    for (let round = left.shift(); round !== undefined; round = left.shift()) {
      const engineCase = engineCases[round % engineCases.length];
      if (engineCase !== undefined) problems.push(...(await problemsOf(round, engineCase, mayDie)));
    }
  };
  try {
    await Promise.all(Array.from({ length: nodesAtOnce }, worker));
  } finally {
    if (TMPDIR === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = TMPDIR;
  }
  expect(problems).toEqual([]);
}

const timeoutMs = 30_000 + rounds * 1_000;

test(
  `the seed, as outcome: ${rounds} interleavings of late and early incarnations end as the newest epoch wants it`,
  () => playRounds(rounds, false),
  timeoutMs,
);

test(
  `and so do ${Math.ceil(rounds / 4)} where runs are killed and started again`,
  () => playRounds(Math.ceil(rounds / 4), true),
  timeoutMs,
);
