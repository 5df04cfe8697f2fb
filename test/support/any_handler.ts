import fc from "fast-check";
import type { ContainerdPart, CrioPart, Handler } from "../../src/handler/model.ts";

/** One arbitrary for each key: the compiler says when the model has one more. */
type Each<T> = { readonly [Key in keyof T]-?: fc.Arbitrary<Exclude<T[Key], undefined>> };

/** Words that file formats like to trip over, and any others. */
const text = fc.oneof(
  fc.constantFrom(
    "",
    '"',
    "\\",
    "'",
    "#",
    "=",
    "[x]",
    "a b",
    "${HOME}",
    "{{ . }}",
    "\t",
    "\r\n",
    "ü",
    "日本",
    "🐳",
  ),
  fc.string({ unit: "grapheme", maxLength: 12 }),
  fc.string({ unit: "binary", maxLength: 6 }),
);
const path = text.map((tail) => `/${tail.replaceAll(/[\0\n]/g, "")}`);
const list = fc.array(text, { maxLength: 3 });
/** zod leaves out `__proto__`, which JavaScript would take for something else. */
const key = fc
  .oneof(fc.constantFrom("BinaryName", "a.b", "constructor", "1"), text)
  .filter((name) => name !== "__proto__");
/** No handler may have a double quote in an option's name. */
const option = key.map((name) => name.replaceAll('"', "'"));

export const anyName = fc.oneof(
  fc.constantFrom("a", "0", "1", "a.b", "a.b-c.0", "constructor", "true", "nan", "runtimes", "options"),
  fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?$/),
);

export const containerdKeys: Each<ContainerdPart> = {
  runtime_type: fc.oneof(
    path.filter((name) => name.length > 1),
    fc.stringMatching(/^[A-Za-z0-9_-]{1,8}(\.[A-Za-z0-9_-]{1,8}){1,4}$/),
  ),
  runtime_path: path,
  options: fc.dictionary(option, fc.oneof(text, fc.boolean(), fc.maxSafeInteger(), list), {
    maxKeys: 4,
    noNullPrototype: true,
  }),
  like_runc: fc.boolean(),
};

export const crioKeys: Each<CrioPart> = {
  runtime_path: path,
  runtime_type: fc.constantFrom("oci", "vm", "pod"),
  runtime_root: path,
  runtime_config_path: path,
  allowed_annotations: list,
  monitor_path: path,
  monitor_cgroup: text,
  monitor_env: list,
  monitor_exec_cgroup: text,
  platform_runtime_paths: fc.dictionary(key, path, { maxKeys: 3, noNullPrototype: true }),
  runtime_pull_image: fc.boolean(),
  container_min_memory: text,
  no_sync_log: fc.boolean(),
  inherit_default_runtime: fc.boolean(),
  default_annotations: fc.dictionary(key, text, { maxKeys: 3, noNullPrototype: true }),
  stream_websockets: fc.boolean(),
  exec_cpu_affinity: fc.constantFrom("", "first"),
  seccomp_profile: path,
  container_create_timeout: fc.maxSafeInteger(),
  like_default: fc.boolean(),
};

export const handlerKeys: Each<Omit<Handler, "name" | "preset" | "containerd" | "crio">> = {
  snapshotter: fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/),
  pod_annotations: list,
  container_annotations: list,
  privileged_without_host_devices: fc.boolean(),
  base_runtime_spec: path,
  cni_conf_dir: path,
  cni_max_conf_num: fc.maxSafeInteger(),
  requires: fc.array(fc.stringMatching(/^[a-z-]{1,8}$/), { maxLength: 2 }),
};

/** Any handler that the model takes, with a part for each engine; none is made from a preset. */
export const anyHandler: fc.Arbitrary<Handler> = fc
  .record({
    name: anyName,
    own: fc.record(handlerKeys, { requiredKeys: [] }),
    containerd: fc.record(containerdKeys, { requiredKeys: ["runtime_type", "options", "like_runc"] }),
    crio: fc.record(crioKeys, { requiredKeys: ["runtime_type", "like_default"] }),
  })
  .map(({ name, own, containerd, crio }) => ({ name, ...own, containerd, crio }));

export function withDifferentNames(
  handlers: fc.Arbitrary<Handler>,
  most: number,
  least = 0,
): fc.Arbitrary<Handler[]> {
  return fc.uniqueArray(handlers, {
    minLength: least,
    maxLength: most,
    selector: ({ name }) => name,
    size: "max",
  });
}
