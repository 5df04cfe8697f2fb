import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { atEnd } from "./at_end.ts";

/** One engine for all copies of a node: a socket, and a program that starts it with the files of one of them. */
export class LiveEngine {
  readonly #folder = mkdtempSync(`${tmpdir()}/shimctl-engine-`);
  readonly #socket = `${this.#folder}/socket`;
  readonly #script = `${this.#folder}/restart`;
  readonly #count = `${this.#folder}/count`;
  readonly #pid: number;
  #isStopped = false;

  constructor() {
    const started = `${this.#folder}/started`;
    writeFileSync(started, "");
    // Two starts differ, with the same files too.
    writeFileSync(
      this.#script,
      `printf '%s\\n%s\\n' "$1" $$ >${started}.new && mv ${started}.new ${started} && echo >>${this.#count}\n`,
    );
    const server = `${process.execPath} ${import.meta.dirname}/cri_server.ts ${this.#socket} ${started}`;
    // No child of ours: whoever traces a program waits for all of its children.
    const line = `${server} </dev/null >${this.#folder}/log 2>&1 & echo $!`;
    this.#pid = Number(spawnSync("sh", ["-c", line], { encoding: "utf8" }).stdout);
    // A stage that could not be set up has nobody to take it down.
    atEnd(() => this.stop());
    const deadline = Date.now() + 60_000;
    while (!existsSync(this.#socket)) {
      if (Date.now() > deadline) throw new Error(readFileSync(`${this.#folder}/log`, "utf8"));
      Bun.sleepSync(5);
    }
  }

  start(root: string, engine: string): void {
    mkdirSync(`${root}/run/${engine}`, { recursive: true });
    // A socket is found by each of its names.
    linkSync(this.#socket, `${root}/run/${engine}/${engine}.sock`);
    expect(spawnSync("/bin/sh", [this.#script, root]).status).toBe(0);
  }

  options(root: string): string[] {
    return ["--restart-command", `/bin/sh ${this.#script} ${root}`];
  }

  /** How often it was started. */
  get starts(): number {
    return existsSync(this.#count) ? readFileSync(this.#count, "utf8").length : 0;
  }

  /** Harmless when repeated. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    process.kill(this.#pid, "SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
