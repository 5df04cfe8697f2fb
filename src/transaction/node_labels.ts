import { type NodeLabel, type NodeRecord, rootOf, withRoot } from "./record.ts";

/** The labels that owners of one configuration have set on the Kubernetes node. */
export function labelsIn(record: NodeRecord, rootFile: string): readonly NodeLabel[] {
  return rootOf(record, rootFile).labels ?? [];
}

/** Those of every configuration: they are all on one machine. */
export function allLabels({ roots }: NodeRecord): readonly NodeLabel[] {
  return Object.values(roots).flatMap(({ labels = [] }) => labels);
}

/** The record with exactly these labels for one configuration. */
export function withLabels(record: NodeRecord, rootFile: string, labels: readonly NodeLabel[]): NodeRecord {
  const { labels: _, ...rest } = rootOf(record, rootFile);
  const root = labels.length === 0 ? rest : { ...rest, labels: [...labels] };
  const { pending } = root;
  return withRoot({ ...record, roots: { ...record.roots, [rootFile]: root } }, rootFile, {
    ...root,
    pending,
  });
}

/** Set, and not to be gone. */
export function isLive({ pending }: NodeLabel): boolean {
  return pending === undefined;
}

export function isSameLabel(one: NodeLabel, other: Pick<NodeLabel, "node" | "key" | "value">): boolean {
  return one.node === other.node && one.key === other.key && one.value === other.value;
}
