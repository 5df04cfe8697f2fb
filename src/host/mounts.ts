import { readFileSync } from "node:fs";

/**
 * Where something is mounted at a folder or below it, as this process sees it: field 5 of each line of
 * /proc/self/mountinfo (proc(5)). Empty when that file cannot be read.
 */
export function mountPointsWithin(folder: string): string[] {
  const mountinfo = readMountinfo();
  // Most paths are not in it at all: then no line needs to be taken apart.
  if (!mountinfo.includes(asWritten(folder))) return [];
  const below = folder === "/" ? "/" : `${folder}/`;
  return parseMountPoints(mountinfo).filter((point) => point === folder || point.startsWith(below));
}

let known: string | undefined;

/** Of this moment: several files are looked at in one go, and the kernel writes it anew for every reader. */
function readMountinfo(): string {
  if (known !== undefined) return known;
  try {
    known = readFileSync("/proc/self/mountinfo", "latin1");
  } catch {
    known = "";
  }
  queueMicrotask(() => {
    known = undefined;
  });
  return known;
}

function asWritten(path: string): string {
  if (/^[!-[\]-~]*$/.test(path)) return path;
  const octal = (character: string) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`;
  return Buffer.from(path)
    .toString("latin1")
    .replace(/[ \t\n\\]/g, octal);
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
