import type { NodeRecord } from "../transaction/record.ts";
import type { Parsed } from "./options.ts";

/**
 * Whose handlers there are, where nobody named an owner and the usual one has none: pods ask as another owner than
 * people do, who would take what was done for more than it was.
 */
export function otherOwners(
  { options }: Parsed,
  owner: string,
  record: NodeRecord,
  rootFile?: string,
): string | undefined {
  if (options.given.has("owner")) return undefined;
  const roots = Object.entries(record.roots).filter(([path]) => rootFile === undefined || path === rootFile);
  const found = roots.flatMap(([, { owners }]) =>
    Object.entries(owners).flatMap(([name, { handlers }]) =>
      Object.keys(handlers).length > 0 ? [name] : [],
    ),
  );
  const others = [...new Set(found)].sort();
  if (others.length === 0 || others.includes(owner)) return undefined;
  const named = others.map((name) => `--owner ${name}`).join(", ");
  return `owner '${owner}' has no handlers on this node, and others have: ${named}`;
}
