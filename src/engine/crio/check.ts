import { lineOf } from "../../toml/find.ts";
import type { TomlTable } from "../../toml/parse.ts";
import type { HostFacts, Problem } from "../backend.ts";
import { isTable, tableAt } from "../tables.ts";
import { annotationSince } from "./annotations.ts";
import { type Loaded, runtimesIn } from "./load.ts";
import { monitorProblems } from "./monitor.ts";
import type { Understood } from "./understand.ts";

/** Since which minor release of 1.x CRI-O reads a key (config-semantics.md 3.2); older ones ignore it silently. */
const keySince: Readonly<Record<string, number>> = {
  platform_runtime_paths: 28,
  runtime_pull_image: 29,
  container_min_memory: 30,
  no_sync_log: 31,
  inherit_default_runtime: 32,
  default_annotations: 32,
  stream_websockets: 34,
  exec_cpu_affinity: 34,
  seccomp_profile: 34,
  container_create_timeout: 35,
};

/** CRI-O's own rules (pkg/config, RuntimeHandler.Validate): what stops it, and what makes it ignore a handler. */
export function check(node: Understood, facts: HostFacts): Problem[] {
  const placed = Object.keys(node.runtimes).map((name): Placed => {
    // The last that says anything of it, a table or not.
    const file = node.loaded.findLast((each) => Object.hasOwn(runtimesIn(each.table) ?? {}, name));
    return { name, file, ours: file?.blocks.some((block) => block.names.has(name)) ?? false };
  });
  const theirMonitors = new Set(
    placed.filter(({ ours }) => !ours).map(({ name }) => tableAt(node.runtimes, name)?.["monitor_path"]),
  );
  return [
    ...folder(node),
    ...shape(node),
    ...defaults(node),
    ...placed.flatMap((one) => handler(node, one, theirMonitors, facts)),
  ];
}

function folder(node: Understood): Problem[] {
  return node.fatal.map(({ path, why }) => ({
    severity: "error",
    rule: "drop-in-folder",
    message: `CRI-O does not start on this entry, as ${why}`,
    path,
    hint: "remove it, or put a regular file in its place",
  }));
}

/** The keys on the way to what we write; CRI-O's parser looks at the types of all others too. */
function shape(node: Understood): Problem[] {
  // Where it expects a map, as in `runtimes`, it passes over anything else (BurntSushi/toml: unifyMap).
  const tables = [["crio"], ["crio", "runtime"]];
  return node.loaded.flatMap((file) => {
    const valueAt = (key: readonly string[]) =>
      (key.length === 1 ? file.table : tableAt(file.table, ...key.slice(0, -1)))?.[key.at(-1) ?? ""];
    const isWrong = (key: readonly string[], right: (value: unknown) => boolean) => {
      const value = valueAt(key);
      return value !== undefined && !right(value);
    };
    const name = ["crio", "runtime", "default_runtime"];
    const wrong = [
      ...tables.filter((key) => isWrong(key, isTable)),
      ...(isWrong(name, (value) => typeof value === "string") ? [name] : []),
    ];
    return wrong.map(
      (key): Problem => ({
        severity: "error",
        rule: "type",
        message: `CRI-O does not start with this file, as '${key.join(".")}' has a wrong type`,
        ...placeIn(file, key),
      }),
    );
  });
}

function placeIn(file: Loaded, key: readonly string[]): { path: string; line?: number } {
  const line = lineOf(file.text, [...key]);
  return { path: file.path, ...(line === undefined ? {} : { line }) };
}

function defaults(node: Understood): Problem[] {
  const { defaultHandler, defaultFile, runtimes, version } = node;
  if (defaultHandler === undefined || isTable(runtimes[defaultHandler])) return [];
  const builtin = version?.minor === undefined ? ["crun", "runc"] : [builtinFor(version.minor)];
  if (builtin.includes(defaultHandler)) return [];
  return [
    {
      severity: "error",
      rule: "default-handler-defined",
      message: `CRI-O does not start while its default runtime '${defaultHandler}' is not defined`,
      ...(defaultFile === undefined ? {} : placeIn(defaultFile, ["crio", "runtime", "default_runtime"])),
      hint: `define handler '${defaultHandler}', or set default_runtime to one that is defined`,
    },
  ];
}

/** The one handler that a release has built in. */
export function builtinFor(minor: number): string {
  return minor >= 31 ? "crun" : "runc";
}

/** A handler with the file that wins for it. */
interface Placed {
  readonly name: string;
  readonly file: Loaded | undefined;
  readonly ours: boolean;
}

function handler(
  node: Understood,
  { name, file, ours }: Placed,
  theirMonitors: ReadonlySet<unknown>,
  facts: HostFacts,
): Problem[] {
  const isDefault = name === node.defaultHandler;
  const place = {
    handler: name,
    ...(file === undefined ? {} : placeIn(file, ["crio", "runtime", "runtimes", name])),
  };
  const warn = (rule: string, message: string, hint?: string): Problem => ({
    severity: "warning",
    rule,
    message,
    ...place,
    ...(hint === undefined ? {} : { hint }),
  });
  // An invalid handler is ignored with a warning in CRI-O's log; an invalid default one stops it.
  const invalid = (rule: string, why: string, hint?: string): Problem => ({
    ...warn(
      rule,
      isDefault
        ? `CRI-O does not start, as its default runtime '${name}' ${why}`
        : `CRI-O ignores handler '${name}', as it ${why}`,
      hint,
    ),
    severity: ours || isDefault ? "error" : "warning",
  });
  const wrong = (key: string): Problem => ({
    ...warn("type", `CRI-O does not start with this file, as '${key}' of handler '${name}' has a wrong type`),
    severity: "error",
  });

  const table = node.runtimes[name];
  if (!isTable(table)) return [wrong(name)];
  const replaced =
    ours && node.version?.minor !== undefined && name === builtinFor(node.version.minor)
      ? [
          warn(
            "replaces-built-in",
            `This replaces the whole table of '${name}', which CRI-O has built in as its default`,
          ),
        ]
      : [];
  const bad = wrongType(table);
  if (bad !== undefined) return [wrong(bad)];
  const text = (key: string) => (typeof table[key] === "string" ? table[key] : "");
  const type = text("runtime_type");
  const found: Problem[] = [...replaced];
  if (!["", "oci", "vm", "pod"].includes(type))
    found.push(invalid("runtime-type", `has an unknown runtime_type: ${type}`, "use oci, vm or pod"));
  const path = text("runtime_path");
  const pattern = recentVmNames(node)
    ? /^containerd-shim-[a-zA-Z0-9\-+]+$/
    : /containerd-shim-([a-zA-Z0-9\-+])+-v2/;
  const binary = path.slice(path.lastIndexOf("/") + 1);
  if (type === "vm" && !pattern.test(binary)) {
    const problem = invalid(
      "vm-binary-name",
      `is of type vm and its binary is not named containerd-shim-NAME-v2: ${binary}`,
      "CRI-O before 1.37 accepts that name only",
    );
    found.push(
      node.version?.minor === undefined && /^containerd-shim-/.test(binary)
        ? { ...problem, severity: "warning" }
        : problem,
    );
  }
  if (text("runtime_config_path") !== "" && type !== "vm")
    found.push(invalid("runtime-config-path", "has a runtime_config_path, which only type vm may have"));
  if (!ours && path.startsWith("/") && !facts.exists(path))
    found.push({
      ...invalid("runtime-path", `has a runtime_path that is not there: ${path}`),
      severity: "warning",
    });
  const annotations = Array.isArray(table["allowed_annotations"]) ? table["allowed_annotations"] : [];
  for (const annotation of annotations) {
    const since = annotationSince(String(annotation));
    if (since === undefined)
      found.push(
        invalid("allowed-annotation", `allows an annotation that CRI-O does not know: ${String(annotation)}`),
      );
    else if (node.version?.minor !== undefined && node.version.minor < since) {
      found.push(
        invalid(
          "allowed-annotation",
          `allows an annotation that CRI-O knows from 1.${since} on: ${String(annotation)}`,
        ),
      );
    }
  }
  for (const { rule, why, hint } of monitorProblems(node, table, facts)) {
    const problem = warn(rule, `CRI-O does not start, as handler '${name}' ${why}`, hint);
    // Where the administrator's own handler has the same monitor, ours changes nothing.
    const isOurs = rule === "monitor-cgroup" || (ours && !theirMonitors.has(table["monitor_path"]));
    found.push(isOurs ? { ...problem, severity: "error" } : problem);
  }
  if (table["no_sync_log"] === true && type !== "" && type !== "oci")
    found.push(invalid("no-sync-log", "has no_sync_log, which only type oci may have"));
  if (table["stream_websockets"] === true && type !== "pod")
    found.push(invalid("stream-websockets", "has stream_websockets, which only type pod may have"));
  const timeout = table["container_create_timeout"];
  if (typeof timeout === "bigint" && timeout < 30n)
    found.push(
      warn(
        "container-create-timeout",
        `CRI-O waits 30 s at least for handler '${name}', whatever container_create_timeout says`,
      ),
    );
  for (const key of Object.keys(table)) {
    const since = keySince[key];
    if (ours && since !== undefined && node.version?.minor !== undefined && node.version.minor < since) {
      found.push(
        warn("key-since", `CRI-O ignores '${key}' of handler '${name}', which it knows from 1.${since} on`),
      );
    }
  }
  return found;
}

function recentVmNames(node: Understood): boolean {
  return node.version?.minor !== undefined && node.version.minor >= 37;
}

const strings = [
  "runtime_path",
  "runtime_type",
  "runtime_root",
  "runtime_config_path",
  "monitor_path",
  "monitor_cgroup",
  "monitor_exec_cgroup",
  "container_min_memory",
  "exec_cpu_affinity",
  "seccomp_profile",
];
const flags = [
  "privileged_without_host_devices",
  "runtime_pull_image",
  "no_sync_log",
  "inherit_default_runtime",
  "stream_websockets",
];
const lists = ["allowed_annotations", "monitor_env"];
/** Where it expects a map, it passes over what is no table. */
const maps = ["platform_runtime_paths", "default_annotations"];

/** The first key that CRI-O's parser would refuse; it ends CRI-O, whichever handler it is in. */
function wrongType(table: TomlTable): string | undefined {
  const is = (keys: readonly string[], right: (value: unknown) => boolean) =>
    keys.find((key) => table[key] !== undefined && !right(table[key]));
  return (
    is(strings, (value) => typeof value === "string") ??
    is(flags, (value) => typeof value === "boolean") ??
    is(lists, (value) => Array.isArray(value) && value.every((entry) => typeof entry === "string")) ??
    is(
      maps,
      (value) => !isTable(value) || Object.values(value).every((entry) => typeof entry === "string"),
    ) ??
    is(["container_create_timeout"], (value) => typeof value === "bigint")
  );
}
