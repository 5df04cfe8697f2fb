import "../jitless.ts";
import * as z from "zod/mini";
import {
  ContainerdPart,
  CrioPart,
  Handler,
  HandlerName,
  HostPath,
  OptionName,
  OptionValue,
  OwnerName,
} from "./model.ts";

/** The number of the handler file's format; it grows when a key changes its meaning. */
export const handlerFileFormat = 1;

// In an override nothing is filled in: what it leaves out is the preset's.
const ContainerdOverride = z.lazy(() =>
  z.extend(z.partial(z.omit(ContainerdPart.def.getter(), { options: true, like_runc: true })), {
    options: z.optional(z.record(OptionName, OptionValue)),
    like_runc: z.optional(z.boolean()),
  }),
);
const CrioOverride = z.lazy(() =>
  z.extend(z.partial(z.omit(CrioPart.def.getter(), { runtime_type: true, like_default: true })), {
    runtime_type: z.optional(z.enum(["oci", "vm", "pod"])),
    like_default: z.optional(z.boolean()),
  }),
);

/** One entry of a handler file: a preset with overrides, or a handler spelled out. */
export const Entry = z.lazy(() =>
  z.extend(z.omit(Handler.def.getter(), { name: true, containerd: true, crio: true }), {
    prefix: z.optional(HostPath),
    containerd: z.optional(ContainerdOverride),
    crio: z.optional(CrioOverride),
  }),
);

/** A handler file: what `-f` reads, and what the JSON Schema in `docs/` describes. */
export const HandlerFile = z.lazy(() =>
  z.strictObject({
    format: z.literal(handlerFileFormat),
    owner: z.optional(OwnerName),
    prefix: z.optional(HostPath),
    snapshotter: z.optional(z.string()),
    allow_missing: z.optional(z.boolean()),
    handlers: z.record(HandlerName, Entry),
  }),
);

export type HandlerFile = z.infer<typeof HandlerFile>;
export type Entry = z.infer<typeof Entry>;

/** The keys that may stand where `path` leads, a key of that place included: for "did you mean". */
export function keysAt(path: readonly string[]): string[] {
  const [first, , part] = path;
  if (first !== "handlers" || path.length < 3) return Object.keys(HandlerFile.def.getter().def.shape);
  if (path.length === 3) return Object.keys(Entry.def.getter().def.shape);
  if (part === "containerd") return Object.keys(ContainerdOverride.def.getter().def.shape);
  return part === "crio" ? Object.keys(CrioOverride.def.getter().def.shape) : [];
}
