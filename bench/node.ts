import { chmodSync, cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { kataDefaultShims } from "../src/handler/presets/kata.ts";

export const rootFile = "/etc/containerd/config.toml";

/** The handlers that kata-deploy installs on x86-64 when nobody chooses: twenty. */
export const kataShims: readonly string[] = kataDefaultShims.x86_64;

/** A node below a folder: one configuration, and the binaries and configurations that handlers name. */
export function makeNode(root: string, configuration: string): void {
  rmSync(root, { recursive: true, force: true });
  for (const folder of ["/run/lock", "/run/containerd", "/var/lib/containerd", "/etc/systemd/system"])
    mkdirSync(root + folder, { recursive: true });
  place(root, rootFile, configuration);
  for (const binary of binaries) place(root, binary, "#!/bin/sh\n", 0o755);
  for (const shim of kataShims) {
    const runtime = shim.endsWith("runtime-rs") || shim === "dragonball" ? "runtime-rs/" : "";
    const folder = `/opt/kata/share/defaults/kata-containers/${runtime}runtimes/${shim}`;
    place(root, `${folder}/configuration-${shim}.toml`, "# a sandbox\n");
  }
}

/** Puts a copy of a node, in whatever state that is, in the place of another. */
export function copyNode(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  cpSync(from, to, { recursive: true });
}

const binaries = [
  "/opt/kata/bin/containerd-shim-kata-v2",
  "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2",
  "/usr/bin/nvidia-container-runtime",
];

function place(root: string, path: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(root + path), { recursive: true });
  writeFileSync(root + path, content);
  chmodSync(root + path, mode);
}
