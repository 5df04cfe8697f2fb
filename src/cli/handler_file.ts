import { type ErrorFacts, ShimctlError } from "../error.ts";
import { type Asked, ask, type Basis, type Locate } from "../handler/asked.ts";
import { type Entry, HandlerFile, handlerFileFormat, keysAt } from "../handler/file.ts";
import type { Preset } from "../handler/preset.ts";
import { allPresets, findPreset } from "../handler/presets/registry.ts";
import { type ResolveFacts, resolvePreset } from "../handler/resolve.ts";
import { decodeToml } from "../toml/decode.ts";
import { factsAt } from "../toml/excerpt.ts";
import { offsetOf } from "../toml/find.ts";
import { parseToml } from "../toml/parse.ts";
import { nearest, shown } from "./options.ts";

/** A handler file, with the means to say where in it something stands. */
export interface ReadFile {
  readonly content: HandlerFile;
  readonly locate: Locate;
}

/** Reads a handler file. Errors point at line and column, and name the nearest known key. */
export function parseHandlerFile(bytes: Uint8Array, path: string): ReadFile {
  const text = decodeToml(bytes, path);
  const table = parseToml(text, path);
  const locate: Locate = (keys) => {
    const offset = offsetOf(text, keys);
    return offset === undefined ? { path } : factsAt(text, offset, path);
  };
  const format = table["format"];
  if (typeof format === "bigint" && format > handlerFileFormat) {
    throw new ShimctlError(
      "usage",
      `Cannot read this handler file, as it is written for a newer shimctl: format ${format}`,
      { ...locate(["format"]), hint: `run a release that reads format ${format} of handler files` },
    );
  }
  if (format !== BigInt(handlerFileFormat)) {
    throw new ShimctlError(
      "usage",
      format === undefined
        ? "Cannot read this handler file, as it names no format"
        : `Cannot read this handler file, as its format is not ${handlerFileFormat}`,
      { ...locate(["format"]), hint: `write format = ${handlerFileFormat} as its first line` },
    );
  }
  const parsed = HandlerFile.safeParse(plain(table));
  if (parsed.success) return { content: parsed.data, locate };
  const issue = parsed.error.issues[0];
  const keys = issue?.code === "unrecognized_keys" ? issue.keys : [];
  const at = [...(issue?.path ?? []).map(String), ...keys.slice(0, 1)];
  const unknown = keys[0];
  const known = keysAt(at);
  const name = issue?.code === "invalid_key" ? at.at(-1) : undefined;
  if (name !== undefined) {
    const rule = issue?.code === "invalid_key" ? issue.issues[0]?.message : undefined;
    throw new ShimctlError(
      "usage",
      `Cannot use '${shown(name)}' as ${at.length > 2 ? "an option's" : "a handler's"} name, which ${rule ?? "is invalid"}`,
      locate(at),
    );
  }
  throw new ShimctlError(
    "usage",
    unknown === undefined
      ? complaintAbout(at, valueAt(table, at), issue?.message)
      : `Cannot read '${shown(at.join("."))}', as there is no such key`,
    {
      ...locate(at),
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
export function resolveFile({ content, locate }: ReadFile, facts: ResolveFacts): Asked[] {
  return Object.entries(content.handlers).map(([name, entry]) =>
    resolveEntry(name, entry, locate, {
      ...facts,
      prefix: facts.prefix ?? entry.prefix ?? content.prefix,
      snapshotter: facts.snapshotter ?? entry.snapshotter ?? content.snapshotter,
    }),
  );
}

function resolveEntry(name: string, entry: Entry, locate: Locate, facts: ResolveFacts): Asked {
  const { preset, prefix: _, ...own } = entry;
  const spelledOut = preset === undefined && saysHowToRun(name, entry);
  const known = () =>
    presetFor(preset ?? name, () => locate(["handlers", name, ...(preset === undefined ? [] : ["preset"])]));
  const basis = spelledOut ? undefined : basisOf(known(), name, facts);
  return ask(name, basis, withSnapshotter(own, facts), locate);
}

/**
 * A name alone is the preset of that name; an entry that says how to run is spelled out. CRI-O can run a handler
 * without its path, so where no preset has the name, a type or a default to inherit from says enough.
 */
function saysHowToRun(name: string, { containerd, crio }: Entry): boolean {
  if (containerd?.runtime_type !== undefined || crio?.runtime_path !== undefined) return true;
  const saysEnough = crio?.runtime_type !== undefined || crio?.inherit_default_runtime === true;
  return saysEnough && findPreset(name) === undefined;
}

function basisOf(preset: Preset, name: string, facts: ResolveFacts): Basis {
  const { prefix } = facts;
  return {
    preset: preset.name,
    ...(prefix === undefined ? {} : { prefix }),
    handler: resolvePreset(preset, name, { ...facts, snapshotter: undefined }),
  };
}

/** A basis holds the preset alone: what flags say stands with what is said for this handler. */
function withSnapshotter<Own extends object>(own: Own, { snapshotter }: ResolveFacts): Own {
  return snapshotter === undefined ? own : { ...own, snapshotter };
}

/** @param where the name was written */
export function presetFor(name: string, where: () => ErrorFacts = () => ({})): Preset {
  const preset = findPreset(name);
  if (preset !== undefined) return preset;
  throw new ShimctlError("usage", `Cannot find a preset named '${shown(name)}'`, {
    ...where(),
    hint: `${nearest(
      name,
      allPresets().map((known) => known.name),
    )}\`shimctl presets\` lists them, and a handler file can define any other`,
  });
}

/** Everything that is asked for: what the file defines, and what is named, which comes first. */
export function resolveAll(
  file: ReadFile | undefined,
  names: readonly string[],
  facts: ResolveFacts,
): Asked[] {
  const named = resolveNames(names, facts);
  const taken = new Set(named.map(({ handler }) => handler.name));
  const fromFile = file === undefined ? [] : resolveFile(file, facts);
  return [...fromFile.filter(({ handler }) => !taken.has(handler.name)), ...named];
}

function resolveNames(names: readonly string[], facts: ResolveFacts): Asked[] {
  return [...new Set(names)].map((name) =>
    ask(name, basisOf(presetFor(name), name, facts), withSnapshotter({}, facts)),
  );
}
