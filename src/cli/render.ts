import type { Backend } from "../engine/backend.ts";
import { backends } from "../engine/registry.ts";
import { ShimctlError } from "../error.ts";
import { parseVersion, supported } from "../layout/detect.ts";
import type { Layout } from "../layout/layout.ts";
import { layouts } from "../layout/registry.ts";
import { manifestNames } from "../managed/manifests.ts";
import { documentNames, managedSystems } from "../managed/registry.ts";
import { runtimeClasses, runtimeClassName, runtimeClassNotes } from "../managed/runtime_class.ts";
import type { ManagedSystem } from "../managed/system.ts";
import { printable } from "../managed/yaml.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import { nearest, type Options, type Parsed, shown } from "./options.ts";
import { document, problemEntry, problemText } from "./output.ts";
import { fileOf, handlersOf, heading, namesOf, understood } from "./render_parts.ts";

/**
 * `render --for KIND HANDLER...`: a document that defines handlers where edits do not last, or the classes by which
 * pods ask for them. Reads no node.
 */
export async function render(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const manifest = manifestNames.find((name) => name === parsed.options.kind);
  if (manifest !== undefined)
    return (await import("./render_manifests.ts")).renderManifests(io, parsed, manifest);
  refuseForManifests(parsed.options);
  if (parsed.options.kind === runtimeClassName) return renderClasses(io, parsed);
  const system = systemOf(parsed.options);
  const { backend, layout } = engineOf(system, parsed.options);
  const { engineVersion } = parsed.options;
  const version =
    engineVersion === undefined
      ? undefined
      : supported(layout, parseVersion(engineVersion, parsed.options.given.get("engine-version")));
  const handlers = handlersOf(parsed, await fileOf(io, parsed));

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
  const handlers = handlersOf(parsed, await fileOf(io, parsed));
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

/** Options that only say something of a DaemonSet or a Job. A variable may be there for other commands. */
function refuseForManifests({ given }: Options): void {
  const unread = (["image", "layout", "node-name", "owner", "all"] as const).find(
    (name) => given.get(name) === `--${name}`,
  );
  if (unread === undefined) return;
  throw new ShimctlError("usage", `Cannot use --${unread}, as only ${manifestNames.join(" and ")} take it`, {
    hint: "leave it out",
  });
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
