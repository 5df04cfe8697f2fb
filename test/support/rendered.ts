import { YAML } from "bun";

/** The systems whose documents hold an engine's text. */
export const kinds = ["talos", "nodeadm", "flatcar", "machineconfig"] as const;

export type Kind = (typeof kinds)[number];

/**
 * The engine's text in a rendered document, found as the system's own tools find it, by a YAML parser that has
 * nothing to do with what wrote it.
 */
export function engineTextIn(kind: Kind, text: string): string {
  const document: unknown = YAML.parse(text);
  if (kind !== "machineconfig") return String(valueAt(document, ...places[kind]));
  const source = String(valueAt(document, ...places[kind]));
  const [, base64] = /^data:text\/plain;charset=utf-8;base64,([A-Za-z0-9+/]+=*)$/.exec(source) ?? [];
  if (base64 === undefined) throw new Error(`no data URL: ${source}`);
  return Buffer.from(base64, "base64").toString("utf8");
}

const places: Readonly<Record<Kind, readonly string[]>> = {
  talos: ["machine", "files", "0", "content"],
  nodeadm: ["spec", "containerd", "config"],
  flatcar: ["storage", "files", "0", "contents", "inline"],
  machineconfig: ["spec", "config", "storage", "files", "0", "contents", "source"],
};

/** What stands at a place in a parsed document; list items by their number. */
export function valueAt(document: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (here, key) => (typeof here === "object" && here !== null ? Reflect.get(here, key) : undefined),
    document,
  );
}
