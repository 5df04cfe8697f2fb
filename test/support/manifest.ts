import { parseAllDocuments } from "yaml";

/** What is read of a manifest: a mapping whose keys are all accounted for, so that nothing in it goes unnoticed. */
export type Mapping = Readonly<Record<string, unknown>>;

/** The documents of a rendered file, by kind. Throws for YAML that is not clean. */
export function documentsOf(text: string): Mapping[] {
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents)) throw new Error("no documents");
  return documents.map((document) => {
    const problem = [...document.errors, ...document.warnings][0];
    if (problem !== undefined) throw problem;
    return mapping(document.toJS());
  });
}

export function mapping(value: unknown): Mapping {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`no mapping: ${JSON.stringify(value)}`);
  return value as Mapping;
}

export function optional(value: unknown): Mapping {
  return value === undefined ? {} : mapping(value);
}

export function list(value: unknown): Mapping[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new Error(`no list: ${JSON.stringify(value)}`);
  return value.map(mapping);
}

export function text(value: unknown): string {
  if (typeof value !== "string") throw new Error(`no text: ${JSON.stringify(value)}`);
  return value;
}

export function texts(value: unknown): string[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new Error(`no list: ${JSON.stringify(value)}`);
  return value.map(text);
}

/** Throws for a key that nobody has thought of: a test that passes over one would claim too much. */
export function only(value: Mapping, ...keys: readonly string[]): Mapping {
  const unknown = Object.keys(value).filter((key) => !keys.includes(key));
  if (unknown.length > 0) throw new Error(`not known to this kubelet: ${unknown.join(", ")}`);
  return value;
}
