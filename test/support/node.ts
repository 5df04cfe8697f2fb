import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { main } from "../../src/cli/main.ts";
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

  text(path = "/etc/containerd/config.toml"): string {
    return readFileSync(this.root + path, "utf8");
  }

  tree(): Record<string, string> {
    return treeOf(this.root);
  }

  /** Runs the command line in this process. */
  async run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    let out = "";
    let err = "";
    const code = await main(args, {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      env: { SHIMCTL_ROOT: this.root, SHIMCTL_ENGINE_VERSION: this.version, ...env },
      outIsTerminal: false,
      errIsTerminal: false,
      signal: new AbortController().signal,
      now: () => new Date(),
    });
    return { code, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
