import type { NodeObject, PatchOperation } from "../host/kubernetes/client.ts";
import type { Label, TaintName } from "./labels.ts";

/** What shall be so of a Kubernetes node. */
export interface Wanted {
  readonly set: readonly Label[];
  /** Removed only where they have these values: with another one they are somebody else's. */
  readonly remove: readonly Label[];
  readonly untaint: readonly TaintName[];
}

/**
 * The smallest JSON Patch that makes it so, empty where it is so: one operation for each key, never the whole map
 * of labels, and a test that the node is still the one that was read, so that nothing of others is lost.
 */
export function patchFor({ metadata, spec }: NodeObject, { set, remove, untaint }: Wanted): PatchOperation[] {
  const labels = metadata.labels ?? {};
  const valueAt = (key: string) => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  const operations: PatchOperation[] = [];
  const missing = set.filter(({ key, value }) => valueAt(key) !== value);
  if (metadata.labels === undefined && missing.length > 0)
    operations.push({ op: "add", path: "/metadata/labels", value: {} });
  for (const { key, value } of missing) operations.push({ op: "add", path: labelPath(key), value });
  for (const { key, value } of remove)
    if (valueAt(key) === value) operations.push({ op: "remove", path: labelPath(key) });
  const taints = spec?.taints ?? [];
  // From the end: each removal moves those after it.
  for (const [index, taint] of [...taints.entries()].reverse()) {
    if (!isMeant(taint, untaint)) continue;
    const path = `/spec/taints/${index}`;
    operations.push({ op: "test", path, value: taint }, { op: "remove", path });
  }
  if (operations.length === 0) return [];
  return [{ op: "test", path: "/metadata/resourceVersion", value: metadata.resourceVersion }, ...operations];
}

/** Whether a taint is one of those that shall go. */
export function isMeant(
  taint: { readonly key: string; readonly effect: string },
  untaint: readonly TaintName[],
): boolean {
  return untaint.some(({ key, effect }) => key === taint.key && (effect ?? taint.effect) === taint.effect);
}

function labelPath(key: string): string {
  return `/metadata/labels/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;
}
