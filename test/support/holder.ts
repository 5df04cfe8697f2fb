import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import type { LiveEngine } from "./live_engine.ts";
import type { Node } from "./node.ts";

const main = `${import.meta.dirname}/watch_program.ts`;

/** What `watch` said on its standard output: one line for each change of the node's state. */
export interface Said {
  readonly result: string;
  readonly ready: boolean;
  readonly reason: string;
  readonly error: string | null;
}

/** `watch` as a process of its own, which serves its state. */
export class Holder {
  out = "";
  err = "";
  readonly pid: number;
  readonly termination: string;
  readonly #child: ReturnType<typeof spawn>;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: string | null }>;

  /** @param program the executable, in place of the source under Bun */
  constructor(node: Node, engine: LiveEngine | undefined, args: readonly string[], program?: string) {
    node.place("/termination-log", "");
    this.termination = `${node.root}/termination-log`;
    const all = [
      ...(program === undefined ? [main] : []),
      ...["watch", ...args, ...node.options, ...(engine?.options(node.root) ?? [])],
      ...["--json", "--listen", "127.0.0.1:0"],
    ];
    this.#child = spawn(program ?? process.execPath, all, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, SHIMCTL_TEST_TERMINATION_LOG: this.termination },
    });
    this.pid = this.#child.pid ?? 0;
    this.#child.stdout?.on("data", (part: Buffer) => {
      this.out += part.toString();
    });
    this.#child.stderr?.on("data", (part: Buffer) => {
      this.err += part.toString();
    });
    this.ended = new Promise((resolve) =>
      this.#child.on("close", (code, signal) => resolve({ code, signal })),
    );
  }

  get said(): Said[] {
    // What comes after the last end of a line is not whole yet.
    return this.out
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Said);
  }

  get words(): string {
    return readFileSync(this.termination, "utf8");
  }

  /** Waits until a state was told; fails with all that was said when that takes too long. */
  async until(result: string, times = 1): Promise<Said> {
    return this.when(`it says ${result}`, () => {
      const found = this.said.filter((each) => each.result === result);
      return found.length >= times ? found.at(-1) : undefined;
    });
  }

  async when<Value>(
    what: string,
    found: () => Value | undefined | Promise<Value | undefined>,
  ): Promise<Value> {
    const deadline = Date.now() + 60_000;
    for (;;) {
      const value = await found();
      if (value !== undefined) return value;
      if (Date.now() > deadline) throw new Error(`waited in vain until ${what}:\n${this.out}${this.err}`);
      await Bun.sleep(20);
    }
  }

  async port(): Promise<number> {
    const digits = await this.when("it listens", () => /on 127\.0\.0\.1:(\d+)/.exec(this.err)?.[1]);
    return Number(digits);
  }

  async get(path: string, method = "GET"): Promise<{ readonly status: number; readonly text: string }> {
    const answer = await fetch(`http://127.0.0.1:${await this.port()}${path}`, { method });
    return { status: answer.status, text: await answer.text() };
  }

  /** Ends it by a signal. */
  async end(signal: "SIGTERM" | "SIGINT" | "SIGKILL" = "SIGTERM") {
    const started = performance.now();
    this.#child.kill(signal);
    const ended = await this.ended;
    return { ...ended, ms: performance.now() - started };
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

/** The processes that a process has started and that have not ended. */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}
