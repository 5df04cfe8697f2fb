import { stringify } from "smol-toml";
import type { EngineName } from "../../src/engine/backend.ts";
import type { Handler } from "../../src/handler/model.ts";

/** What a node's own handler hands on to those that are like it. */
export interface Inherited {
  readonly SystemdCgroup?: boolean;
  readonly base_runtime_spec?: string;
  readonly monitor_path?: string;
}

/** What an engine's files hold of a handler: nothing of other engines, and nothing that decides before it is written. */
export function written(engine: EngineName, handler: Handler, from: Inherited = {}): Handler {
  const {
    name,
    privileged_without_host_devices,
    preset: _,
    requires: __,
    containerd,
    crio,
    ...own
  } = handler;
  const flag = privileged_without_host_devices === undefined ? {} : { privileged_without_host_devices };
  if (engine === "crio") {
    const { monitor_path } = from;
    const monitor = crio?.like_default === true && monitor_path !== undefined ? { monitor_path } : {};
    return { name, ...flag, ...(crio && { crio: { ...monitor, ...crio, like_default: false } }) };
  }
  const { SystemdCgroup, base_runtime_spec } = containerd?.like_runc === true ? from : {};
  const driver = SystemdCgroup === undefined ? {} : { SystemdCgroup };
  return {
    name,
    ...(base_runtime_spec === undefined ? {} : { base_runtime_spec }),
    ...flag,
    ...own,
    ...(containerd && {
      containerd: { ...containerd, like_runc: false, options: { ...driver, ...containerd.options } },
    }),
  };
}

/** A handler file that spells these out. */
export function handlerFileOf(
  handlers: readonly Handler[],
  more: Readonly<Record<string, unknown>> = {},
): string {
  const entries = handlers.map(({ name, ...entry }) => [name, entry] as const);
  return stringify({ format: 1, ...more, handlers: Object.fromEntries(entries) });
}
