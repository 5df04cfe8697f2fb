import { readFileSync, writeFileSync } from "node:fs";

const [begin, end] = ["<!-- bench: written by `npm run bench` -->", "<!-- bench: end -->"];

/** Puts text between the README's two marks, so that what it quotes is what was measured last. */
export function quoteInReadme(path: string, text: string): void {
  const readme = readFileSync(path, "utf8");
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has no place for what was measured: ${begin}`);
  writeFileSync(path, `${readme.slice(0, from + begin.length)}\n${text}\n${readme.slice(to)}`);
}
