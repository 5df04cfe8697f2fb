import type { Preset } from "../preset.ts";
import { crun } from "./crun.ts";
import { gvisor } from "./gvisor.ts";
import { kata } from "./kata.ts";
import { nvidia } from "./nvidia.ts";

/** Every preset, in the order in which `shimctl presets` lists them. */
export const presets: readonly Preset[] = [...kata, ...gvisor, ...crun, ...nvidia];

export function findPreset(name: string): Preset | undefined {
  return presets.find((preset) => preset.name === name);
}
