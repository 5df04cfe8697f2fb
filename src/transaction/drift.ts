import type { EngineView, Unmarked } from "../engine/backend.ts";
import type { Handler } from "../handler/model.ts";
import { type AdoptedHandlers, type Owners, recordedByOthers } from "./record.ts";

/**
 * What happened to what an owner had installed: changed inside its markers, in a file that the engine does not read,
 * without its markers, gone, defined again by whom it was adopted from, or on disk and not served by an engine that
 * runs.
 */
export const causes = ["edited", "unread", "unmarked", "gone", "defined-again", "not-served"] as const;

export type Cause = (typeof causes)[number];

export interface Drift {
  readonly owner: string;
  readonly cause: Cause;
  /** Those that it is about. */
  readonly handlers: readonly string[];
  readonly message: string;
  readonly path?: string;
  readonly line?: number;
}

/** What an owner installed and what stands in one file without markers, as another program wrote that anew. */
export interface Bare {
  readonly owner: string;
  readonly path: string;
  readonly handlers: readonly string[];
}

/** What the owners installed and what stands without markers: nobody else's. */
export function unmarkedOn(owners: Owners, view: EngineView): Bare[] {
  return Object.entries(owners).flatMap(([owner, { adopted = {} }]) => {
    const found = [...unmarkedOf(view, installedBy(owners, owner), adopted)];
    const paths = [...new Set(found.flatMap(([, paths]) => paths))];
    return paths.map((path) => ({
      owner,
      path,
      handlers: found.filter(([, paths]) => paths.includes(path)).map(([name]) => name),
    }));
  });
}

/** Of what an owner has installed. Where it had taken over what others had, they have it again. */
export function unmarkedOf(
  { unmarked }: EngineView,
  installed: readonly Handler[],
  adopted: AdoptedHandlers,
): Unmarked {
  const isAgain = (name: string, path: string) =>
    Object.hasOwn(adopted, name) &&
    adopted[name]?.some((from) => from.owner === undefined && from.path === path) === true;
  const found = [...unmarked(installed)].map(
    ([name, paths]) => [name, paths.filter((path) => !isAgain(name, path))] as const,
  );
  return new Map(found.filter(([, paths]) => paths.length > 0));
}

/** What the owner has installed, without what another one has by now. */
function installedBy(owners: Owners, owner: string): Handler[] {
  const others = recordedByOthers(owners, owner);
  return Object.values(owners[owner]?.handlers ?? {}).filter(
    ({ name }) => others.get(name)?.isLater !== true,
  );
}

/** What the record says of one configuration beside what the files say. */
export function holdingsDrift(owners: Owners, view: EngineView): Drift[] {
  const { state: engine } = view;
  const drift: Drift[] = [];
  for (const holding of engine.holdings) {
    const { owner, path, line, handlers } = holding;
    const at = { owner, handlers, path, line };
    if (!holding.intact) drift.push({ ...at, cause: "edited", message: "somebody edited inside the block" });
    if (!holding.loaded)
      drift.push({ ...at, cause: "unread", message: "the engine does not read this file" });
  }
  for (const [owner, entry] of Object.entries(owners)) {
    const held = engine.holdings
      .filter((holding) => holding.owner === owner)
      .flatMap((holding) => holding.handlers);
    const bare = unmarkedOf(view, installedBy(owners, owner), entry.adopted ?? {});
    for (const [name, paths] of bare)
      for (const path of paths)
        drift.push({
          owner,
          cause: "unmarked",
          handlers: [name],
          message: `'${name}' stands here without its markers, as another program wrote this file: the next change mends that`,
          path,
        });
    const gone = Object.keys(entry.handlers).filter((name) => !held.includes(name) && !bare.has(name));
    if (gone.length > 0)
      drift.push({
        owner,
        cause: "gone",
        handlers: gone,
        message: `installed before and gone since: ${gone.join(", ")}`,
      });
    for (const { name, path, line } of engine.foreign) {
      if (entry.adopted?.[name]?.some((from) => from.path === path) !== true) continue;
      drift.push({
        owner,
        cause: "defined-again",
        handlers: [name],
        message: `'${name}' was adopted from this file and is defined there again`,
        path,
        ...(line === undefined ? {} : { line }),
      });
    }
  }
  return drift;
}
