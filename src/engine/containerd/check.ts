import { runcType } from "../../handler/resolve.ts";
import { lineOf } from "../../toml/find.ts";
import type { HostFacts, Problem } from "../backend.ts";
import { tableAt } from "../tables.ts";
import { handlerLine, sharedOwner } from "./load.ts";
import { refusedAtStart } from "./managed.ts";
import { renderedTwice } from "./rendered.ts";
import { builtinSnapshotters, ioTypes, isPlaceholder, RuntimeTable } from "./rules.ts";
import { builtinHandler, criImages, criV2, criV3, mergesTables, runtimesAt } from "./schema.ts";
import { defaultHandler, valuesOf } from "./understand.ts";
import type { Understood } from "./understood.ts";

/** containerd's own rules on the merged configuration: what would stop the daemon, its CRI plugin, or a pod. */
export function check(node: Understood, facts: HostFacts): Problem[] {
  return [
    ...refusal(node),
    ...imports(node),
    ...defaults(node),
    ...handlers(node, facts),
    ...registry(node),
    ...ignored(node),
    ...templates(node),
    ...rendered(node),
    ...refusedAtStart(node.site, node.loaded),
  ];
}

/** Such a node may work; nothing of ours is added to it. */
function refusal(node: Understood): Problem[] {
  if (node.refusal === undefined) return [];
  const { message, code, facts } = node.refusal;
  const { path, line, hint } = facts;
  return [
    {
      severity: code === "invalid-config" ? "error" : "warning",
      rule: "not-supported",
      message,
      ...(path === undefined ? {} : { path }),
      ...(line === undefined ? {} : { line }),
      ...(hint === undefined ? {} : { hint }),
    },
  ];
}

function imports(node: Understood): Problem[] {
  return node.missing.map(({ path, from, read }) => ({
    severity: "error",
    rule: "import-must-exist",
    message:
      read.kind === "absent"
        ? `containerd does not start while it imports a file that is not there: ${path}`
        : `containerd does not start while it imports what it cannot read as a file: ${path}`,
    path: from,
    hint: "create the file, or take the entry out of imports: `shimctl repair` shows how",
  }));
}

function defaults(node: Understood): Problem[] {
  const name = defaultHandler(node.effective, node.id);
  const runtimes = runtimesAt(node.effective, node.id);
  if (isPlaceholder(name)) {
    const values = valuesOf(node.site)[/^\$\{(\w+)\}$/.exec(name)?.[1] ?? ""] ?? [];
    if (values.length > 0 && values.every((value) => tableAt(runtimes, value) !== undefined)) return [];
    return [
      {
        severity: "warning",
        rule: "template-variable",
        message: `default_runtime_name is filled in later, so it could not be checked: ${name}`,
        path: node.site.rootFile,
      },
    ];
  }
  const builtin = name === builtinHandler && (mergesTables(node.version) || runtimes === undefined);
  if (builtin || tableAt(runtimes, name) !== undefined) return [];
  return [
    {
      severity: "error",
      rule: "default-handler-defined",
      message: `containerd does not load its CRI plugin while the default handler '${name}' is not defined`,
      path: node.winner.path,
      hint: `define handler '${name}', or set default_runtime_name to one that is defined`,
    },
  ];
}

function handlers(node: Understood, facts: HostFacts): Problem[] {
  const runtimes = runtimesAt(node.effective, node.id) ?? {};
  const runcCgroup = tableAt(runtimes, builtinHandler, "options")?.["SystemdCgroup"] === true;
  return Object.keys(runtimes).flatMap((name) => {
    const file = node.loaded.findLast(
      (candidate) => tableAt(runtimesAt(candidate.merged, node.id), name) !== undefined,
    );
    const ours = file?.blocks.some((block) => block.owner !== sharedOwner && block.names.has(name)) ?? false;
    const problem = (
      severity: Problem["severity"],
      rule: string,
      message: string,
      hint?: string,
    ): Problem => {
      const line = file === undefined ? undefined : handlerLine(file, name);
      return {
        severity,
        rule,
        message,
        handler: name,
        ...(file === undefined ? {} : { path: file.path }),
        ...(line === undefined ? {} : { line }),
        ...(hint === undefined ? {} : { hint }),
      };
    };
    const parsed = RuntimeTable.safeParse(runtimes[name]);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      return [
        problem(
          "error",
          "type",
          `containerd does not start with this handler, as '${issue?.path.join(".") || name}' has a wrong type: ${issue?.message ?? "not a table"}`,
        ),
      ];
    }
    const table = parsed.data;
    const type =
      table.runtime_type ?? (name === builtinHandler && mergesTables(node.version) ? runcType : "");
    const found: Problem[] = [];
    const strict: Problem["severity"] = ours ? "error" : "warning";
    if (type === "")
      found.push(
        problem(strict, "runtime-type", `Pods of handler '${name}' fail, as it has no runtime_type`),
      );
    if (
      table.options?.["BinaryName"] !== undefined &&
      type !== runcType &&
      type !== "io.containerd.runc.v1" &&
      !isPlaceholder(type)
    ) {
      found.push(
        problem(
          strict,
          "binary-name",
          `BinaryName has no meaning for handler '${name}', as only ${runcType} reads it`,
        ),
      );
    }
    if (
      table.privileged_without_host_devices_all_devices_allowed === true &&
      table.privileged_without_host_devices !== true
    ) {
      found.push(
        problem(
          "error",
          "all-devices",
          `containerd does not load its CRI plugin: handler '${name}' sets privileged_without_host_devices_all_devices_allowed without privileged_without_host_devices`,
        ),
      );
    }
    if (
      !mergesTables(node.version) &&
      type === runcType &&
      ((table.runtime_engine ?? "") !== "" || (table.runtime_root ?? "") !== "")
    ) {
      found.push(
        problem(
          "error",
          "runtime-engine",
          `containerd 1.x does not load its CRI plugin: handler '${name}' sets runtime_engine or runtime_root with ${runcType}`,
        ),
      );
    }
    if (mergesTables(node.version) && !ioTypes.has(table.io_type ?? "")) {
      found.push(
        problem(
          "error",
          "io-type",
          `containerd does not load its CRI plugin: handler '${name}' has an unknown io_type`,
          "use fifo or streaming",
        ),
      );
    }
    if (
      type === runcType &&
      name !== builtinHandler &&
      (table.options?.["SystemdCgroup"] === true) !== runcCgroup
    ) {
      found.push(
        problem(
          "warning",
          "systemd-cgroup",
          `Handler '${name}' and '${builtinHandler}' differ in SystemdCgroup; all runc-like handlers of a node should agree`,
        ),
      );
    }
    found.push(...snapshotter(node, table, problem, strict));
    const spec = table.base_runtime_spec;
    if (spec !== undefined && spec !== "" && !isPlaceholder(spec) && !facts.exists(spec)) {
      found.push(
        problem(
          "warning",
          "base-runtime-spec",
          `containerd does not load its CRI plugin while base_runtime_spec of handler '${name}' is not there: ${spec}`,
        ),
      );
    }
    return found;
  });
}

function snapshotter(
  node: Understood,
  table: RuntimeTable,
  problem: (severity: Problem["severity"], rule: string, message: string, hint?: string) => Problem,
  strict: Problem["severity"],
): Problem[] {
  const name = table.snapshotter;
  if (name === undefined || name === "" || isPlaceholder(name)) return [];
  if (node.version.major === 1 && node.version.minor !== undefined && node.version.minor < 7) {
    const ofNode = tableAt(node.effective, "plugins", criV2, "containerd")?.["snapshotter"];
    if (ofNode === name) return [];
    return [
      problem(
        strict,
        "snapshotter-per-handler",
        `containerd before 1.7 ignores a handler's own snapshotter: ${name}`,
        "upgrade containerd, or make it the snapshotter of all handlers; if --snapshotter asked for it, leave that out",
      ),
    ];
  }
  if (mergesTables(node.version) && node.id === criV2 && (node.version.minor ?? 0) < 3) {
    return [
      problem(
        "warning",
        "snapshotter-images",
        `containerd 2.0 to 2.2 pull the images of this handler into the default snapshotter, as a version 2 file cannot tell them of ${name}`,
        "migrate the configuration to version 3: containerd config migrate",
      ),
    ];
  }
  const proxies = node.loaded.flatMap((file) => Object.keys(tableAt(file.table, "proxy_plugins") ?? {}));
  if (builtinSnapshotters.has(name) || proxies.includes(name)) return [];
  return [
    problem(
      strict,
      "snapshotter-known",
      `Pods fail, as containerd has no snapshotter of this name: ${name}`,
      `configure it as [proxy_plugins.${name}] first`,
    ),
  ];
}

/** containerd refuses both ways to configure registries at once. */
function registry(node: Understood): Problem[] {
  const id = mergesTables(node.version) && node.id === criV3 ? criImages : criV2;
  const table = tableAt(node.effective, "plugins", id, "registry");
  const path = table?.["config_path"];
  if (typeof path !== "string" || path === "" || Object.keys(tableAt(table, "mirrors") ?? {}).length === 0)
    return [];
  return [
    {
      severity: "error",
      rule: "registry-mirrors",
      message: "containerd does not load its CRI plugin while registry has both config_path and mirrors",
      path: node.winner.path,
      hint: "move the mirrors into the folder that config_path names",
    },
  ];
}

/** Handlers under the plugin id that this engine does not look at. */
function ignored(node: Understood): Problem[] {
  const other = node.id === criV3 ? criV2 : criV3;
  return node.loaded
    .filter((file) => runtimesAt(file.merged, other) !== undefined)
    .map((file) => {
      const line = lineOf(file.text, ["plugins", other, "containerd", "runtimes"]);
      return {
        severity: "warning",
        rule: "ignored-plugin-id",
        message: `This engine ignores the handlers under plugins."${other}": ${Object.keys(runtimesAt(file.merged, other) ?? {}).join(", ")}`,
        path: file.path,
        ...(line === undefined ? {} : { line }),
        hint: `move them under plugins."${node.id}"`,
      };
    });
}

function rendered({ rendering, loaded: [root] }: Understood): Problem[] {
  return rendering === undefined || root === undefined ? [] : renderedTwice(rendering, root);
}

function templates(node: Understood): Problem[] {
  return node.loaded
    .filter((file) => file.givesWay)
    .map((file) => ({
      severity: "error",
      rule: "shared-piece-doubled",
      message:
        "containerd does not start, as a line of ours now stands beside the administrator's own; it goes with the next install, apply or uninstall",
      path: file.path,
    }));
}
