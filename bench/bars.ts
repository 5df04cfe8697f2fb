import type { CaseId } from "./cases.ts";
import type { Scale } from "./scale.ts";
import { median } from "./statistics.ts";
import type { Times } from "./times.ts";

/** What a release must keep to; measured, never asserted by a test. */
export interface Bar {
  readonly what: string;
  readonly most: number;
  /** `undefined` where it could not be measured. */
  readonly measured: number | undefined;
  readonly unit: string;
}

export function bars(times: Times, scale: Scale | undefined, limitKib: number | undefined): Bar[] {
  const wall = (id: CaseId) => median((times.get(id) ?? []).map(({ wallMs }) => wallMs));
  const against = (what: string, id: CaseId, base: CaseId, most: number): Bar => {
    const measured = times.has(id) && times.has(base) ? wall(id) / wall(base) : undefined;
    return { what, most, measured, unit: "×" };
  };
  const [together, inTurn] = scale?.processes ?? [];
  const most = together?.points.at(-1);
  const same = inTurn?.points.at(-1);
  return [
    against("`version` by an empty Bun executable", "version", "empty", 2),
    against("`install` of one handler by nvidia-ctk's same edit", "install", "nvidia", 2.5),
    against("`install` of 20 Kata handlers by that of one", "install20", "install", 1.3),
    against("`install` with nothing to do by `status`", "noop", "status", 1.1),
    {
      what: "the least memory in which an `install` succeeds, without swap",
      most: 16,
      measured: limitKib === undefined ? undefined : limitKib / 1024,
      unit: "MiB",
    },
    {
      what: `${most?.[0] ?? 128} installs at once by the same one after another`,
      most: 1.5,
      measured: most === undefined || same === undefined ? undefined : most[1] / same[1],
      unit: "×",
    },
  ];
}

export function verdict({ measured, most }: Bar): string {
  if (measured === undefined) return "not measured";
  return measured <= most ? "holds" : "missed";
}
