import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import process from "node:process";

// A program that edits a file as programs do that have never heard of a lock. It notes each line once it is written.
const [way, target, temp, name, notes, stop, mutex] = process.argv.slice(2);
if (
  way === undefined ||
  target === undefined ||
  temp === undefined ||
  name === undefined ||
  notes === undefined ||
  stop === undefined
) {
  throw new TypeError("usage: writer.ts rename|append TARGET TEMP NAME NOTES STOP [MUTEX]");
}
const cell = new Int32Array(new SharedArrayBuffer(4));
const pause = (ms: number) => Atomics.wait(cell, 0, 0, ms);
const between = (low: number, high: number) => low + Math.random() * (high - low);

const read = () => {
  try {
    return readFileSync(target, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  }
};
/** A commit stays 2 s for a program that has read a version of it. */
const staysMs = 2_000;
const rename = (line: string) => {
  for (;;) {
    const begin = performance.now();
    writeFileSync(temp, read() + line);
    // Where a busy machine took longer, nothing is promised to what was read.
    if (performance.now() - begin < staysMs / 2) break;
  }
  renameSync(temp, target);
};
const append = (line: string) => {
  const fd = openSync(target, "a");
  pause(between(0, 50));
  writeSync(fd, line);
  closeSync(fd);
};

const alone = (work: () => void) => {
  if (mutex === undefined) return work();
  for (;;) {
    try {
      mkdirSync(mutex);
      break;
    } catch {
      pause(0.5);
    }
  }
  try {
    work();
  } finally {
    rmdirSync(mutex);
  }
};

for (let count = 1; !existsSync(stop); count++) {
  const line = `# ${name} ${count}\n`;
  alone(() => (way === "rename" ? rename(line) : append(line)));
  appendFileSync(notes, line);
  pause(between(1, 5));
}
