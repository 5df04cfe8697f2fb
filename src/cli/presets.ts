import { ShimctlError } from "../error.ts";
import { presets as all } from "../handler/presets/registry.ts";
import { needs, type ResolveFacts, resolvePreset } from "../handler/resolve.ts";
import { openHost } from "../host/root.ts";
import { presetFor } from "./handler_file.ts";
import type { Io } from "./io.ts";
import type { Parsed } from "./options.ts";
import { json, outputFormat } from "./output.ts";
import { table } from "./table.ts";

/** `presets [NAME]`: the handlers that shimctl knows, and what one of them would be on this host. */
export function presets(io: Io, parsed: Parsed): number {
  const [name, ...more] = parsed.args;
  if (more.length > 0) throw new ShimctlError("usage", "Cannot show more than one preset");
  const host = openHost(parsed.options.root);
  const facts: ResolveFacts = {
    prefix: parsed.options.prefix,
    snapshotter: parsed.options.snapshotter,
    exists: (path) => host.exists(path),
  };
  const chosen = name === undefined ? all : [presetFor(name)];
  const entries = chosen.map((preset) => {
    const handler = resolvePreset(preset, preset.name, facts);
    return {
      name: preset.name,
      summary: preset.summary,
      source: preset.source,
      handler,
      needs: needs(handler),
    };
  });
  if (parsed.options.json) {
    io.out(json({ format: outputFormat, command: "presets", presets: entries }));
    return 0;
  }
  if (name === undefined) {
    io.out(
      `${table([["PRESET", "RUNTIME TYPE", "WHAT IT IS"], ...entries.map((entry) => [entry.name, entry.handler.containerd.runtime_type, entry.summary])]).join("\n")}\n`,
    );
    return 0;
  }
  for (const entry of entries) {
    io.out(
      `${entry.name}: ${entry.summary}\n  source: ${entry.source}\n  needs: ${entry.needs.map((need) => need.paths.join(" or ")).join("; ") || "nothing"}\n${JSON.stringify(entry.handler, null, 2)}\n`,
    );
  }
  return 0;
}
