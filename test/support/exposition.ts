/** One line of metrics that says something. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const name = /[a-zA-Z_:][a-zA-Z0-9_:]*/.source;
const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/.source;
const number = /-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN/i.source;
const helpLine = new RegExp(`^# HELP (${name}) ((?:[^\\\\]|\\\\[\\\\n])*)$`);
const typeLine = new RegExp(`^# TYPE (${name}) (counter|gauge)$`);
const sampleLine = new RegExp(`^(${name})(?:\\{(${label}(?:,${label})*)\\})? (${number})$`);

/**
 * Reads Prometheus' text format 0.0.4 as strictly as its grammar is, without our own code or the library that writes
 * it. Throws on whatever a server would drop: a family twice, a sample twice or before its type, a last line without
 * its end.
 */
export function parseExposition(text: string): Family[] {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const families: (Omit<Family, "samples"> & { samples: Sample[] })[] = [];
  let help: readonly [name: string, text: string] | undefined;
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, helpOf, words] = helpLine.exec(line) ?? [];
    if (helpOf !== undefined && words !== undefined) {
      if (words === "") throw new Error(`no help: ${line}`);
      help = [helpOf, words];
      continue;
    }
    const [, typeOf, type] = typeLine.exec(line) ?? [];
    if (typeOf !== undefined && type !== undefined) {
      if (help?.[0] !== typeOf) throw new Error(`a type without its help: ${line}`);
      if (families.some((each) => each.name === typeOf)) throw new Error(`a family twice: ${line}`);
      families.push({ name: typeOf, type, help: help[1], samples: [] });
      continue;
    }
    const found = sampleLine.exec(line);
    const [, sampleOf, labels = ""] = found ?? [];
    const value = found?.at(-1);
    const family = families.at(-1);
    if (sampleOf === undefined || value === undefined) throw new Error(`not of the format: ${line}`);
    if (family?.name !== sampleOf) throw new Error(`a sample of another family: ${line}`);
    const pairs = [...labels.matchAll(new RegExp(label, "g"))].map(([, key = "", escaped = ""]) => [
      key,
      escaped.replace(/\\(.)/g, (_, one: string) => (one === "n" ? "\n" : one)),
    ]);
    const sample = { name: sampleOf, labels: Object.fromEntries(pairs), value: Number(value) };
    if (Object.keys(sample.labels).length !== pairs.length) throw new Error(`a label twice: ${line}`);
    if (family.samples.some((each) => JSON.stringify(each.labels) === JSON.stringify(sample.labels)))
      throw new Error(`a sample twice: ${line}`);
    family.samples.push(sample);
  }
  return families;
}

/** The value of one sample; `undefined` where there is none. */
export function sampleValue(
  text: string,
  family: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const found = parseExposition(text).find((each) => each.name === family);
  return found?.samples.find((sample) =>
    Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  )?.value;
}
