import { basename, dirname } from "node:path/posix";
import type { Backend, EngineVersion, Problem, Site } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler, Need } from "../handler/model.ts";
import { runcType } from "../handler/resolve.ts";
import type { HostFiles, Read } from "../host/host.ts";
import type { Layout } from "../layout/layout.ts";
import type { Notes, Rendering } from "../managed/system.ts";
import { comment, inComment } from "../managed/yaml.ts";
import { readEngine, withEdits } from "../transaction/gather.ts";
import { parseHandlerFile, type ReadFile, resolveAll } from "./handler_file.ts";
import type { Io } from "./io.ts";
import type { Parsed } from "./options.ts";
import { readInput } from "./read_input.ts";

/** The handler file, with its text, where one is given. */
export async function fileOf(
  { signal }: Io,
  parsed: Parsed,
): Promise<(ReadFile & { readonly text: string }) | undefined> {
  const { file, given } = parsed.options;
  if (file === undefined) return undefined;
  const bytes = await readInput(file, given.get("file") ?? "-f", signal);
  return { ...parseHandlerFile(bytes, file), text: new TextDecoder().decode(bytes) };
}

/** The handlers of the command line and the handler file, by their names. */
export function handlersOf(parsed: Parsed, file: ReadFile | undefined): Handler[] {
  const { prefix, snapshotter } = parsed.options;
  if (parsed.args.length === 0 && file === undefined) {
    throw new ShimctlError("usage", "Cannot render, as no handler is named", {
      hint: "name handlers, or pass -f FILE; `shimctl presets` lists the handlers known",
    });
  }
  const handlers = resolveAll(file, parsed.args, { prefix, snapshotter, exists: () => false })
    .map(({ handler }) => handler)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  if (handlers.length === 0) {
    throw new ShimctlError("usage", "Cannot render, as the handler file defines no handler", {
      hint: "add a table [handlers.NAME] to it",
    });
  }
  return handlers;
}

/**
 * What the engine's own rules say of these handlers on a node with nothing but its default handler, and what
 * they need there.
 * Throws what an install there would throw for them
 */
export function understood(
  backend: Backend,
  layout: Layout,
  version: EngineVersion | undefined,
  target: Rendering["target"],
  handlers: readonly Handler[],
): { problems: Problem[]; needs: Need[] } {
  const { rootFile } = layout.places(hostWith("/", new Uint8Array()), undefined);
  const site: Site = {
    layout: layout.name,
    rootFile,
    version: version ?? (backend.name === "containerd" ? recent : undefined),
  };
  const root =
    backend.name === "containerd" ? `version = ${target.schema}\n${backend.render(runc, target) ?? ""}` : "";
  const host = hostWith(rootFile, new TextEncoder().encode(root));
  const { seen, view } = readEngine(host, backend, site);
  const after = backend.read(site, withEdits(host, backend, site, seen, view.plan("default", handlers)));
  const problems = after
    .check({ exists: () => true, isExecutable: () => true })
    .filter(({ handler }) => handlers.some(({ name }) => name === handler))
    // There is no file and no line of it yet.
    .map(({ path: _, line: __, ...problem }) => problem);
  // Which snapshotters a node has, only its own configuration says.
  const wrong = problems.find(({ severity, rule }) => severity === "error" && rule !== "snapshotter-known");
  if (wrong !== undefined)
    throw new ShimctlError(
      "invalid-config",
      wrong.message,
      wrong.hint === undefined ? {} : { hint: wrong.hint },
    );
  return { problems, needs: after.needs(handlers) };
}

const recent: EngineVersion = { major: 2, minor: 1, source: "nobody said" };

/** The default handler, which takes over what the system says of it. */
const runc: Handler = { name: "runc", containerd: { runtime_type: runcType, options: {}, like_runc: true } };

/** A machine that has this one file. */
function hostWith(path: string, bytes: Uint8Array): HostFiles {
  const file: Read = { kind: "file", path, resolved: path, bytes, mode: 0o644, uid: 0, gid: 0, nlink: 1 };
  return {
    root: "/",
    read: (asked) =>
      asked === path ? file : { kind: "absent", path: asked, resolved: asked, dangling: false },
    list: () => undefined,
    exists: (asked) => asked === path,
    isExecutable: () => false,
  };
}

/** What the operator has to know, as comments. */
export function heading(about: readonly string[], notes: Notes, needs: readonly Need[]): string {
  const needed = [...new Set(needs.map(placeOf))];
  return [
    ...about,
    "",
    notes.wiped,
    "",
    "TO APPLY",
    ...notes.apply,
    "",
    "TO TAKE IT BACK",
    ...notes.takeBack,
    "",
    "LOOK FIRST",
    ...notes.check,
    ...(needed.length === 0
      ? []
      : ["These must be on every node, or pods of the handlers fail:", ...needed.map((path) => `  ${path}`)]),
  ]
    .map(comment)
    .join("\n");
}

export function namesOf(handlers: readonly Handler[]): string {
  return handlers.map(({ name }) => name).join(", ");
}

/** Several places are those of the engine's PATH: the handler names no folder. */
function placeOf({ paths }: Need): string {
  const [first = "", ...others] = paths;
  return inComment(
    others.length === 0
      ? first
      : `${basename(first)}, where the engine's PATH leads (${dirname(first)}, ...)`,
  );
}
