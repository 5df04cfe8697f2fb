import { readFileSync } from "node:fs";
import { arch, cpus, loadavg, release, totalmem } from "node:os";
import process from "node:process";

/** The machine in a sentence: without it no number means anything. */
export function describeMachine(): string {
  const processors = cpus();
  const model = processors[0]?.model.trim() ?? "an unknown processor";
  const gib = Math.round(totalmem() / 2 ** 30);
  return `${processors.length} × ${model} (${arch()}), ${gib} GiB, Linux ${release()}, ${distribution()}, Bun ${process.versions["bun"] ?? ""}; load average before the run ${(loadavg()[0] ?? 0).toFixed(1)}.`;
}

function distribution(): string {
  try {
    return /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "";
  } catch {
    return "an unknown distribution";
  }
}
