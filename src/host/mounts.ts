import { readFileSync } from "node:fs";

/**
 * Where something is mounted, as this process sees it: field 5 of each line of /proc/self/mountinfo
 * (proc(5)). Empty when that file cannot be read.
 */
export function mountPoints(): string[] {
  try {
    return parseMountPoints(readFileSync("/proc/self/mountinfo", "latin1"));
  } catch {
    return [];
  }
}

/** The kernel writes space, tab, newline and backslash in octal: `\040`. Other bytes stand as they are. */
export function parseMountPoints(mountinfo: string): string[] {
  return mountinfo.split("\n").flatMap((line) => {
    const field = line.split(" ")[4];
    if (field === undefined) return [];
    const bytes = field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    return [Buffer.from(bytes, "latin1").toString("utf8")];
  });
}
