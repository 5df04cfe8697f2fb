import "../jitless.ts";
import * as z from "zod/mini";
import { type ErrorFacts, ShimctlError } from "../error.ts";
import { isSame } from "../same.ts";
import type { Entry } from "./file.ts";
import { Handler } from "./model.ts";

/** A preset as it resolved when its handler was installed; a later release or host does not change it. */
export const Basis = z.lazy(() =>
  z.strictObject({
    preset: z.string(),
    /** `--prefix`, where one was given. */
    prefix: z.optional(z.string()),
    handler: Handler,
  }),
);

export type Basis = z.infer<typeof Basis>;

/** What is said for one handler besides the preset it is made from. */
export type Override = Omit<Entry, "preset" | "prefix">;

/** A handler as somebody asks for it. */
export interface Asked {
  /** As it resolves today. */
  readonly handler: Handler;
  /** Absent for one that is spelled out. */
  readonly basis?: Basis;
  readonly override?: Override;
}

/** A handler that is wanted exactly so. */
export function exactly(handler: Handler): Asked {
  return { handler };
}

/** Where in a handler file something stands, for errors: by its keys, `handlers` first. */
export type Locate = (keys: readonly string[]) => ErrorFacts;

/** @throws ShimctlError `usage` where the result is no handler */
export function ask(name: string, basis: Basis | undefined, override: Override, locate?: Locate): Asked {
  // A preset as it stands is a handler: a test sees to it for all of them.
  const asItStands = basis?.prefix === undefined && Object.keys(override).length === 0;
  const handler =
    basis !== undefined && asItStands && basis.handler.name === name
      ? basis.handler
      : validHandler(combine(name, basis?.handler, override), name, locate);
  return basis === undefined ? { handler, override } : { handler, basis, override };
}

/** How `asked` would be if its preset were still what it was in `recorded`; `undefined` where that is another one. */
export function asRecorded(asked: Asked, recorded: Basis | undefined): Asked | undefined {
  const { handler, basis, override = {} } = asked;
  if (basis === undefined || recorded === undefined) return undefined;
  if (basis.preset !== recorded.preset || basis.prefix !== recorded.prefix) return undefined;
  if (isSame(basis, recorded)) return asked;
  return ask(handler.name, recorded, override);
}

/** Parts are merged key by key, options as well; every other value that is said replaces the preset's. */
function combine(name: string, base: Handler | undefined, override: Override): unknown {
  const { containerd, crio, ...own } = override;
  const options = { ...base?.containerd?.options, ...containerd?.options };
  return {
    ...base,
    ...own,
    name,
    ...(base?.containerd === undefined && containerd === undefined
      ? {}
      : { containerd: { ...base?.containerd, ...containerd, options } }),
    ...(base?.crio === undefined && crio === undefined ? {} : { crio: { ...base?.crio, ...crio } }),
  };
}

function validHandler(value: unknown, name: string, locate: Locate = () => ({})): Handler {
  const parsed = Handler.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const keys = issue?.path.map(String) ?? [];
  const what = keys.length === 0 ? "definition" : keys.join(".");
  throw new ShimctlError(
    "usage",
    `Cannot use handler '${name}', whose ${what} ${issue?.message ?? "is invalid"}`,
    locate(["handlers", name, ...(keys[0] === "name" ? [] : keys)]),
  );
}

/** What presets were when their handlers were installed, by handler. */
export type Bases = Readonly<Record<string, Basis>>;
