import { rollingBack } from "../transaction/rollback.ts";
import { carryOut, incarnationOf } from "./change.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import type { Parsed } from "./options.ts";

/** `rollback [--to ID]`: the owner's last operation is taken back, or all after one. */
export function rollback(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const { to, allowMissing, retries } = parsed.options;
  return carryOut(io, log, parsed, "rollback", (_, owner) => {
    const incarnation = incarnationOf(parsed, io.now());
    return rollingBack({ owner, to, allowMissing, retries, incarnation });
  });
}
