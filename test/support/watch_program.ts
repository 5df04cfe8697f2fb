/** The command line with what no user may switch: another termination log, and looks that follow each other at once. */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { main } from "../../src/cli/main.ts";

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stop.abort(name));

const { SHIMCTL_TEST_TERMINATION_LOG: terminationLog, SHIMCTL_TEST_LOOK_DISTANCE_MS: distance } = process.env;

process.exitCode = await main(process.argv.slice(2), {
  out: (text) => writeFileSync(1, text),
  err: (text) => writeFileSync(2, text),
  env: process.env,
  outIsTerminal: false,
  errIsTerminal: false,
  signal: stop.signal,
  now: () => new Date(),
  watching: {
    ...(terminationLog === undefined ? {} : { terminationLog }),
    ...(distance === undefined ? {} : { distanceMs: Number(distance) }),
  },
});
