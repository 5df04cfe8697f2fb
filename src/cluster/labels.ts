/** A label that somebody asked for. */
export interface Label {
  readonly key: string;
  readonly value: string;
}

/** A taint that shall go; without an effect, whatever its effect. */
export interface TaintName {
  readonly key: string;
  readonly effect?: string;
}

/** Effects of taints. https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/ */
const effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/**
 * Reads `KEY=VALUE,...` by Kubernetes' rules for labels
 * (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set).
 *
 * @returns the labels, or why it cannot be read, in words that follow "as"
 */
export function parseLabels(text: string): readonly Label[] | string {
  const labels: Label[] = [];
  for (const part of text.split(",")) {
    const [, key, value] = /^([^=]*)=(.*)$/su.exec(part) ?? [];
    if (key === undefined || value === undefined) return "a label must be KEY=VALUE";
    if (!isKey(key)) return `a key ${keyRule}`;
    if (!isValue(value))
      return "a value must be empty, or at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
    if (labels.some((label) => label.key === key)) return "a key stands there twice";
    labels.push({ key, value });
  }
  return labels;
}

/** Reads `KEY[:EFFECT],...`. @returns the taints, or why it cannot be read, in words that follow "as" */
export function parseTaints(text: string): readonly TaintName[] | string {
  const taints: TaintName[] = [];
  for (const part of text.split(",")) {
    const [key = "", effect, ...rest] = part.split(":");
    if (!isKey(key)) return `a key ${keyRule}`;
    if (rest.length > 0 || (effect !== undefined && !effects.includes(effect)))
      return `an effect must be ${effects.slice(0, -1).join(", ")} or ${effects.at(-1) ?? ""}`;
    taints.push(effect === undefined ? { key } : { key, effect });
  }
  return taints;
}

/** Whether a Kubernetes node can have that name: a DNS subdomain. */
export function isNodeName(name: string): boolean {
  return isSubdomain(name);
}

const keyRule =
  "must be a name of at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, after a DNS name and '/' or alone";

function isKey(key: string): boolean {
  const parts = key.split("/");
  const name = parts.pop() ?? "";
  const [prefix] = parts;
  return parts.length <= 1 && (prefix === undefined || isSubdomain(prefix)) && name !== "" && isValue(name);
}

function isValue(value: string): boolean {
  return value.length <= 63 && /^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$/.test(value);
}

function isSubdomain(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/.test(text);
}
