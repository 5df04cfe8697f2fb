import type { Handler } from "../../handler/model.ts";
import { Handler as HandlerModel } from "../../handler/model.ts";
import type { TomlTable } from "../../toml/parse.ts";
import { type RenderValue, renderTable } from "../../toml/render.ts";
import { isTable, tableAt } from "../tables.ts";
import { criImages, criV2 } from "./schema.ts";

/** runc's options that every runc-like handler of a node shares; BinaryName and Root are its own. */
const sharedOptions = [
  "SystemdCgroup",
  "NoPivotRoot",
  "NoNewKeyring",
  "ShimCgroup",
  "IoUid",
  "IoGid",
] as const;

/**
 * Completes a handler that runs behind runc's shim with what runc's own handler has on this node: without
 * the same cgroup driver its pods would not start (containerd docs/cri/config.md; nvidia-docker#1788).
 */
export function likeRunc(handler: Handler, runc: TomlTable | undefined): Handler {
  if (handler.containerd?.like_runc !== true) return handler;
  const inherited: Record<string, string | boolean | number> = {};
  const options = tableAt(runc, "options");
  for (const key of sharedOptions) {
    const value = options?.[key];
    if (typeof value === "boolean" || (typeof value === "string" && value !== "")) inherited[key] = value;
    if (typeof value === "bigint" && value !== 0n) inherited[key] = Number(value);
  }
  const spec = runc?.["base_runtime_spec"];
  return {
    ...handler,
    ...(handler.base_runtime_spec === undefined && typeof spec === "string" && spec !== ""
      ? { base_runtime_spec: spec }
      : {}),
    containerd: {
      ...handler.containerd,
      like_runc: false,
      options: { ...inherited, ...handler.containerd.options },
    },
  };
}

type Entry = readonly [key: string, value: RenderValue];

/** A handler as the lines of its `runtimes.<name>` table, and of its `options` table. */
function entriesOf(handler: Handler): { own: Entry[]; options: Entry[] } {
  const { containerd } = handler;
  if (containerd === undefined) return { own: [], options: [] };
  const own: Entry[] = [["runtime_type", containerd.runtime_type]];
  const set = (key: string, value: RenderValue | undefined) => {
    if (value !== undefined) own.push([key, value]);
  };
  set("runtime_path", containerd.runtime_path);
  set("privileged_without_host_devices", handler.privileged_without_host_devices);
  set("pod_annotations", handler.pod_annotations);
  set("container_annotations", handler.container_annotations);
  set("snapshotter", handler.snapshotter);
  set("base_runtime_spec", handler.base_runtime_spec);
  set("cni_conf_dir", handler.cni_conf_dir);
  set(
    "cni_max_conf_num",
    handler.cni_max_conf_num === undefined ? undefined : BigInt(handler.cni_max_conf_num),
  );
  const options = Object.entries(containerd.options).map(
    ([key, value]): Entry => [key, typeof value === "number" ? BigInt(value) : value],
  );
  return { own, options };
}

/** A handler from its parsed table; `undefined` where the table holds what this release does not know. */
export function fromTable(name: string, table: TomlTable): Handler | undefined {
  const { runtime_type, runtime_path, options, cni_max_conf_num, ...rest } = table;
  const plain = (value: unknown) => (typeof value === "bigint" ? Number(value) : value);
  const parsed = HandlerModel.safeParse({
    name,
    ...rest,
    ...(cni_max_conf_num === undefined ? {} : { cni_max_conf_num: plain(cni_max_conf_num) }),
    containerd: {
      runtime_type,
      ...(runtime_path === undefined ? {} : { runtime_path }),
      options: isTable(options)
        ? Object.fromEntries(Object.entries(options).map(([key, value]) => [key, plain(value)]))
        : {},
    },
  });
  return parsed.success ? parsed.data : undefined;
}

/** The text of a block: TOML 1.0, with full headers so that it may stand anywhere in a file. */
export function blockBody(handlers: readonly Handler[], id: string): string {
  const parts = handlers.flatMap((handler) => {
    const { own, options } = entriesOf(handler);
    const path = ["plugins", id, "containerd", "runtimes", handler.name];
    return [
      renderTable(path, own),
      ...(options.length === 0 ? [] : [renderTable([...path, "options"], options)]),
      // containerd 2.0 to 2.2 pull a handler's images into the default snapshotter unless told so here.
      ...(handler.snapshotter === undefined || id === criV2
        ? []
        : [
            renderTable(
              ["plugins", criImages, "runtime_platforms", handler.name],
              [["snapshotter", handler.snapshotter]],
            ),
          ]),
    ];
  });
  return parts.join("\n");
}
