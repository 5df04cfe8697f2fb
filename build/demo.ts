/**
 * `npm run demo`: the main job on a sandbox root, without privileges. It makes a realistic node in a temporary
 * folder, installs, shows what changed, races ten runs, uninstalls, and compares the tree with the first one.
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import process from "node:process";
import { treeOf } from "../test/support/tree.ts";

const root = mkdtempSync(`${tmpdir()}/shimctl-demo-`);
const program = [process.execPath, `${import.meta.dirname}/../src/main.ts`] as const;
const env = { ...process.env, SHIMCTL_ROOT: root, SHIMCTL_ENGINE_VERSION: "2.1.9" };

function place(path: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(root + path), { recursive: true });
  writeFileSync(root + path, content);
  chmodSync(root + path, mode);
}

function makeNode(): void {
  place(
    "/etc/containerd/config.toml",
    `# This node's containerd. Managed by the platform team: see the runbook before you touch it.
version = 3
root = "/var/lib/containerd"
oom_score = -999            # never kill the engine

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "registry.example.com/pause:3.10"

[plugins.'io.containerd.cri.v1.images'.registry.configs.'registry.example.com'.auth]
  username = "robot"
  password = "not for your eyes"

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true
`,
  );
  for (const binary of [
    "/opt/kata/bin/containerd-shim-kata-v2",
    "/usr/local/bin/containerd-shim-runsc-v1",
    "/usr/local/bin/runsc",
    "/usr/bin/crun",
  ]) {
    place(binary, "#!/bin/sh\n", 0o755);
  }
  for (const shim of ["qemu", "clh"]) {
    place(
      `/opt/kata/share/defaults/kata-containers/runtimes/${shim}/configuration-${shim}.toml`,
      "# a sandbox\n",
    );
  }
}

/** Runs a command in front of the reader. */
function show(...args: string[]): void {
  console.log(`\n$ shimctl ${args.join(" ")}`);
  const result = spawnSync(program[0], [program[1], ...args], {
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = (result.stdout + result.stderr).trimEnd();
  if (output !== "") console.log(output.replace(/^/gm, "  "));
  if (result.status !== 0) fail(`shimctl ${args.join(" ")} ended with ${result.status}`);
}

function start(
  args: readonly string[],
): Promise<{ args: readonly string[]; code: number | null; errors: string }> {
  return new Promise((resolve) => {
    const child = spawn(program[0], [program[1], ...args], { env, stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.on("exit", (code) => resolve({ args, code, errors }));
  });
}

function fail(message: string): never {
  console.error(`demo failed: ${message}`);
  process.exit(1);
}

try {
  makeNode();
  const before = treeOf(root);
  console.log(`A node with containerd 2.1.9 stands in ${root}; nothing outside of it is touched.`);

  show("diff", "install", "kata-qemu", "runsc");
  show("install", "kata-qemu", "runsc");
  show("install", "kata-qemu", "runsc");
  show("status");

  console.log("\nTen runs at once, two owners, installs and uninstalls mixed:");
  const runs = Array.from({ length: 10 }, (_, index) => {
    const owner = index % 2 === 0 ? "default" : "second";
    const handler = owner === "second" ? "kata-clh" : "crun";
    return start([index % 3 === 2 ? "uninstall" : "install", handler, "--owner", owner]);
  });
  const ended = await Promise.all(runs);
  for (const { args, code, errors } of ended) {
    console.log(`  shimctl ${args.join(" ").padEnd(42)} exit ${code}`);
    if (code !== 0) fail(errors);
  }
  show("check");

  show("uninstall", "--all");
  show("uninstall", "--all", "--owner", "second");
  const after = treeOf(root);
  if (JSON.stringify(after) !== JSON.stringify(before))
    fail(`the tree is not what it was: ${JSON.stringify(after, null, 1)}`);
  console.log(
    `\nThe tree is identical to the first one: ${Object.keys(before).length} files and folders, their bytes, modes and owners.`,
  );
} finally {
  rmSync(root, { recursive: true, force: true });
}
