import type { Wanted } from "../host/unit_files.ts";
import { layouts } from "../layout/registry.ts";

/**
 * Every layout's, by the names that installers give their units: `k3s-edge.service`.
 * @param asked a unit of any other name that is meant
 */
export function wantedDaemons(asked?: string): Wanted {
  const stems = layouts.flatMap(({ unit, family }) => [
    unit.replace(/\.service$/, ""),
    ...(family === undefined ? [] : [family]),
  ]);
  return {
    units: [...new Set(stems)].map((stem) => `${stem}*.service`),
    asked,
    always: new Set(layouts.map(({ unit }) => unit)),
    isOne: (daemon) => layouts.some((layout) => layout.isDaemon(daemon)),
  };
}
