import * as z from "zod/mini";
import { ShimctlError } from "../error.ts";
import { ContainerdPart, CrioPart, Handler, OptionValue, OwnerName } from "../handler/model.ts";
import type { Preset } from "../handler/preset.ts";
import { findPreset, presets } from "../handler/presets/registry.ts";
import { type ResolveFacts, resolvePreset } from "../handler/resolve.ts";
import { decodeToml } from "../toml/decode.ts";
import { parseToml } from "../toml/parse.ts";
import { lineOf } from "../toml/scan.ts";
import { nearest, shown } from "./options.ts";

const formatNumber = 1n;

// In an override nothing is filled in: what it leaves out is the preset's.
const ContainerdOverride = z.extend(z.partial(z.omit(ContainerdPart, { options: true, like_runc: true })), {
  options: z.optional(z.record(z.string(), OptionValue)),
  like_runc: z.optional(z.boolean()),
});
const CrioOverride = z.extend(z.partial(z.omit(CrioPart, { runtime_type: true, like_default: true })), {
  runtime_type: z.optional(z.enum(["oci", "vm", "pod"])),
  like_default: z.optional(z.boolean()),
});

/** One entry of a handler file: a preset with overrides, or a handler spelled out. */
const Entry = z.extend(z.omit(Handler, { name: true, containerd: true, crio: true }), {
  prefix: z.optional(z.string()),
  containerd: z.optional(ContainerdOverride),
  crio: z.optional(CrioOverride),
});

export const HandlerFile = z.strictObject({
  format: z.literal(1),
  owner: z.optional(OwnerName),
  prefix: z.optional(z.string()),
  snapshotter: z.optional(z.string()),
  allow_missing: z.optional(z.boolean()),
  handlers: z.record(z.string(), Entry),
});

export type HandlerFile = z.infer<typeof HandlerFile>;
type Entry = z.infer<typeof Entry>;

/** Reads a handler file. Errors point at the line, and name the nearest known key. */
export function parseHandlerFile(bytes: Uint8Array, path: string): HandlerFile {
  const text = decodeToml(bytes, path);
  const table = parseToml(text, path);
  const format = table["format"];
  if (format !== formatNumber) {
    const line = lineOf(text, ["format"]);
    throw new ShimctlError(
      "usage",
      format === undefined
        ? "Cannot read this handler file, as it names no format"
        : `Cannot read this handler file, as its format is not ${formatNumber}`,
      {
        path,
        ...(line === undefined ? {} : { line }),
        hint: `write format = ${formatNumber} as its first line`,
      },
    );
  }
  const parsed = HandlerFile.safeParse(plain(table));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const keys = issue?.code === "unrecognized_keys" ? issue.keys : [];
  const at = [...(issue?.path ?? []).map(String), ...keys.slice(0, 1)];
  const line = lineOf(text, at);
  const known =
    at[0] === "handlers" && at.length > 2
      ? (at[2] === "containerd" || at[2] === "crio") && at.length > 3
        ? Object.keys(at[2] === "crio" ? CrioOverride.def.shape : ContainerdOverride.def.shape)
        : Object.keys(Entry.def.shape)
      : Object.keys(HandlerFile.def.shape);
  const unknown = keys[0];
  throw new ShimctlError(
    "usage",
    unknown === undefined
      ? complaintAbout(at, valueAt(table, at), issue?.message)
      : `Cannot read '${shown(at.join("."))}', as there is no such key`,
    {
      path,
      ...(line === undefined ? {} : { line }),
      ...(unknown === undefined ? {} : { hint: `${nearest(unknown, known)}known here: ${known.join(", ")}` }),
    },
  );
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (inner, key) => (typeof inner === "object" && inner !== null ? Reflect.get(inner, key) : undefined),
    value,
  );
}

function complaintAbout(at: readonly string[], value: unknown, message: string | undefined): string {
  const key = shown(at.join("."));
  if (value === undefined) return `Cannot read this handler file, as '${key}' is missing`;
  if (at.length === 1 && at[0] === "handlers")
    return "Cannot read 'handlers', which must be tables [handlers.NAME]";
  if (at.length === 2 && at[0] === "handlers") return `Cannot read '${key}', which must be a table [${key}]`;
  const said =
    message === undefined || !message.startsWith("must ") ? "has a value of a wrong kind" : message;
  return `Cannot read '${key}', which ${said}${typeof value === "string" ? `: ${shown(value)}` : ""}`;
}

/** TOML integers arrive as bigint; the model wants numbers. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

/** What `facts` say comes from a flag or a variable and beats the file, which beats the preset. */
export function resolveFile(file: HandlerFile, path: string, facts: ResolveFacts): Handler[] {
  return Object.entries(file.handlers).map(([name, entry]) =>
    resolveEntry(name, entry, path, {
      ...facts,
      prefix: facts.prefix ?? entry.prefix ?? file.prefix,
      snapshotter: facts.snapshotter ?? entry.snapshotter ?? file.snapshotter,
    }),
  );
}

function resolveEntry(name: string, entry: Entry, path: string, facts: ResolveFacts): Handler {
  const { preset: presetName, prefix: _, containerd, crio, ...own } = entry;
  // A name alone is the preset of that name; an entry that says how to run is spelled out.
  const spelledOut =
    presetName === undefined && (containerd?.runtime_type !== undefined || crio?.runtime_path !== undefined);
  const preset = spelledOut ? undefined : presetFor(presetName ?? name, path);
  const base = preset === undefined ? undefined : resolvePreset(preset, name, facts);
  const { snapshotter } = facts;
  const options = { ...base?.containerd?.options, ...containerd?.options };
  return validHandler(
    {
      ...base,
      ...own,
      ...(snapshotter === undefined ? {} : { snapshotter }),
      name,
      ...(base?.containerd === undefined && containerd === undefined
        ? {}
        : { containerd: { ...base?.containerd, ...containerd, options } }),
      ...(base?.crio === undefined && crio === undefined ? {} : { crio: { ...base?.crio, ...crio } }),
    },
    name,
    path,
  );
}

function validHandler(value: unknown, name: string, path: string | undefined): Handler {
  const parsed = Handler.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new ShimctlError(
    "usage",
    `Cannot use handler '${shown(name)}', whose ${issue?.path.join(".") ?? "definition"} ${issue?.message ?? "is invalid"}`,
    path === undefined ? {} : { path },
  );
}

export function presetFor(name: string, path?: string): Preset {
  const preset = findPreset(name);
  if (preset !== undefined) return preset;
  throw new ShimctlError("usage", `Cannot find a preset named '${shown(name)}'`, {
    ...(path === undefined ? {} : { path }),
    hint: `${nearest(
      name,
      presets.map((known) => known.name),
    )}\`shimctl presets\` lists them, and a handler file can define any other`,
  });
}

export function resolveNames(names: readonly string[], facts: ResolveFacts): Handler[] {
  return [...new Set(names)].map((name) =>
    validHandler(resolvePreset(presetFor(name), name, facts), name, undefined),
  );
}
