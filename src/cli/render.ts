import { basename, dirname } from "node:path/posix";
import type { Backend, EngineVersion, Problem, Site } from "../engine/backend.ts";
import { backends } from "../engine/registry.ts";
import { ShimctlError } from "../error.ts";
import type { Handler, Need } from "../handler/model.ts";
import { runcType } from "../handler/resolve.ts";
import type { HostFiles, Read } from "../host/host.ts";
import { parseVersion, supported } from "../layout/detect.ts";
import type { Layout } from "../layout/layout.ts";
import { layouts } from "../layout/registry.ts";
import { documentNames, managedSystems } from "../managed/registry.ts";
import { runtimeClasses, runtimeClassName, runtimeClassNotes } from "../managed/runtime_class.ts";
import type { ManagedSystem, Notes, Rendering } from "../managed/system.ts";
import { comment, inComment, printable } from "../managed/yaml.ts";
import { readEngine, withEdits } from "../transaction/gather.ts";
import { handlerFile } from "./change.ts";
import { resolveAll } from "./handler_file.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import { nearest, type Options, type Parsed, shown } from "./options.ts";
import { document, problemEntry, problemText } from "./output.ts";

/**
 * `render --for KIND HANDLER...`: a document that defines handlers where edits do not last, or the classes by which
 * pods ask for them. Reads no node.
 */
export async function render(io: Io, log: Log, parsed: Parsed): Promise<number> {
  if (parsed.options.kind === runtimeClassName) return renderClasses(io, parsed);
  const system = systemOf(parsed.options);
  const { backend, layout } = engineOf(system, parsed.options);
  const { engineVersion } = parsed.options;
  const version =
    engineVersion === undefined
      ? undefined
      : supported(layout, parseVersion(engineVersion, parsed.options.given.get("engine-version")));
  const handlers = await handlersOf(io, parsed);

  const rendering = system.rendering(version);
  const own = handlers.find(({ name }) => system.defines.includes(name));
  if (own !== undefined) {
    throw new ShimctlError(
      "conflict",
      `Cannot define handler '${own.name}', as ${system.title} defines it, and pods without a handler may run by it`,
      {
        hint: `leave it out, or give it another name in a handler file: preset = "${own.preset ?? own.name}"`,
      },
    );
  }
  const { problems, needs } = understood(backend, layout, version, rendering.target, handlers);
  const toml = printable(
    handlers.flatMap((handler) => backend.render(handler, rendering.target) ?? []).join("\n"),
  );
  const about = [
    `${system.title}: ${namesOf(handlers)} for ${rendering.engines}`,
    `Made by shimctl render --for ${system.name}. Try it on one node before it goes to all of them.`,
  ];
  const text = `${heading(about, rendering.notes, needs)}\n${rendering.wrap(toml)}`;
  if (parsed.options.json) {
    io.out(
      document("render", "ok", undefined, {
        for: system.name,
        engine: system.engine,
        handlers,
        needs,
        warnings: problems.map(problemEntry),
        engineText: toml,
        text,
      }),
    );
    return 0;
  }
  for (const problem of problems) log.warn(problemText(problem));
  io.out(text);
  return 0;
}

/** The classes by which pods ask for handlers: the same for every engine, and wherever the runtime is installed. */
async function renderClasses(io: Io, parsed: Parsed): Promise<number> {
  const { given, json } = parsed.options;
  // A variable may be there for other commands.
  const unread = ["engine", "engine-version", "prefix", "snapshotter"].find(
    (name) => given.get(name) === `--${name}`,
  );
  if (unread !== undefined)
    throw new ShimctlError("usage", `Cannot use --${unread}, as a RuntimeClass says nothing of that`, {
      hint: "leave it out",
    });
  const handlers = await handlersOf(io, parsed);
  const about = [
    `Kubernetes (RuntimeClass): ${namesOf(handlers)}`,
    `Made by shimctl render --for ${runtimeClassName}.`,
  ];
  const classes = runtimeClasses(handlers);
  const text = `${heading(about, runtimeClassNotes(handlers), [])}\n${classes}`;
  io.out(
    json
      ? document("render", "ok", undefined, { for: runtimeClassName, handlers, warnings: [], text })
      : text,
  );
  return 0;
}

/** The handlers of the command line and the handler file, by their names. */
async function handlersOf({ signal }: Io, parsed: Parsed): Promise<Handler[]> {
  const { prefix, snapshotter } = parsed.options;
  const file = await handlerFile(parsed, signal);
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

function systemOf({ kind, given }: Options): ManagedSystem {
  const known = `known are ${documentNames.join(", ")}`;
  if (kind === undefined)
    throw new ShimctlError("usage", "Cannot render, as --for is missing", {
      hint: `write --for KIND; ${known}`,
    });
  const system = managedSystems.find(({ name }) => name === kind);
  if (system !== undefined) return system;
  throw new ShimctlError(
    "usage",
    `Cannot read ${given.get("for") ?? "--for"}, as no such system is known: ${shown(kind)}`,
    { hint: `${nearest(kind, documentNames)}${known}` },
  );
}

function engineOf(system: ManagedSystem, { engine, given }: Options): { backend: Backend; layout: Layout } {
  if (engine !== "auto" && engine !== system.engine) {
    throw new ShimctlError(
      "usage",
      `Cannot use ${given.get("engine") ?? "--engine"}, as ${system.title} runs ${system.engine}: ${engine}`,
      { hint: "leave it out" },
    );
  }
  const backend = backends.find(({ name }) => name === system.engine);
  const layout = layouts.find((each) => each.engine === system.engine);
  if (backend === undefined || layout === undefined)
    throw new ShimctlError("internal", `Cannot render for ${system.engine}`);
  return { backend, layout };
}

/**
 * What the engine's own rules say of these handlers on a node with nothing but its default handler, and what
 * they need there.
 * Throws what an install there would throw for them
 */
function understood(
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
function heading(about: readonly string[], notes: Notes, needs: readonly Need[]): string {
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

function namesOf(handlers: readonly Handler[]): string {
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
