import { ShimctlError } from "../error.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import type { Parsed } from "./options.ts";

/** `watch`: installs, then keeps it so. */
export async function watch(_io: Io, _log: Log, _parsed: Parsed): Promise<number> {
  throw new ShimctlError("internal", "Cannot watch yet");
}
