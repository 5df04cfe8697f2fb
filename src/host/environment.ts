import { readFileSync } from "node:fs";
import process from "node:process";

/**
 * The environment for a command of the user's: what this process was started with, and what it has set itself. Releases
 * take variables of their runtime (`BUN_*` …) out of their own environment before it starts (build/scrub.ts), but the
 * command may be a program that wants them. The kernel shows them as they were.
 */
export function environmentForCommands(): Record<string, string | undefined> {
  return { ...given(), ...process.env };
}

function given(): Record<string, string> {
  let text: string;
  try {
    text = readFileSync("/proc/self/environ", "utf8");
  } catch {
    return {};
  }
  const pairs = text.split("\0").flatMap((entry) => {
    const end = entry.indexOf("=");
    return end > 0 ? [[entry.slice(0, end), entry.slice(end + 1)] as const] : [];
  });
  return Object.fromEntries(pairs.reverse());
}
