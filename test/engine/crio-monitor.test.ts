import { describe, expect, test } from "bun:test";
import { bringCrio, type CrioEngine } from "../../build/crio.ts";
import { Node } from "../support/node.ts";
import { startCrio } from "./crio-harness.ts";
import { daemonProblem, jailProblem } from "./harness.ts";

const problem = jailProblem() ?? daemonProblem();
const ready = problem === undefined ? (await bringCrio()).engines : [];
if (problem !== undefined) console.log(`(skip) CRI-O's monitors: ${problem}`);

/** What a handler says of its monitor, and whether CRI-O starts with it under either cgroup manager. */
const cases: Readonly<Record<string, Readonly<Record<"systemd" | "cgroupfs", boolean>>>> = {
  'monitor_path = "/usr/bin/conmon"': { systemd: true, cgroupfs: true },
  'monitor_path = "/usr/bin/not-there"': { systemd: false, cgroupfs: false },
  'monitor_path = "/etc/hostname"': { systemd: false, cgroupfs: false },
  'monitor_cgroup = ""': { systemd: true, cgroupfs: true },
  'monitor_cgroup = "pod"': { systemd: true, cgroupfs: true },
  'monitor_cgroup = "system.slice"': { systemd: true, cgroupfs: true },
  'monitor_cgroup = "a.slice"': { systemd: true, cgroupfs: false },
  'monitor_cgroup = "a"': { systemd: false, cgroupfs: false },
};

const path = "/etc/crio/crio.conf.d/10-own.conf";
const runtime_path = 'runtime_path = "/usr/bin/crun"';

async function starts(engine: CrioEngine, node: Node): Promise<boolean> {
  try {
    const daemon = await startCrio(engine, node.root);
    await daemon.stop();
    return true;
  } catch (error) {
    expect(String(error)).toContain("monitor fields translation");
    return false;
  }
}

describe.skipIf(problem !== undefined)(
  "a monitor is refused exactly where CRI-O would not start with it",
  () => {
    for (const engine of ready) {
      for (const [said, expected] of Object.entries(cases)) {
        for (const manager of ["systemd", "cgroupfs"] as const) {
          test(`${engine.version}: ${said} with ${manager}`, async () => {
            using node = new Node(engine.version);
            const own = `[crio.runtime]\ncgroup_manager = "${manager}"\nconmon_cgroup = ""\n`;
            node.place(path, own);
            node.place("/etc/hostname", "");
            node.place("/usr/bin/conmon", "#!/bin/sh\n", 0o755);
            node.place("/handlers.toml", `format = 1\n[handlers.mine.crio]\n${runtime_path}\n${said}\n`);
            const ran = await node.run(["apply", "-f", `${node.root}/handlers.toml`, "--allow-missing"], {
              SHIMCTL_ENGINE: "crio",
            });
            expect(ran.code).toBe(expected[manager] ? 0 : 3);
            node.place(path, `${own}[crio.runtime.runtimes.theirs]\n${runtime_path}\n${said}\n`);
            expect(await starts(engine, node)).toBe(expected[manager]);
          });
        }
      }
    }
  },
);
