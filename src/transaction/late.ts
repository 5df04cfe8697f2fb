import { ShimctlError } from "../error.ts";
import type { Late } from "./commit.ts";

/** How often those who come while others are merged are merged in turn. */
const rounds = 5;

export interface LateMerges {
  /** The files that hold what somebody wrote late. */
  readonly paths: readonly string[];
  /** Why something could not be merged; one is no reason not to merge the others. */
  readonly failures: readonly unknown[];
}

/** Merges what programs wrote that came late. Never throws. @param isUndone whether the edits were taken back since */
export async function mergeLate(lates: readonly Late[], isUndone = false): Promise<LateMerges> {
  const paths = new Set<string>();
  const failures: unknown[] = [];
  let came = true;
  for (let round = 0; came && round < rounds; round++) {
    came = false;
    for (const late of lates) {
      try {
        if (!(await late.merge(isUndone))) continue;
        paths.add(late.path);
        came = true;
      } catch (error) {
        failures.push(error);
      }
    }
  }
  return { paths: [...paths], failures };
}

/** Whether that is all that becomes of it: what conflicts is kept aside. Else a temporary file may be left. */
export function isSettled(failure: unknown): boolean {
  return failure instanceof ShimctlError && failure.code === "conflict";
}

/** What became of them, in words for people. */
export function lateWords({ paths, failures }: LateMerges): string[] {
  return [
    ...paths.map((path) => `merged an edit of another program back into ${path}`),
    ...failures.map((error) => {
      if (!(error instanceof ShimctlError)) return error instanceof Error ? error.message : String(error);
      const { path, state } = error.facts;
      return `${path === undefined ? "" : `${path}: `}${error.message}${state === undefined ? "" : `: ${state}`}`;
    }),
  ];
}
