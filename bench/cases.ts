import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { configuration, usualLines } from "./configuration.ts";
import { kataScript } from "./kata_script.ts";
import { copyNode, kataShims, makeNode, rootFile } from "./node.ts";
import type { Peer } from "./nvidia.ts";
import type { Programs } from "./programs.ts";
import { prepare, run } from "./spawn.ts";

/** One row of the table. */
export interface Case {
  readonly id: CaseId;
  readonly label: string;
  readonly argv: readonly string[];
  /** Puts the node into the state that the command begins with. Not timed. */
  readonly ready: () => void;
  /** Where its node is: what it writes is counted below it. */
  readonly root: string;
}

export type CaseId =
  | "empty"
  | "version"
  | "status"
  | "noop"
  | "install"
  | "install20"
  | "uninstall"
  | "nvidia"
  | "script";

/** The cases on nodes below a folder, each beginning with the same files. */
export function cases(folder: string, programs: Programs, peer: Peer | undefined): readonly Case[] {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const [bare, served, root] = [`${folder}/bare`, `${folder}/served`, `${folder}/node`];
  makeNode(bare, configuration(usualLines));
  copyNode(bare, served);
  const { shimctl, empty } = programs;
  const change = (command: string, ...args: readonly string[]) => [
    shimctl,
    command,
    ...args,
    "--root",
    root,
    "--no-restart",
  ];
  const first = [shimctl, "install", "nvidia", "--root", served, "--no-restart"];
  run(prepare({ argv: first }, `${folder}/output`));
  const script = `${folder}/kata.sh`;
  writeFileSync(script, kataScript(`${root}${rootFile}`));

  const fromBare = () => copyNode(bare, root);
  const fromServed = () => copyNode(served, root);
  const one = (id: CaseId, label: string, argv: readonly string[], ready: () => void): Case => ({
    id,
    label,
    argv,
    ready,
    root,
  });
  const twenty = kataShims.map((shim) => `kata-${shim}`);
  return [
    one("empty", "an empty Bun executable", [empty], () => {}),
    one("version", "`shimctl version`", [shimctl, "version"], () => {}),
    one("status", "`shimctl status`", [shimctl, "status", "--root", root], fromServed),
    one("noop", "`shimctl install`, nothing to do", change("install", "nvidia"), fromServed),
    one("install", "`shimctl install`, one handler", change("install", "nvidia"), fromBare),
    one("install20", "`shimctl install`, 20 Kata handlers", change("install", ...twenty), fromBare),
    one("uninstall", "`shimctl uninstall`", change("uninstall", "--all"), fromServed),
    ...(peer === undefined
      ? []
      : [
          one(
            "nvidia",
            `nvidia-ctk ${peer.version} \`runtime configure\`, one handler`,
            nvidiaArgv(peer, root),
            fromBare,
          ),
        ]),
    one("script", "a script, one rewrite per key, 20 Kata handlers", ["/bin/sh", script], fromBare),
  ];
}

/** The same edit as `shimctl install nvidia`: one handler in a drop-in, and the import that reaches it. */
export function nvidiaArgv({ binary }: Peer, root: string): string[] {
  return [
    binary,
    "runtime",
    "configure",
    "--runtime=containerd",
    `--config=${root}${rootFile}`,
    `--drop-in-config=${root}/etc/containerd/conf.d/99-nvidia.toml`,
  ];
}
