import { expect, test } from "bun:test";
import { openLive } from "../../src/host/live.ts";
import { openHost } from "../../src/host/root.ts";
import { Node } from "../support/node.ts";

function byCommand(node: Node, ...command: string[]) {
  return openLive(openHost(node.root), {
    socket: "/run/containerd/containerd.sock",
    unit: "containerd.service",
    mode: "command",
    command,
  });
}

test("a restart command that leaves a daemon behind is not waited for longer than itself", async () => {
  using node = new Node("2.1.9", "version = 3\n");
  const started = performance.now();
  const live = byCommand(node, "/bin/sh", "-c", "sleep 10 & exit 0");
  expect(await live.restart(AbortSignal.timeout(8_000))).toBe("done");
  expect(performance.now() - started).toBeLessThan(6_000);
});

test("a restart command that has no end is not waited for longer than its time", async () => {
  using node = new Node("2.1.9", "version = 3\n");
  const live = byCommand(node, "/bin/sh", "-c", "trap '' TERM; sleep 5; sleep 5");
  const started = performance.now();
  expect(await live.restart(AbortSignal.timeout(300))).toBe("not waited for");
  expect(performance.now() - started).toBeLessThan(8_000);
});

test("what a restart command is given is in no message, as it may be a secret", async () => {
  using node = new Node("2.1.9", "version = 3\n");
  const live = byCommand(node, "/bin/false", "--token=hunter2");
  expect(await live.way()).toBe("/bin/false");
  expect(await live.restart(undefined)).toBe("failed: /bin/false ended with 1");
  expect(await byCommand(node, "/nowhere/restart", "hunter2").restart(undefined)).not.toContain("hunter2");
});
