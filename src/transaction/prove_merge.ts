import type { EngineView } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import { benefitOfDoubt } from "../host/unmounted.ts";
import type { Environment } from "./environment.ts";
import { readEngine, withEdits } from "./gather.ts";

type Bytes = Uint8Array | null;

/**
 * Two edits that merge line by line may be nonsense together, as when both define one table. Only what the
 * engine can read, and what breaks no rule that was kept before, may take the place of a file that works.
 * Throws ShimctlError `conflict`
 *
 * @param theirs what is merged, where that may be a piece of an edit
 */
export function proveMerge(
  { host, backend, site }: Pick<Environment, "host" | "backend" | "site">,
  path: string,
  current: Bytes,
  merged: Bytes,
  theirs?: Uint8Array,
): void {
  const errorsOf = (view: EngineView) =>
    view
      .check(benefitOfDoubt(host))
      .filter((problem) => problem.severity === "error")
      .map(({ rule, handler, message }) => JSON.stringify([rule, handler, message]));
  const broken = (why: string, cause?: unknown) =>
    new ShimctlError("conflict", `Cannot merge two edits, as ${why}`, { path, cause });
  let added: string[];
  try {
    const { seen, view } = readEngine(host, backend, site);
    const readWith = (after: Bytes) => {
      const edit = { path, before: current, after, edit: () => after, bare: (bytes: Bytes) => bytes };
      return backend.read(site, withEdits(host, backend, site, seen, [edit]));
    };
    // What its own writer left unreadable is no edit, but a piece of one.
    if (theirs !== undefined) readWith(theirs);
    const before = new Set(errorsOf(view));
    added = errorsOf(readWith(merged)).filter((error) => !before.has(error));
  } catch (cause) {
    throw broken("the engine could not read one of them, or the result", cause);
  }
  if (added.length > 0) throw broken("the result would break a rule of the engine");
}
