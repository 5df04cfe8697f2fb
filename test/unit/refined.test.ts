import { afterAll, describe, expect, mock, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { openHost } from "../../src/host/root.ts";
import { detect } from "../../src/layout/detect.ts";
import type { Daemon, Layout } from "../../src/layout/layout.ts";
import { layouts } from "../../src/layout/registry.ts";
import { vanilla } from "../../src/layout/vanilla.ts";

/** A distribution that nobody has made yet: what a new one takes. */
const edge: Layout = {
  ...vanilla,
  name: "edge",
  title: "an edge distribution",
  refines: "vanilla",
  evidence: (host) => ["/etc/edge-release"].filter((path) => host.exists(path)),
};

const real = [...layouts];
mock.module("../../src/layout/registry.ts", () => ({ layouts: [...real, edge] }));
afterAll(() => {
  mock.module("../../src/layout/registry.ts", () => ({ layouts: real }));
});

const root = mkdtempSync(`${tmpdir()}/shimctl-refined-`);
afterAll(() => rmSync(root, { recursive: true }));
mkdirSync(`${root}/etc`);

const containerd: Daemon = {
  unit: "containerd.service",
  argv: ["/usr/bin/containerd"],
  environment: {},
  active: true,
  source: "containerd.service, over D-Bus",
};

describe("a special case of a layout", () => {
  const named = () => {
    const wish = { engine: "auto", config: undefined, version: undefined } as const;
    const { layout, evidence } = detect(openHost(root), wish, [containerd], () => undefined);
    return [layout.name, ...evidence];
  };

  test("is not meant because the daemon runs that it shares with the general one, and is when more speaks for it", () => {
    const words = "containerd.service, over D-Bus: containerd";
    expect(named()).toEqual(["vanilla", words]);
    writeFileSync(`${root}/etc/edge-release`, "");
    expect(named()).toEqual(["edge", "/etc/edge-release", words]);
  });
});
