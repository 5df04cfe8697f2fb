import { hostName } from "../host/holder.ts";
import type { Io } from "./io.ts";

/** Who runs this, for people: the user where one is known, and the host or pod. */
export function whoRuns({ env }: Io): string {
  const user = env["SUDO_USER"] || env["USER"];
  const host = env["POD_NAME"] || env["HOSTNAME"] || hostName();
  const name = user === undefined || user === "" ? host : `${user}@${host}`;
  return name.replace(/\p{Cc}/gu, "?").slice(0, 100);
}
