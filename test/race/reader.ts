/**
 * Reads the files that a node's engine loads in a loop, and prints one line for each reading that the engine could
 * not use: torn, unparsable, or empty; or an administrator's file that is not there.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { parse } from "smol-toml";
import { engineCases } from "../support/engine_case.ts";
import { loadedFiles } from "../support/node.ts";

const [root = "", name = "", seconds = "1"] = process.argv.slice(2);
const engineCase = engineCases.find((candidate) => candidate.name === name);
if (engineCase === undefined) throw new TypeError("usage: reader.ts ROOT CASE SECONDS");
const end = Date.now() + Number(seconds) * 1000;
let readings = 0;

function read(path: string): string | undefined {
  try {
    return readFileSync(root + path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

while (Date.now() < end) {
  for (const path of new Set([...Object.keys(engineCase.files), ...loadedFiles(root, engineCase)])) {
    const text = read(path);
    if (text === undefined) {
      if (engineCase.files[path] !== undefined) console.log(`${path} was not there`);
      continue;
    }
    readings++;
    if (text === "") console.log(`${path} was empty`);
    try {
      parse(text);
    } catch (error) {
      console.log(
        `${path} did not parse: ${String(error).split("\n")[0]}: ${JSON.stringify(text.slice(-80))}`,
      );
    }
  }
}
console.error(`${readings} readings`);
