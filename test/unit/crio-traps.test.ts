import { describe, expect, test } from "bun:test";
import { crio } from "../../src/engine/crio/backend.ts";
import type { CrioPart } from "../../src/handler/model.ts";
import { MemoryNode } from "../support/memory.ts";

const dropIn = "/etc/crio/crio.conf.d/50-shimctl-a.conf";
const theirs = "/etc/crio/crio.conf.d/10-theirs.conf";

function nodeWith(files: Readonly<Record<string, string>> = {}): MemoryNode {
  return new MemoryNode("1.36.3", files, "/etc/crio/crio.conf", crio);
}

/** Writes one handler of owner `a`. */
function install(node: MemoryNode, part: Partial<CrioPart>, name = "mine"): void {
  const handler = { runtime_type: "oci", like_default: false, runtime_path: "/bin/mine", ...part } as const;
  node.make(node.view().plan("a", [{ name, crio: handler }]));
}

function found(node: MemoryNode): string[] {
  return node
    .view()
    .check(node.host)
    .map(({ severity, rule, handler }) => `${severity} ${rule} ${handler}`);
}

describe("a handler's monitor, without which CRI-O does not start at all", () => {
  test("is refused where it is not on the host", () => {
    const node = nodeWith();
    install(node, { monitor_path: "/bin/conmon" });
    expect(found(node)).toEqual(["error monitor-path mine"]);
    node.write("/bin/conmon", "");
    expect(found(node)).toEqual([]);
  });

  test("is started as the default runtime's is, without the secrets in its environment", () => {
    const secret = '"API_TOKEN=s3cret", "HTTPS_PROXY=http://robot:s3cret@proxy:3128"';
    const node = nodeWith({
      [theirs]: `[crio.runtime]\ndefault_runtime = "x"\n[crio.runtime.runtimes.x]\nruntime_path = "/bin/x"\nmonitor_env = ["PATH=/bin", ${secret}]\n`,
    });
    install(node, { like_default: true });
    expect(node.text(dropIn)).toContain('monitor_env = ["PATH=/bin"]');
    expect(node.text(dropIn)).not.toContain("s3cret");
  });

  test("is not judged for a virtual machine, which has none", () => {
    const node = nodeWith();
    const runtime_path = "/bin/containerd-shim-mine-v2";
    install(node, { runtime_type: "vm", runtime_path, monitor_path: "/bin/x", monitor_cgroup: "x" });
    expect(found(node)).toEqual([]);
  });

  test("is the default handler's type where a handler inherits that", () => {
    const runtime = "[crio.runtime]\ndefault_runtime = 'v'\n[crio.runtime.runtimes.v]\n";
    const node = nodeWith({
      [theirs]: `${runtime}runtime_type = "vm"\nruntime_path = "/bin/containerd-shim-v-v2"\n`,
      "/bin/containerd-shim-v-v2": "",
    });
    install(node, { inherit_default_runtime: true, monitor_cgroup: "x" });
    expect(found(node)).toEqual([]);
  });

  test("is a warning where the administrator's own handler names the same one, or alone", () => {
    const node = nodeWith({
      [theirs]: '[crio.runtime.runtimes.x]\nruntime_path = "/bin/x"\nmonitor_path = "/bin/conmon"\n',
      "/bin/x": "",
    });
    expect(found(node)).toEqual(["warning monitor-path x"]);
    install(node, { monitor_path: "/bin/conmon" });
    expect(found(node)).toEqual(["warning monitor-path x", "warning monitor-path mine"]);
  });

  test("is not looked at where one is set for all handlers", () => {
    const node = nodeWith({ [theirs]: '[crio.runtime]\nconmon = "/bin/c"\nconmon_cgroup = "pod"\n' });
    install(node, { monitor_path: "/bin/conmon", monitor_cgroup: "x" });
    expect(found(node)).toEqual([]);
  });

  for (const [manager, cgroups] of Object.entries({
    systemd: { "": true, pod: true, "a.slice": true, "system.slice": true, x: false },
    cgroupfs: { "": true, pod: true, "a.slice": false, "system.slice": true, x: false },
  })) {
    for (const [cgroup, starts] of Object.entries(cgroups)) {
      test(`${starts ? "may" : "may not"} be in cgroup '${cgroup}' with ${manager}`, () => {
        const node = nodeWith({ [theirs]: `[crio.runtime]\ncgroup_manager = "${manager}"\n` });
        install(node, { monitor_cgroup: cgroup });
        expect(found(node)).toEqual(starts ? [] : ["error monitor-cgroup mine"]);
      });
    }
  }
});

test("a handler that somebody added below our block is theirs, whatever stands in the block's values", () => {
  const node = nodeWith();
  install(node, { default_annotations: { note: "see [crio.runtime.runtimes.x]" } });
  node.write(dropIn, `${node.text(dropIn)}\n[crio.runtime.runtimes.x]\nruntime_type = "new"\n`);
  expect(found(node)).toEqual(["warning runtime-type x"]);
});

test("a handler of ours is ours, however its name is written", () => {
  for (const name of ["a.b", "1", "constructor"]) {
    const node = nodeWith();
    install(node, { allowed_annotations: ["unknown"] }, name);
    expect(found(node)).toEqual([`error allowed-annotation ${name}`]);
  }
});
