/**
 * A program that takes no lock and adds numbered comments to a file: `rename` reads, appends, and renames its own
 * copy over the file; `append` opens the file for appending, holds it open, and writes. Prints how many it added.
 * With `mutex` as a third way to run, two of them take turns by a private lock of their own.
 */
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const [path = "", way = "", seconds = "1", mutex = ""] = process.argv.slice(2);
const end = Date.now() + Number(seconds) * 1000;
let count = 0;

async function takeTurn(): Promise<void> {
  for (; mutex !== ""; ) {
    try {
      return mkdirSync(mutex);
    } catch {
      await sleep(1);
    }
  }
}

while (Date.now() < end) {
  await takeTurn();
  const line = `# ${way} ${count}\n`;
  if (way === "rename") {
    const temp = `${path}.${way}.${process.pid}`;
    writeFileSync(temp, readFileSync(path, "utf8") + line);
    renameSync(temp, path);
  } else {
    const fd = openSync(path, "a");
    await sleep(Math.random() * 50);
    writeSync(fd, line);
    closeSync(fd);
  }
  count++;
  if (mutex !== "") rmdirSync(mutex);
  await sleep(1 + Math.random() * 4);
}
appendFileSync(1, `${count}\n`);
