import type { Site } from "./backend.ts";

/**
 * Who writes this file anew at each start, so that no edit of it makes sense; `undefined` where nobody does.
 * @param text what it holds: without its mark it is the administrator's
 */
export function renderedBy({ rootFile, source }: Site, path: string, text: string): string | undefined {
  if (source === undefined || source.kind === "template") return undefined;
  if (source.kind === "merged" && path === source.into) return source.by;
  if (path !== rootFile) return undefined;
  return source.mark === undefined || text.trimStart().startsWith(source.mark) ? source.by : undefined;
}
