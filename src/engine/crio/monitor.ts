import type { TomlTable } from "../../toml/parse.ts";
import type { HostFacts } from "../backend.ts";
import { tableAt } from "../tables.ts";
import type { Understood } from "./understand.ts";

export interface MonitorProblem {
  readonly rule: "monitor-path" | "monitor-cgroup";
  readonly why: string;
  readonly hint: string;
}

/**
 * What CRI-O does not start on, whichever handler has it: it wants the monitor of each that conmon is for (pkg/config,
 * TranslateMonitorFields; seen with 1.36.3). A `conmon` or `conmon_cgroup` of its own table counts instead of a
 * handler's.
 */
export function monitorProblems(node: Understood, table: TomlTable, facts: HostFacts): MonitorProblem[] {
  const { runtime } = node;
  const found: MonitorProblem[] = [];
  if (!["", "oci"].includes(text(typeGiver(node, table), "runtime_type"))) return found;
  const path = text(table, "monitor_path");
  if (path !== "" && text(runtime, "conmon") === "" && !facts.isExecutable(path)) {
    found.push({
      rule: "monitor-path",
      why: `has a monitor that is not there, or cannot be run: ${path}`,
      hint: "put it there first, or leave monitor_path out, and conmon is looked up in PATH",
    });
  }
  const cgroup = text(table, "monitor_cgroup");
  const byFiles = text(runtime, "cgroup_manager") === "cgroupfs";
  const isRight = ["", "pod", "system.slice"].includes(cgroup) || (!byFiles && cgroup.endsWith(".slice"));
  if (!isRight && text(runtime, "conmon_cgroup") === "") {
    found.push({
      rule: "monitor-cgroup",
      why: `has a monitor_cgroup that it does not accept: ${cgroup}`,
      hint: byFiles ? "use pod, or leave it out" : "use pod, or the name of a systemd slice",
    });
  }
  return found;
}

/** The table that says of which type a handler is. */
function typeGiver(node: Understood, table: TomlTable): TomlTable {
  if (table["inherit_default_runtime"] !== true) return table;
  return tableAt(node.runtimes, node.defaultHandler ?? "") ?? {};
}

function text(table: TomlTable, key: string): string {
  const value = table[key];
  return typeof value === "string" ? value : "";
}
