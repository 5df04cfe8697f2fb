/**
 * Reads a node's configuration files in a loop and prints one line for each reading that no engine could use:
 * torn, unparsable, or empty. The empty file is fine only where the node began with one.
 */
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { parse } from "smol-toml";

const [folder = "", seconds = "1"] = process.argv.slice(2);
const end = Date.now() + Number(seconds) * 1000;
let readings = 0;

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function names(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

while (Date.now() < end) {
  const dropIns = names(`${folder}/conf.d`).filter((name) => name.endsWith(".toml"));
  for (const path of [`${folder}/config.toml`, ...dropIns.map((name) => `${folder}/conf.d/${name}`)]) {
    const text = read(path);
    if (text === undefined) {
      if (path.endsWith("config.toml")) console.log("the root file was not there");
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
