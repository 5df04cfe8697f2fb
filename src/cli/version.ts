import process from "node:process";
import packageJson from "../../package.json" with { type: "json" };
import type { Io } from "./io.ts";
import type { Parsed } from "./options.ts";
import { document } from "./output.ts";

/** `version`: this release, and what it runs on. */
export function version(io: Io, parsed: Parsed): number {
  const bun = process.versions["bun"];
  const runtime = bun === undefined ? `deno ${process.versions["deno"] ?? ""}` : `bun ${bun}`;
  if (parsed.options.json)
    io.out(
      document("version", "ok", undefined, {
        version: packageJson.version,
        runtime,
        platform: `${process.platform}-${process.arch}`,
      }),
    );
  else io.out(`shimctl ${packageJson.version} (${runtime}, ${process.platform}-${process.arch})\n`);
  return 0;
}
