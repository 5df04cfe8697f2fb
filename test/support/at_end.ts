import process from "node:process";

const work: (() => void)[] = [];

/** Lets something be done when all tests of this process are over, or the program that uses this is. Once. */
export function atEnd(done: () => void): void {
  work.push(done);
}

/** Harmless when repeated. */
export function end(): void {
  for (const done of work.splice(0)) done();
}

// Not for tests: bun test ends without it.
process.on("exit", end);
