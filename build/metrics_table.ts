import { families } from "../src/metrics/prometheus.ts";

/** A page with its table of metrics made anew. Throws where there is none */
export function withTable(page: string): string {
  const start = page.indexOf(head);
  if (start < 0) throw new Error("there is no table of metrics on this page");
  const rows = families.map(
    ({ name, type, labels, absent = "", help }) =>
      `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(", ")} | ${absent} | ${help} |\n`,
  );
  const rest = page.slice(start + head.length).replace(/^(\|[^\n]*\n)*/, "");
  return page.slice(0, start) + head + rows.join("") + rest;
}

const head = "| metric | type | labels | absent | meaning |\n|---|---|---|---|---|\n";
