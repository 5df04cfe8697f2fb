import type { EngineView, Holding } from "../engine/backend.ts";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";

/** A holding's handlers, resolved; null where nobody can tell, as it was edited or a newer release wrote it. */
export function definitionsOf(view: EngineView, { owner, handlers }: Holding): Handler[] | null {
  const names = new Set(handlers);
  try {
    return view.handlersOf(owner).filter(({ name }) => names.has(name));
  } catch (error) {
    if (error instanceof ShimctlError) return null;
    throw error;
  }
}
