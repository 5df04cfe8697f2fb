import type { CrioPart, Handler } from "../../handler/model.ts";
import { Handler as HandlerModel } from "../../handler/model.ts";
import type { TomlTable } from "../../toml/parse.ts";
import { type RenderValue, renderTable } from "../../toml/render.ts";
import { maskAfterSecretName, maskUrlCredentials } from "../../toml/secret.ts";
import { isTable } from "../tables.ts";

type Entry = readonly [key: string, value: RenderValue];

/** Keys whose value is a table of strings; each becomes a table of its own below the handler's. */
const maps = ["platform_runtime_paths", "default_annotations"] as const;

/** The text of a block: TOML 1.0, whole tables, as CRI-O replaces a table that a later file repeats. */
export function blockBody(handlers: readonly Handler[]): string {
  return handlers
    .flatMap((handler) => {
      const path = ["crio", "runtime", "runtimes", handler.name];
      const { own, tables } = entriesOf(handler);
      return [
        renderTable(path, own),
        ...tables.map(([key, entries]) => renderTable([...path, key], entries)),
      ];
    })
    .join("\n");
}

function entriesOf(handler: Handler): { own: Entry[]; tables: [string, Entry[]][] } {
  const { crio } = handler;
  if (crio === undefined) return { own: [], tables: [] };
  const {
    like_default: _,
    platform_runtime_paths,
    default_annotations,
    container_create_timeout,
    ...plain
  } = crio;
  const own: Entry[] = Object.entries(plain).flatMap(([key, value]): Entry[] =>
    value === undefined ? [] : [[key, value]],
  );
  if (handler.privileged_without_host_devices !== undefined)
    own.push(["privileged_without_host_devices", handler.privileged_without_host_devices]);
  if (container_create_timeout !== undefined)
    own.push(["container_create_timeout", BigInt(container_create_timeout)]);
  own.sort(([a], [b]) => order(a) - order(b));
  const tables = maps.flatMap((key): [string, Entry[]][] => {
    const map = { platform_runtime_paths, default_annotations }[key];
    return map === undefined ? [] : [[key, Object.entries(map)]];
  });
  return { own, tables };
}

/** What a reader looks for first stands first. */
function order(key: string): number {
  const first = [
    "runtime_path",
    "runtime_type",
    "runtime_root",
    "runtime_config_path",
    "privileged_without_host_devices",
  ];
  const index = first.indexOf(key);
  return index < 0 ? first.length : index;
}

/** A handler from its parsed table; `undefined` where the table holds what this release does not know. */
export function fromTable(name: string, table: TomlTable): Handler | undefined {
  const { privileged_without_host_devices, ...rest } = table;
  const crio = Object.fromEntries(
    Object.entries(rest).map(([key, value]) => [
      key,
      typeof value === "bigint" ? Number(value) : isTable(value) ? { ...value } : value,
    ]),
  );
  const parsed = HandlerModel.safeParse({
    name,
    ...(privileged_without_host_devices === undefined ? {} : { privileged_without_host_devices }),
    crio,
  });
  return parsed.success ? parsed.data : undefined;
}

/** How the default runtime of a node is monitored: a handler of runc's kind needs the same monitor. */
const monitorKeys = ["monitor_path", "monitor_cgroup", "monitor_env", "monitor_exec_cgroup"] as const;

/** A monitor needs its PATH; a secret of somebody else's is not copied into our files, record and journal. */
function isPlainVariable(entry: unknown): entry is string {
  return (
    typeof entry === "string" && maskAfterSecretName(entry) === entry && maskUrlCredentials(entry) === entry
  );
}

/** Completes a runc-like handler with the monitor of the node's default runtime. */
export function likeDefault(handler: Handler, base: TomlTable | undefined): Handler {
  const { crio } = handler;
  if (crio?.like_default !== true) return handler;
  const inherited: Partial<CrioPart> = {};
  for (const key of monitorKeys) {
    const value = base?.[key];
    if (key === "monitor_env") {
      if (Array.isArray(value)) inherited[key] = value.filter(isPlainVariable);
    } else if (typeof value === "string" && value !== "") inherited[key] = value;
  }
  // conmon-rs monitors whole pods; conmon's own type would start it with arguments that it does not know.
  if (base?.["runtime_type"] === "pod" && crio.runtime_type === "oci") inherited.runtime_type = "pod";
  const { runtime_type, ...own } = crio;
  return { ...handler, crio: { runtime_type, ...inherited, ...own, like_default: false } };
}
