import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { FileEdit } from "../../src/engine/backend.ts";
import { ShimctlError } from "../../src/error.ts";
import type { CommitPoint } from "../../src/host/exchange.ts";
import { leaseHolds } from "../../src/host/lease.ts";
import { type Libc, loadLibc } from "../../src/host/libc/libc.ts";
import { openHost } from "../../src/host/root.ts";
import { type CommitIntent, type CommitOptions, commitFile } from "../../src/transaction/commit.ts";

let folder = "";
let libc: Libc;
let call: Libc["renameat2"];
let exchangeCall: Libc["renameat2"];
let fcntl: Libc["fcntl"];
/** Called just before the kernel is asked to exchange: after our last look. */
const beforeExchange = new Map<string, () => void>();
beforeAll(async () => {
  folder = mkdtempSync(`${tmpdir()}/shimctl-interleaving-`);
  libc = await loadLibc();
  call = libc.renameat2;
  fcntl = libc.fcntl;
  libc.renameat2 = (from, to, flags) => {
    for (const path of [from, to]) {
      const name = new TextDecoder().decode(path).slice(0, -1);
      const hook = beforeExchange.get(name);
      beforeExchange.delete(name);
      hook?.();
    }
    return (flags === 2 ? exchangeCall : call)(from, to, flags);
  };
  exchangeCall = call;
});
afterAll(() => {
  libc.renameat2 = call;
  rmSync(folder, { recursive: true });
});

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (content: Uint8Array | null) => new TextDecoder().decode(content ?? new Uint8Array());
const base = "version = 2\n[plugins]\n  a = 1\n[debug]\n";
const ourBlock = "# begin shimctl\nours = 1\n# end shimctl\n";
const strip = (content: string) => content.replaceAll(ourBlock, "");
const add = (content: Uint8Array | null) => bytes(strip(text(content)) + ourBlock);

let runs = 0;
function sandbox(content: string) {
  const root = `${folder}/${++runs}`;
  mkdirSync(root);
  const target = `${root}/config.toml`;
  writeFileSync(target, content);
  const journal: CommitIntent[] = [];
  const kept: string[] = [];
  return {
    target,
    journal,
    kept,
    now: () => readFileSync(target, "utf8"),
    put(content: string) {
      writeFileSync(`${target}.other`, content);
      renameSync(`${target}.other`, target);
    },
    leftovers: () => readdirSync(root).filter((name) => name !== "config.toml"),
    commit: (edit: Partial<FileEdit> = {}, options: Partial<CommitOptions> = {}) =>
      commitFile(
        openHost(root),
        {
          path: "/config.toml",
          before: bytes(content),
          after: add(bytes(content)),
          edit: add,
          bare: (content) => (content === null ? null : bytes(strip(text(content)))),
          ...edit,
        },
        {
          journal: (intent) => journal.push(intent),
          retries: 20,
          onKept: (content) => {
            kept.push(text(content));
            return `store/${kept.length}`;
          },
          ...options,
        },
      ),
  };
}

/** Where a foreign program may read, and where it may rename what it made of that: in this order. */
const moments = [
  "written",
  "journaled",
  "compared",
  "window",
  "exchanged",
  "settled",
  0,
  20,
  120,
  400,
] as const;

const pairsAtOnce = 100;
/** How long a commit stays for a program that has read a version of it. */
const staysMs = 2_000;

/** One turn of a foreign program: it reads at one moment and renames at a later one. */
interface Turn {
  readonly reads: number;
  readonly renames: number;
}

async function play(turns: readonly Turn[]): Promise<string[]> {
  let problems: string[] | undefined;
  while (problems === undefined) problems = await playOnce(turns);
  return problems;
}

/** `undefined`: a machine that is busy let the program rename only when no commit stays for it any more. */
async function playOnce(turns: readonly Turn[]): Promise<string[] | undefined> {
  const box = sandbox(base);
  const copies = new Map<Turn, string>();
  const written: string[] = [];
  const at = (moment: number) => {
    // Within one moment, a turn that ends comes before one that begins.
    for (const turn of turns) {
      const copy = copies.get(turn);
      if (turn.renames !== moment || copy === undefined) continue;
      const line = `line = "${turns.indexOf(turn)}"\n`;
      box.put(copy + line);
      written.push(line);
    }
    for (const turn of turns) if (turn.reads === moment) copies.set(turn, box.now());
  };
  const once = new Set<CommitPoint | "window">();
  const point = (name: CommitPoint | "window") => {
    const moment = moments.indexOf(name as (typeof moments)[number]);
    if (moment === -1 || once.has(name)) return;
    once.add(name);
    at(moment);
  };
  beforeExchange.set(box.target, () => point("window"));
  let settled: Promise<void> | undefined;
  let tooLate = false;
  const late = async () => {
    const start = performance.now();
    for (const [moment, delay] of moments.entries()) {
      if (typeof delay !== "number") continue;
      await sleep(Math.max(0, start + delay - performance.now()));
      const before = written.length;
      at(moment);
      if (written.length > before && performance.now() >= start + staysMs) tooLate = true;
    }
  };
  const result = await box.commit(
    {},
    {
      failpoint: (name) => {
        point(name);
        if (name === "settled") settled ??= late();
      },
    },
  );
  await settled;
  if (tooLate) return undefined;
  if (result.stale) return [];
  return [
    ...written.filter((line) => !box.now().includes(line)).map((line) => `lost ${line}: ${box.now()}`),
    ...written
      .filter((line) => box.now().split(line).length > 2)
      .map((line) => `twice ${line}: ${box.now()}`),
    ...box.leftovers().map((name) => `left ${name}`),
    ...box.kept.map((content) => `kept ${content}`),
  ].map((problem) => `${JSON.stringify(turns)} ${problem}`);
}

describe("a program that renames its own version over the file", () => {
  const turns = moments.flatMap((_, reads) =>
    moments.flatMap((_, renames) => (reads < renames ? [{ reads, renames }] : [])),
  );

  test("loses no line, whenever it reads and renames", async () => {
    expect((await Promise.all(turns.map((turn) => play([turn])))).flat()).toEqual([]);
  });

  test("loses no line in two turns, whenever they read and rename", async () => {
    const pairs = turns.flatMap((one) =>
      turns.flatMap((other) => (one.renames <= other.reads ? [[one, other]] : [])),
    );
    const problems: string[] = [];
    // All at once they would keep one another from their turn, for longer than a commit stays for them.
    for (let first = 0; first < pairs.length; first += pairsAtOnce) {
      const some = await Promise.all(pairs.slice(first, first + pairsAtOnce).map(play));
      problems.push(...some.flat());
    }
    expect(problems).toEqual([]);
  }, 300_000);
});

async function failure(promise: Promise<unknown>): Promise<ShimctlError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof ShimctlError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("a commit that cannot be merged", () => {
  test("keeps the displaced version aside when a third one changed the same line", async () => {
    const box = sandbox(base);
    beforeExchange.set(box.target, () => box.put(base.replace("a = 1", "a = 2")));
    const error = await failure(
      box.commit(
        {},
        {
          failpoint: (name) => {
            if (name === "exchanged") box.put(base.replace("a = 1", "a = 3"));
          },
        },
      ),
    );
    expect([error.code, error.retryable]).toEqual(["conflict", true]);
    expect(box.kept).toEqual([base.replace("a = 1", "a = 2")]);
    expect(box.now()).toBe(base.replace("a = 1", "a = 3"));
    expect(error.facts.state).toContain("store/1");
    expect(box.leftovers()).toEqual([]);
  });

  test("gives the other program's version back when our edit cannot be made on it", async () => {
    const box = sandbox(base);
    const theirs = `${base}broken = [\n`;
    beforeExchange.set(box.target, () => box.put(theirs));
    const edit = (content: Uint8Array | null) => {
      if (text(content).includes("broken"))
        throw new ShimctlError("invalid-config", "Cannot parse this file");
      return add(content);
    };
    const error = await failure(box.commit({ edit }));
    expect(error.code).toBe("conflict");
    expect(box.now()).toBe(theirs);
    expect([...box.kept, ...box.leftovers()]).toEqual([]);
  });

  test("gives the other program's version back when no retries are allowed", async () => {
    const box = sandbox(base);
    beforeExchange.set(box.target, () => box.put(`${base}theirs = 1\n`));
    expect((await failure(box.commit({}, { retries: 0 }))).code).toBe("conflict");
    expect(box.now()).toBe(`${base}theirs = 1\n`);
    expect([...box.kept, ...box.leftovers()]).toEqual([]);
  });

  test("keeps a version aside in which somebody edited inside our block", async () => {
    const box = sandbox(base + ourBlock);
    const theirs = (base + ourBlock).replace("ours = 1", "ours = 2");
    beforeExchange.set(box.target, () => box.put(theirs));
    const bare = (content: Uint8Array | null) =>
      bytes(text(content).replace(/# begin shimctl\n[\s\S]*?# end shimctl\n/g, ""));
    await box.commit({ bare, edit: bare, after: bytes(base) });
    expect(box.kept).toEqual([theirs]);
    expect(box.now()).toBe(base);
  });
});

describe("a commit whose file is not what was planned for", () => {
  test("writes nothing and says stale when the file changed before the last look", async () => {
    const box = sandbox(base);
    const failpoint = (name: CommitPoint) => {
      if (name === "journaled") box.put("theirs = 1\n");
    };
    expect(await box.commit({}, { failpoint })).toEqual({ contended: false, stale: true });
    expect(box.now()).toBe("theirs = 1\n");
    expect(box.leftovers()).toEqual([]);
  });

  test("says stale when somebody created the new file first", async () => {
    const box = sandbox(base);
    rmSync(box.target);
    beforeExchange.set(box.target, () => writeFileSync(box.target, "theirs = 1\n"));
    const result = await box.commit({ before: null, after: bytes("ours = 1\n") });
    expect(result.stale).toBe(true);
    expect(box.now()).toBe("theirs = 1\n");
  });

  test("puts a line back that was added to a file just before it was removed", async () => {
    const box = sandbox(ourBlock);
    const edit = (content: Uint8Array | null) => {
      const rest = strip(text(content));
      return rest === "" ? null : bytes(rest);
    };
    beforeExchange.set(box.target, () => box.put(`${ourBlock}theirs = 1\n`));
    expect(await box.commit({ after: null, edit })).toEqual({ contended: true, stale: false });
    expect(box.now()).toBe("theirs = 1\n");
    expect(box.leftovers()).toEqual([]);
  });
});

describe("a file system without RENAME_EXCHANGE", () => {
  test("still replaces the file, and puts back what was appended to the old one", async () => {
    const box = sandbox(base);
    exchangeCall = () => -22;
    try {
      const opened = performance.now();
      using _ = new Appender(box.target, () => performance.now() >= opened + 300);
      // Within the patience for open files the appender ends: the plan is stale, and made anew.
      expect((await box.commit()).stale).toBe(true);
      const before = bytes(box.now());
      expect(await box.commit({ before, after: add(before) })).toEqual({ contended: false, stale: false });
      expect(box.now()).toBe(`${base}appended = 1\n${ourBlock}`);
      expect(box.leftovers()).toEqual([]);
    } finally {
      exchangeCall = call;
    }
  });
});

/**
 * A program that holds the file open and then appends a line. It ends when we look whether it still has the file
 * open, and its time is over: at any other moment it would be the machine that says which of us is first.
 */
class Appender {
  readonly #fd: number;
  #isOpen = true;

  constructor(target: string, isOver: () => boolean) {
    this.#fd = openSync(target, "a");
    libc.fcntl = (fd, command, argument) => {
      if (isOver()) this.end();
      return fcntl(fd, command, argument);
    };
  }

  end(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    writeSync(this.#fd, "appended = 1\n");
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    libc.fcntl = fcntl;
    this.end();
  }
}

describe("a program that has the file open for writing", () => {
  test("for longer than we wait is exchanged under, and its line is merged", async () => {
    const box = sandbox(base);
    let exchanged = Number.POSITIVE_INFINITY;
    using _ = new Appender(box.target, () => performance.now() >= exchanged + 1_000);
    const failpoint = (name: CommitPoint) => {
      if (name === "exchanged") exchanged = Math.min(exchanged, performance.now());
    };
    expect(await box.commit({}, { failpoint })).toEqual({ contended: true, stale: false });
    expect(box.now()).toBe(`${base}appended = 1\n${ourBlock}`);
    expect(box.leftovers()).toEqual([]);
  });

  test("for ever gets its file back", async () => {
    const box = sandbox(base);
    using appender = new Appender(box.target, () => false);
    const error = await failure(box.commit());
    expect(error.code).toBe("conflict");
    expect(error.message).toContain("keeps it open for writing");
    appender.end();
    expect(box.now()).toBe(`${base}appended = 1\n`);
    expect([...box.kept, ...box.leftovers()]).toEqual([]);
  });

  test("that opens it during the exchange waits for it, and its line is merged", async () => {
    const box = sandbox(base);
    let leased = -1;
    libc.fcntl = (fd, command, argument) => {
      leased = fd;
      return fcntl(fd, command, argument);
    };
    let ended: Promise<unknown> | undefined;
    const cell = new Int32Array(new SharedArrayBuffer(4));
    const failpoint = (name: CommitPoint) => {
      if (name !== "compared" || ended !== undefined) return;
      const child = spawn("sh", ["-c", `echo 'appended = 1' >>'${box.target}'`], { stdio: "ignore" });
      ended = once(child, "exit");
      // Until it waits in open(2) for our lease.
      while (leaseHolds(libc, leased)) Atomics.wait(cell, 0, 0, 5);
    };
    try {
      expect(await box.commit({}, { failpoint })).toEqual({ contended: true, stale: false });
    } finally {
      libc.fcntl = fcntl;
    }
    await ended;
    expect(box.now()).toBe(`${base}appended = 1\n${ourBlock}`);
  });
});
