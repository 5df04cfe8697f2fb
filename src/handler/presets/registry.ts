import type { Preset } from "../preset.ts";
import { crun } from "./crun.ts";
import { deislabs } from "./deislabs.ts";
import { firecracker } from "./firecracker.ts";
import { gvisor } from "./gvisor.ts";
import { findKata, kata } from "./kata.ts";
import { nvidia } from "./nvidia.ts";
import { runwasi } from "./runwasi.ts";
import { spin } from "./spin.ts";
import { sysbox } from "./sysbox.ts";
import { urunc } from "./urunc.ts";
import { youki } from "./youki.ts";

/** Every preset, in the order in which `shimctl presets` lists them. */
export function allPresets(): readonly Preset[] {
  return [...kata(), ...others];
}

const others: readonly Preset[] = [
  ...gvisor,
  ...crun,
  ...youki,
  ...nvidia,
  ...spin,
  ...runwasi,
  ...deislabs,
  ...sysbox,
  ...urunc,
  ...firecracker,
];

export function findPreset(name: string): Preset | undefined {
  return others.find((preset) => preset.name === name) ?? findKata(name);
}
