import { spawn } from "node:child_process";
import { watch } from "node:fs";
import process from "node:process";
import { type Generation, k0sFolder, k0sRoot, k0sSocket, renderByK0s } from "../support/k0s_merge.ts";

/**
 * As much of k0s as its containerd sees (k0sproject/k0s, pkg/component/worker/containerd, pkg/supervisor), for a booted
 * node: `k0s worker GENERATION`. It ends its engine 3 s after the last change of the folder, and starts what ended 5 s
 * later.
 */
const generation = process.argv.at(-1) as Generation;
const argv = ["--root=/var/lib/k0s/containerd", "--state=/run/k0s/containerd"];
let stopping = false;

function start() {
  const child = spawn(
    "/var/lib/k0s/bin/containerd",
    [...argv, `--address=${k0sSocket}`, `--config=${k0sRoot}`],
    { stdio: "inherit" },
  );
  console.log("starts containerd");
  child.on("exit", () => {
    if (stopping) process.exit(0);
    setTimeout(() => {
      running = start();
    }, 5_000);
  });
  return child;
}

renderByK0s("", generation);
let running = start();
let timer: ReturnType<typeof setTimeout> | undefined;
watch(k0sFolder, () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    try {
      if (generation === "1.35") renderByK0s("", generation);
      running.kill("SIGHUP");
    } catch (error) {
      console.log(`failed to resolve config: ${error}`);
    }
  }, 3_000);
});
process.on("SIGTERM", () => {
  stopping = true;
  if (!running.kill("SIGTERM")) process.exit(0);
});
