import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import type { Io } from "../../src/cli/io.ts";
import { main } from "../../src/cli/main.ts";
import { runDeno, underDeno } from "./deno.ts";
import type { EngineCase } from "./engine_case.ts";
import { treeOf } from "./tree.ts";

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** The document that `--json` printed. */
  json(): Record<string, unknown>;
}

/** A sandbox root with the runtimes of the usual handlers, on which the command line runs inside the test. */
export class Node {
  readonly root: string;
  readonly version: string;
  /** Only where nothing on the node speaks for an engine; elsewhere it is found. */
  #engine: string | undefined;

  /** A node of this engine with the administrator's files, or with others. */
  static of(engineCase: EngineCase, files: Readonly<Record<string, string | Uint8Array>> = engineCase.files) {
    const node = new Node(engineCase.version);
    for (const [path, content] of Object.entries(files)) node.place(path, content);
    if (Object.keys(files).length === 0) node.#engine = engineCase.engine;
    return node;
  }

  constructor(version: string, config?: string | Uint8Array) {
    this.root = mkdtempSync(`${tmpdir()}/shimctl-test-`);
    this.version = version;
    for (const path of [
      "/opt/kata/bin/containerd-shim-kata-v2",
      "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2",
      "/usr/local/bin/containerd-shim-runsc-v1",
      "/usr/local/bin/runsc",
      "/usr/bin/crun",
      "/usr/bin/nvidia-container-runtime",
    ]) {
      this.place(path, "#!/bin/sh\n", 0o755);
    }
    for (const shim of ["qemu", "clh", "fc"])
      this.place(`/opt/kata/share/defaults/kata-containers/runtimes/${shim}/configuration-${shim}.toml`, "");
    if (config !== undefined) this.place("/etc/containerd/config.toml", config);
  }

  place(path: string, content: string | Uint8Array, mode = 0o644): void {
    mkdirSync(dirname(this.root + path), { recursive: true });
    writeFileSync(this.root + path, content);
    chmodSync(this.root + path, mode);
  }

  remove(path: string): void {
    rmSync(this.root + path, { recursive: true, force: true });
  }

  text(path = "/etc/containerd/config.toml"): string {
    return readFileSync(this.root + path, "utf8");
  }

  tree(): Record<string, string> {
    return treeOf(this.root);
  }

  /** The files that the engine loads, as paths of the node. */
  loaded(engineCase: EngineCase): string[] {
    return loadedFiles(this.root, engineCase);
  }

  /** Brings the administrator's files back and takes ours away, as another tool does that writes them anew. */
  overwrite(engineCase: EngineCase, owner = "default"): void {
    rmSync(this.root + engineCase.block(owner), { force: true });
    for (const [path, content] of Object.entries(engineCase.files)) this.place(path, content);
  }

  /** The options that say for a process of its own which node it is. */
  get options(): string[] {
    return [
      ...["--root", this.root, "--engine-version", this.version],
      ...(this.#engine === undefined ? [] : ["--engine", this.#engine]),
    ];
  }

  /** The same as variables. */
  get env(): Record<string, string> {
    return {
      SHIMCTL_ROOT: this.root,
      SHIMCTL_ENGINE_VERSION: this.version,
      ...(this.#engine === undefined ? {} : { SHIMCTL_ENGINE: this.#engine }),
    };
  }

  /** Runs the command line in this process. */
  async run(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    cluster: NonNullable<Io["cluster"]> = {},
  ): Promise<Ran> {
    if (underDeno) {
      const ran = runDeno(args, { ...this.env, ...env });
      return { ...ran, json: () => JSON.parse(ran.out) as Record<string, unknown> };
    }
    let out = "";
    let err = "";
    const code = await main(args, {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      env: { ...this.env, ...env },
      outIsTerminal: false,
      errIsTerminal: false,
      signal: new AbortController().signal,
      now: () => new Date(),
      cluster,
    });
    return { code, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** The files below a root that the engine loads, as paths of the node. */
export function loadedFiles(root: string, { loads }: EngineCase): string[] {
  return loads.flatMap(({ folder, suffix }) =>
    namesIn(root + folder)
      .filter((name) => name.endsWith(suffix))
      .map((name) => `${folder}/${name}`),
  );
}

/** The files in a folder; there are none in one that is not there. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}
