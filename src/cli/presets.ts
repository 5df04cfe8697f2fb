import { backends } from "../engine/registry.ts";
import { ShimctlError } from "../error.ts";
import { allPresets } from "../handler/presets/registry.ts";
import { type ResolveFacts, resolvePreset } from "../handler/resolve.ts";
import { openHost } from "../host/root.ts";
import { presetFor } from "./handler_file.ts";
import type { Io } from "./io.ts";
import type { Parsed } from "./options.ts";
import { document } from "./output.ts";
import { table } from "./table.ts";

/** `presets [NAME]`: the handlers that shimctl knows, and what one of them would be on this host. */
export function presets(io: Io, parsed: Parsed): number {
  const [name, ...more] = parsed.args;
  if (more.length > 0) throw new ShimctlError("usage", "Cannot show more than one preset");
  const host = openHost(parsed.options.root, parsed.options.given.get("root"));
  const facts: ResolveFacts = {
    prefix: parsed.options.prefix,
    snapshotter: parsed.options.snapshotter,
    exists: (path) => host.exists(path),
  };
  const chosen = name === undefined ? allPresets() : [presetFor(name)];
  const entries = chosen.map((preset) => {
    const handler = resolvePreset(preset, preset.name, facts);
    const written = backends
      .map((backend) => [backend.name, backend.render(handler)] as const)
      .filter(([, text]) => text !== undefined);
    return {
      name: preset.name,
      summary: preset.summary,
      source: preset.source,
      handler,
      written: Object.fromEntries(written),
    };
  });
  if (parsed.options.json) {
    io.out(document("presets", "ok", undefined, { presets: entries }));
    return 0;
  }
  if (name === undefined) {
    const rows = entries.map((entry) => [entry.name, Object.keys(entry.written).join(", "), entry.summary]);
    io.out(`${table([["PRESET", "ENGINES", "WHAT IT IS"], ...rows]).join("\n")}\n`);
    return 0;
  }
  for (const entry of entries) {
    io.out(`${entry.name}: ${entry.summary}\nsource: ${entry.source}\n`);
    for (const [engine, text] of Object.entries(entry.written)) io.out(`\n# for ${engine}\n${text}`);
  }
  return 0;
}
