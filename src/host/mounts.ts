import { readFileSync } from "node:fs";

/** One line of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
export interface Mount {
  /** Which folder of its file system it shows: `/` where it shows all. */
  readonly shows: string;
  readonly point: string;
  readonly type: string;
}

/**
 * Where something is mounted at a folder or below it, as this process sees it. Empty when that cannot be told.
 */
export function mountPointsWithin(folder: string): string[] {
  const mountinfo = readMountinfo();
  // Most paths are not in it at all: then no line needs to be taken apart.
  if (!mountinfo.includes(asWritten(folder))) return [];
  return parseMounts(mountinfo)
    .map(({ point }) => point)
    .filter((point) => isWithin(point, folder));
}

/** What is mounted at a folder itself, the last one on top. */
export function mountsAt(folder: string): Mount[] {
  return parseMounts(readMountinfo()).filter(({ point }) => point === folder);
}

/** Every mount of this process. */
export function allMounts(): Mount[] {
  return parseMounts(readMountinfo());
}

/**
 * Whether a path is one of the node's. A pod gets some folders of the node below one of its image's own: there, a path
 * that no mount holds is a path of the image, and what is not there may well be on the node. Where nothing is mounted
 * below the root it is a plain folder, and where something is mounted at it, all of the node is.
 *
 * @param points where something is mounted at the root or below it
 * @returns `undefined` where every path is the node's
 */
export function partsOf(root: string, points: readonly string[]): ((path: string) => boolean) | undefined {
  if (root === "/" || points.length === 0 || points.includes(root)) return undefined;
  return (path) => points.some((point) => isWithin(path, point));
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);
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
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split("\n").flatMap((line) => {
    const fields = line.split(" ");
    const [, , , shows, point] = fields;
    if (shows === undefined || point === undefined) return [];
    // Any number of optional fields, then a hyphen.
    const type = fields[fields.indexOf("-", 6) + 1] ?? "";
    return [{ shows: readable(shows), point: readable(point), type }];
  });
}

function readable(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(bytes, "latin1").toString("utf8");
}
