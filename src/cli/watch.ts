import { ShimctlError } from "../error.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import type { Parsed } from "./options.ts";

/** `watch`: installs, then keeps it so. */
export async function watch(io: Io, log: Log, parsed: Parsed): Promise<number> {
  if (parsed.options.once) return (await import("./look.ts")).watchOnce(io, log, parsed);
  if (parsed.options.dryRun) {
    throw new ShimctlError("usage", "Cannot use --dry-run without --once", {
      hint: "watch --once --dry-run shows what a look would do",
    });
  }
  return (await import("../watch/holder.ts")).holdNode(io, log, parsed);
}
